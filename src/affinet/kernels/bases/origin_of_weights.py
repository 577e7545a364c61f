"""The weights at v = 0, and the sets of weights that one vector v determines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from affinet.kernels.bases.basis import Basis, Kind, Positions
from affinet.kernels.bases.operations import Array, NumPyOperations
from affinet.language.calculus.terms import Floats

NUMPY = NumPyOperations()


def origin_of(kind: Kind, bases: Sequence[Basis], smallest: Mapping[str, Floats]) -> dict[str, Floats]:
    """The weights at v = 0, from the smallest feasible point, in float64; for `free`, minus its homogeneous part."""
    origin = {name: np.array(x, np.float64) for name, x in smallest.items()}
    if kind == "free":
        for basis in bases:
            if basis.free:
                entries = tuple(entries_at(origin[p.name].reshape(-1), p.positions) for p in basis.places)
                moved = basis.linear(NUMPY, basis.picked(NUMPY, entries))
                for place, entry, part in zip(basis.places, entries, moved, strict=True):
                    flat = origin[place.name].reshape(-1)
                    # A difference such as 1 − (1 − u) is rounding of the point, not a number of the user.
                    difference = np.where(abs(entry - part) <= 8e-16 * abs(part), 0.0, entry - part)
                    flat[slice(None) if place.positions is None else place.positions] = difference
    return origin


def entries_at(flat: Array, positions: Positions | None) -> Array:
    """Entries at positions of a flat array; all entries for None."""
    return flat if positions is None else flat[positions]


def narrowed(values: Floats) -> Floats:
    """The same numbers, with length one along every axis on which they do not change."""
    for axis in range(values.ndim):
        first = values.take([0], axis) if values.shape[axis] else values
        if (values == first).all():
            values = first
    return values


def coupled(blocks: Sequence[Sequence[str]], names: Sequence[str]) -> list[list[str]]:
    """Sets of names that are linked by lists of names, in the order of `names`."""
    group = {name: {name} for name in names}
    for block_names in blocks:
        merged_group = set().union(*(group[name] for name in block_names))
        group.update(dict.fromkeys(merged_group, merged_group))
    return [
        list(linked_names)
        for linked_names in dict.fromkeys(tuple(n for n in names if n in group[name]) for name in names)
    ]
