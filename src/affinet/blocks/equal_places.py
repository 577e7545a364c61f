"""Finds entries that a bordered block forces to be equal, opposite or constant, so that kernels set them exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from affinet.blocks.block import Base
from affinet.language.calculus.terms import Floats, Integers


@dataclass(frozen=True, eq=False)
class Equal:
    """Places of constant entries with their values, and (member, representative, sign) of equal or opposite entries."""

    pinned: Integers
    values: Floats
    copies: Integers


@dataclass(eq=False)
class _Classes:
    """Signed union-find over the few places in the equations; local to `equal_places`."""

    root: dict[int, tuple[int, float]] = field(default_factory=dict)
    members: dict[int, list[int]] = field(default_factory=dict)
    value: dict[int, float] = field(default_factory=dict)

    def of(self, place: int) -> tuple[int, float]:
        if place not in self.root:
            self.root[place], self.members[place] = (place, 1.0), [place]
        return self.root[place]

    def join(self, a: int, b: int, sign: float) -> None:
        """`x_a == sign x_b`."""
        (r, s), (q, t) = self.of(a), self.of(b)
        if r == q:
            return
        if len(self.members[r]) < len(self.members[q]):
            (r, s), (q, t) = (q, t), (r, s)
        for member in self.members[q]:
            self.root[member] = (r, self.root[member][1] * t * sign * s)
        self.members[r] += self.members.pop(q)
        if q in self.value:
            self.value.setdefault(r, self.value.pop(q) * t * sign * s)

    def pin(self, place: int, value: float) -> None:
        root, sign = self.of(place)
        self.value.setdefault(root, sign * value)


def equal_places(bases: Sequence[Base], matrix: sparse.csr_array, rhs: Floats) -> Equal:
    """Equal and constant places, from equations with one entry or two of equal size, and from copies in the bases."""
    classes, first = _Classes(), np.cumsum([0, *(base.entries.count for base in bases)])
    for row in np.flatnonzero(np.diff(matrix.indptr) <= 2):
        places = matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]].tolist()
        numbers = matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]].tolist()
        if len(places) == 1:
            classes.pin(places[0], float(rhs[row]) / numbers[0])
        elif rhs[row] == 0.0 and abs(numbers[0]) == abs(numbers[1]):
            classes.join(places[0], places[1], -1.0 if numbers[0] == numbers[1] else 1.0)
    unvisited = list(classes.root)
    while unvisited:
        place = unvisited.pop()
        k = int(np.searchsorted(first, place, side="right")) - 1
        if k == len(bases):
            continue
        for other, sign in bases[k].partners(place - int(first[k])):
            image = other + int(first[k])
            unvisited += [image] if image not in classes.root else []
            classes.join(image, place, sign)
        value = bases[k].pinned_value(place - int(first[k]))
        if value is not None:
            classes.pin(place, value)
    return _equalities(classes)


def _equalities(classes: _Classes) -> Equal:
    pinned = [place for place, (root, _) in classes.root.items() if root in classes.value]
    values = [classes.value[classes.root[place][0]] * classes.root[place][1] for place in pinned]
    copies = [
        (place, root, round(sign))
        for place, (root, sign) in classes.root.items()
        if root != place and root not in classes.value
    ]
    return Equal(np.array(pinned, np.int64), np.array(values), np.array(copies, np.int64).reshape(-1, 3))
