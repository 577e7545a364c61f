"""Elements of a Lie algebra that brackets of others make: what is invariant under the others is so under these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from affinet.language.calculus.terms import Floats
from affinet.language.groups.actions import as_sparse
from affinet.language.groups.elements import Generator

MOST = 16
"""Elements of the algebra that are followed; what is not among their combinations is kept."""
DEEPEST = 3
"""Brackets within brackets that are followed: one of that depth costs eight products with a matrix, or 16."""
SAME = 1e-13
"""The share of an element that is rounding: one that is off the combinations of others by more is kept."""

CLEAR = 1e-2
"""The share from which on an element joins the span. Rounded elements make brackets that are off by rounding, and
these in turn all matrices: what follows in that way follows with no digits."""

Word: TypeAlias = "int | tuple[Word, Word]"


def needed(sides: Sequence[Sequence[Generator]]) -> list[int]:
    """Numbers of the elements, rising, whose brackets and combinations make the others.

    `sides[s][k]` is how element k acts on space s; a bracket acts on all of them alike, so that it is one that counts.
    Elements are told apart by what they make of as many random vectors as there are elements, which tells apart all of
    a space of so many dimensions but for a null set of draws: that `X V = 0` for some X of a d-dimensional space has
    codimension m - d + 1 among the V of m columns.
    """
    count = len(sides[0])
    if count < 3:
        return list(range(count))
    draw = np.random.default_rng([20_026, count])
    vectors = [draw.uniform(-1.0, 1.0, (side[0].size, MOST + 1)) for side in sides]
    algebra = _Algebra([[as_sparse(element) for element in side] for side in sides], vectors)
    return [k for k in range(count) if algebra.grown(k)] or [0]  # zeros say nothing, and a rule says something


@dataclass(eq=False)
class _Algebra:
    """The span of elements and their brackets while it grows; local to `needed`."""

    matrices: list[list[Floats]]
    vectors: list[Floats]
    words: list[Word] = field(default_factory=list)
    basis: list[Floats] = field(default_factory=list)

    def grown(self, element: int) -> bool:
        """Take an element in, with the brackets that it makes; False where it is in the span already."""
        share = self._take(element)
        waiting = self._brackets(element, share)
        while waiting and len(self.words) < MOST:
            bracket = waiting.pop(0)
            waiting += self._brackets(bracket, self._take(bracket))
        return share > SAME

    def _brackets(self, word: Word, share: float) -> list[Word]:
        """Those of a word that was taken in with the words before it."""
        return [(word, other) for other in self.words[:-1]] if share > CLEAR and _depth(word) < DEEPEST else []

    def _take(self, word: Word) -> float:
        """The share of a word that is outside of the span, which then has it too where that is clear."""
        image, scale = self._image(word)
        size = float(np.linalg.norm(image))
        if size <= CLEAR * scale:  # elements that commute, but for rounding
            return 0.0
        for _ in range(2):
            for direction in self.basis:
                image = image - (direction @ image) * direction
        left = float(np.linalg.norm(image))
        if left > CLEAR * size and len(self.words) < MOST:
            self.words.append(word)
            self.basis.append(image / left)
        return left / size

    def _image(self, word: Word) -> tuple[Floats, float]:
        """What a word makes of all vectors, end to end, and the size of the products that a bracket is left of."""
        sides = range(len(self.vectors))
        if isinstance(word, int):
            return np.concatenate([self._applied(word, k, self.vectors[k]).ravel() for k in sides]), 0.0
        products = [
            np.concatenate([self._applied(a, k, self._applied(b, k, self.vectors[k])).ravel() for k in sides])
            for a, b in (word, word[::-1])
        ]
        return products[0] - products[1], float(np.linalg.norm(products[0]) + np.linalg.norm(products[1]))

    def _applied(self, word: Word, side: int, vectors: Floats) -> Floats:
        if isinstance(word, int):
            return np.asarray(self.matrices[side][word] @ vectors)
        a, b = word
        first = self._applied(a, side, self._applied(b, side, vectors))
        return np.asarray(first - self._applied(b, side, self._applied(a, side, vectors)))


def _depth(word: Word) -> int:
    return 0 if isinstance(word, int) else 1 + max(_depth(word[0]), _depth(word[1]))
