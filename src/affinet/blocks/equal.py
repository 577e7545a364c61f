"""Entries that a bordered block makes equal, opposite or known to the bit: what its equations and its bases say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from affinet.blocks.bases import Base
from affinet.blocks.dense import Dense
from affinet.blocks.joined import Joined
from affinet.blocks.mirror import Mirror
from affinet.blocks.mirrored_product import MirroredProduct
from affinet.blocks.pairs import Pairs
from affinet.blocks.product import Product
from affinet.blocks.slices import Slices
from affinet.language.calculus.terms import Floats, Integers


@dataclass(frozen=True, eq=False)
class Equal:
    """Places with a given value, and (member, representative, sign) of those that are equal or opposite."""

    pinned: Integers
    values: Floats
    copies: Integers


@dataclass(eq=False)
class _Classes:
    """Signed union-find over the few places that are spoken of; local to `equal_places`."""

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
    """From equations of one entry and of two with equal or opposite coefficients, followed through the bases."""
    classes, first = _Classes(), np.cumsum([0, *(base.entries.count for base in bases)])
    for row in np.flatnonzero(np.diff(matrix.indptr) <= 2):
        places = matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]].tolist()
        numbers = matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]].tolist()
        if len(places) == 1:
            classes.pin(places[0], float(rhs[row]) / numbers[0])
        elif rhs[row] == 0.0 and abs(numbers[0]) == abs(numbers[1]):
            classes.join(places[0], places[1], -1.0 if numbers[0] == numbers[1] else 1.0)
    waiting = list(classes.root)
    while waiting:
        place = waiting.pop()
        k = int(np.searchsorted(first, place, side="right")) - 1
        if k == len(bases):
            continue
        for other, sign in partners(bases[k], place - int(first[k])):
            image = other + int(first[k])
            waiting += [image] if image not in classes.root else []
            classes.join(image, place, sign)
        value = _known(bases[k], place - int(first[k]))
        if value is not None:
            classes.pin(place, value)
    return _told(classes)


def _told(classes: _Classes) -> Equal:
    pinned = [place for place, (root, _) in classes.root.items() if root in classes.value]
    values = [classes.value[classes.root[place][0]] * classes.root[place][1] for place in pinned]
    copies = [
        (place, root, round(sign))
        for place, (root, sign) in classes.root.items()
        if root != place and root not in classes.value
    ]
    return Equal(np.array(pinned, np.int64), np.array(values), np.array(copies, np.int64).reshape(-1, 3))


def partners(base: Base, place: int) -> list[tuple[int, float]]:
    """Entries that a base makes equal (1) or opposite (−1) to the one at a place."""
    match base:
        case MirroredProduct():
            return partners(base.mirror, place)
        case Mirror() if not np.any(base.shift):
            return [(int(base.images(np.array([place]))[0]), base.sign)]
        case Pairs() if abs(base.ratio) == 1.0 and not np.any(base.shift):
            return [((place + base.first.size) % (2 * base.first.size), base.ratio)]
        case Slices():
            cell, within = divmod(place, base.inner.size)
            return [(cell * base.inner.size + k, sign) for k, sign in _copied(base, within)]
        case Product():
            found = []
            for part, inner in zip(base.slices, base.inner_dims, strict=True):
                index, sizes = _index(base, place)
                own = tuple(sizes[axis] for axis in inner)
                within = _flat(tuple(index[axis] for axis in inner), own)
                for k, sign in _copied(part, within):
                    moved = list(index)
                    for axis, i in zip(inner, np.unravel_index(k, own), strict=True):
                        moved[axis] = int(i)
                    found.append((_flat(tuple(moved), sizes), sign))
            return found
        case Joined():
            return partners(base.base, place)
        case Mirror() | Pairs() | Dense():
            return []


def _known(base: Base, place: int) -> float | None:
    """The value that slices give to the entry at a place."""
    if isinstance(base, Joined):
        return _known(base.base, place)
    if isinstance(base, Slices):
        cell, within = divmod(place, base.inner.size)
        return _pinned(base, cell, within)
    if isinstance(base, Product):
        index, sizes = _index(base, place)
        for part, inner in zip(base.slices, base.inner_dims, strict=True):
            outer = tuple(axis for axis in range(len(sizes)) if axis not in inner)
            cell, within = (
                _flat(tuple(index[k] for k in some), tuple(sizes[k] for k in some)) for some in (outer, inner)
            )
            value = _pinned(part, cell, within)
            if value is not None:
                return value
    return None


def _pinned(part: Slices, cell: int, within: int) -> float | None:
    at = np.flatnonzero(part.pinned == within)
    return float(part.values[cell if len(part.values) > 1 else 0, at[0]]) if len(at) else None


def _copied(part: Slices, within: int) -> list[tuple[int, float]]:
    found = [(int(b), float(s)) for a, b, s in part.copies if a == within]
    return found + [(int(a), float(s)) for a, b, s in part.copies if b == within]


def _index(base: Product, place: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    sizes = tuple(size for size, _ in base.view.dims)
    return tuple(int(i) for i in np.unravel_index(place, sizes)), sizes


def _flat(index: tuple[int, ...], sizes: tuple[int, ...]) -> int:
    return int(np.ravel_multi_index(index, sizes)) if sizes else 0
