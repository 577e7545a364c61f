"""Find the elements of a Lie algebra that brackets of other elements make, and that add nothing to an invariance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from affinet.language.calculus.terms import Floats
from affinet.language.groups.actions import as_sparse
from affinet.language.groups.elements import Generator

MOST = 16
"""The largest dimension of the span that is built; an element outside that span counts as needed."""
DEEPEST = 3
"""The deepest nesting of brackets that is computed: one of that depth costs up to 16 products with a matrix."""
SAME = 1e-13
"""The share of an element outside the span that counts as rounding: an element with a larger share is needed."""

CLEAR = 1e-2
"""The share outside the span from which on an element is added to it. Brackets of rounded elements have errors of
rounding size; if these errors were added to the span, their brackets would soon span all matrices."""

Word: TypeAlias = "int | tuple[Word, Word]"


def generating_subset(sides: Sequence[Sequence[Generator]]) -> list[int]:
    """Numbers of elements, in rising order, whose brackets and linear combinations make all the others.

    `sides[s][k]` is the action of element k on space s; brackets are taken on all spaces at once.
    Elements are compared by their images of MOST + 1 random vectors. These distinguish all elements of a span of MOST
    dimensions except for a null set of draws: that `X V = 0` for some X of a d-dimensional span has codimension
    m - d + 1 among the V of m columns.
    """
    count = len(sides[0])
    if count < 3:
        return list(range(count))
    rng = np.random.default_rng([20_026, count])
    vectors = [rng.uniform(-1.0, 1.0, (side[0].size, MOST + 1)) for side in sides]
    algebra = _Algebra([[as_sparse(element) for element in side] for side in sides], vectors)
    return [k for k in range(count) if algebra.extend(k)] or [
        0
    ]  # of zeros alone one is kept, since a rule needs an equation


@dataclass(eq=False)
class _Algebra:
    """The span of elements and their brackets while it grows; local to `needed`."""

    matrices: list[list[Floats]]
    vectors: list[Floats]
    members: list[Word] = field(default_factory=list)
    directions: list[Floats] = field(default_factory=list)

    def extend(self, element: int) -> bool:
        """Add an element and its brackets to the span; False where the element was in the span already."""
        share = self._take(element)
        pending = self._brackets(element, share)
        while pending and len(self.members) < MOST:
            bracket = pending.pop(0)
            pending += self._brackets(bracket, self._take(bracket))
        return share > SAME

    def _brackets(self, word: Word, share: float) -> list[Word]:
        """The brackets of a word that was just added with the members before it."""
        return [(word, other) for other in self.members[:-1]] if share > CLEAR and _depth(word) < DEEPEST else []

    def _take(self, word: Word) -> float:
        """The share of a word that lies outside the span; where the share is clear, the word is added to the span."""
        image, scale = self._image(word)
        size = float(np.linalg.norm(image))
        if size <= CLEAR * scale:  # elements that commute, but for rounding
            return 0.0
        for _ in range(2):
            for direction in self.directions:
                image = image - (direction @ image) * direction
        outside = float(np.linalg.norm(image))
        if outside > CLEAR * size and len(self.members) < MOST:
            self.members.append(word)
            self.directions.append(image / outside)
        return outside / size

    def _image(self, word: Word) -> tuple[Floats, float]:
        """The images of all vectors under a word, end to end, and the size of the products that a bracket subtracts."""
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
