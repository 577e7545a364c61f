"""Tables that describe a small block to the one compiled call for all small blocks of a plan.

A block becomes cells that sum to given totals, classes of entries that are multiples of one number, or components:
entries, the unknowns that they are multiples of, and an orthonormal basis of the equations between unknowns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from affinet.blocks.entry_sets import View
from affinet.blocks.offsets import Nest
from affinet.blocks.places import Part
from affinet.language.calculus.terms import Floats, Integers

MOST_PRODUCTS = 2**16
"""Numbers of all bases of a block, as often as each is used, up to which it is small: 20 µs."""

Names = Mapping[str, int]
"""The number of each tensor among those that the call is given."""


@dataclass
class Tables:
    """Tables as `kernels/loops/tables.py` reads them, of one block or of several one after the other."""

    cells: Integers = field(default_factory=lambda: np.zeros((0, 5), np.int64))
    classes: Integers = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    plain: Integers = field(default_factory=lambda: np.zeros((0, 11), np.int64))
    """Components whose entries are unknowns of their own."""
    tied: Integers = field(default_factory=lambda: np.zeros((0, 11), np.int64))
    """Components in which several entries share an unknown."""
    entries: Integers = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    """Tensor, place and unknown of every entry."""
    lines: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    """Scale and shift of every entry: it is `scale · z + shift` of its unknown z."""
    unknowns: Floats = field(default_factory=lambda: np.zeros((0, 3)))
    """The place among the component's entries of one with scale 1 and shift 0, √Σ scale², and how many there are."""
    numbers: Floats = field(default_factory=lambda: np.zeros(0))
    exact: Integers = field(default_factory=lambda: np.zeros(0, np.int64))

    def then(self, other: Tables) -> Tables:
        """These tables and another's after them, which refer to themselves still."""
        cells, plain, tied = other.cells.copy(), other.plain.copy(), other.tied.copy()
        cells[:, -1] += len(self.numbers)
        for components in (plain, tied):
            components[:, [0, 1]] += len(self.entries)
            components[:, 2] += len(self.unknowns)
            components[:, [4, 6, 8]] += len(self.numbers)
            components[:, [7, 9]] += len(self.exact)
        return Tables(
            np.concatenate([self.cells, cells]),
            np.concatenate([self.classes, other.classes + len(self.entries)]),
            np.concatenate([self.plain, plain]),
            np.concatenate([self.tied, tied]),
            np.concatenate([self.entries, other.entries]),
            np.concatenate([self.lines, other.lines]),
            np.concatenate([self.unknowns, other.unknowns]),
            np.concatenate([self.numbers, other.numbers]),
            np.concatenate([self.exact, other.exact]),
        )


def plain_components(
    tensors: Integers, places: Integers, n: int, components: Integers, numbers: Floats, exact: Integers
) -> Tables:
    """Components of `n` entries each, every entry its own unknown."""
    count = len(components)
    components[:, 0] = np.arange(count) * n
    components[:, 1], components[:, 3] = components[:, 0] + n, n
    local = np.tile(np.arange(n), count)
    return Tables(
        plain=components,
        entries=np.stack([tensors, places, local], axis=1).astype(np.int64),
        lines=np.tile([1.0, 0.0], (count * n, 1)),
        numbers=np.asarray(numbers, np.float64),
        exact=exact.astype(np.int64),
    )


def tied_classes(bounds: Integers, tensors: Integers, places: Integers, scale: Floats, shift: Floats) -> Tables:
    """Classes of entries, one after the other."""
    return Tables(
        classes=np.stack([bounds[:-1], bounds[1:]], axis=1).astype(np.int64),
        entries=np.stack([tensors, places, np.zeros(len(places), np.int64)], axis=1).astype(np.int64),
        lines=np.stack([scale, shift], axis=1).astype(np.float64),
    )


def tied_pairs(one: tuple[int, Integers], other: tuple[int, Integers], scale: float, shift: Floats) -> Tables:
    """`other == scale · one + shift`, entry by entry, |scale| ≤ 1."""
    count = len(one[1])
    tensors, scales = np.tile([one[0], other[0]], count), np.tile([1.0, scale], count)
    places = np.stack([one[1], other[1]], axis=1).ravel()
    shifts = np.stack([np.zeros(count), shift], axis=1).ravel()
    return tied_classes(2 * np.arange(count + 1), tensors, places, scales, shifts)


def given_entries(tensors: Integers, places: Integers, values: Floats) -> Tables:
    """Entries of given value, as one component."""
    components = np.zeros((1, 11), np.int64)
    components[:, 9] = 1 + len(values)
    exact = np.concatenate([[len(values)], np.arange(len(values)), [0]])
    return plain_components(tensors, places, len(values), components, np.asarray(values, np.float64), exact)


def places_of(view: View) -> Integers:
    """The places of a box in its flat parameter, in the order of its loops."""
    return view.offset + Nest(view.dims).table()


def located(parts: tuple[Part, ...], names: Names) -> tuple[Integers, Integers]:
    """The number of the tensor of every entry, and its place there."""
    tensors = np.concatenate([np.full(part.size, names[part.parameter.name]) for part in parts])
    return tensors, np.concatenate([part.positions for part in parts]).astype(np.int64)


def not_small(kernel: object, names: Names, dtype: torch.dtype) -> None:
    """`tables` of kernels whose blocks the call does not project."""
