"""Tables that describe small blocks to the compiled call which projects all small blocks of a plan.

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
"""Products with basis numbers in a projection up to which a block is small: 20 µs."""

Names = Mapping[str, int]
"""The number of each tensor among the tensors of the call."""


@dataclass
class Tables:
    """Tables as `kernels/loops/tables.py` reads them, of one block or of several blocks in sequence."""

    cells: Integers = field(default_factory=lambda: np.zeros((0, 5), np.int64))
    classes: Integers = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    plain: Integers = field(default_factory=lambda: np.zeros((0, 11), np.int64))
    """Components whose unknowns are the entries."""
    tied: Integers = field(default_factory=lambda: np.zeros((0, 11), np.int64))
    """Components in which several entries share an unknown."""
    entries: Integers = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    """Tensor, place and unknown of every entry."""
    lines: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    """Scale and shift of every entry: it is `scale · z + shift` of its unknown z."""
    unknowns: Floats = field(default_factory=lambda: np.zeros((0, 3)))
    """Of each unknown: the index of an entry with scale 1 and shift 0 in its component, √Σ scale², and entry count."""
    numbers: Floats = field(default_factory=lambda: np.zeros(0))
    exact: Integers = field(default_factory=lambda: np.zeros(0, np.int64))

    def followed_by(self, other: Tables) -> Tables:
        """These tables followed by another block's tables, whose references are moved along."""
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
    """Components of `n` entries each, whose unknowns are the entries."""
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
    """Classes of tied entries, in sequence."""
    return Tables(
        classes=np.stack([bounds[:-1], bounds[1:]], axis=1).astype(np.int64),
        entries=np.stack([tensors, places, np.zeros(len(places), np.int64)], axis=1).astype(np.int64),
        lines=np.stack([scale, shift], axis=1).astype(np.float64),
    )


def tied_pairs(first: tuple[int, Integers], second: tuple[int, Integers], scale: float, shift: Floats) -> Tables:
    """`second == scale · first + shift`, entry by entry, |scale| ≤ 1."""
    count = len(first[1])
    tensors, scales = np.tile([first[0], second[0]], count), np.tile([1.0, scale], count)
    places = np.stack([first[1], second[1]], axis=1).ravel()
    shifts = np.stack([np.zeros(count), shift], axis=1).ravel()
    return tied_classes(2 * np.arange(count + 1), tensors, places, scales, shifts)


def given_entries(tensors: Integers, places: Integers, values: Floats) -> Tables:
    """Entries with given values, as one component."""
    components = np.zeros((1, 11), np.int64)
    components[:, 9] = 1 + len(values)
    exact = np.concatenate([[len(values)], np.arange(len(values)), [0]])
    return plain_components(tensors, places, len(values), components, np.asarray(values, np.float64), exact)


def places_of(view: View) -> Integers:
    """The positions of a box in its flat parameter, in the order of its loops."""
    return view.offset + Nest(view.dims).table()


def located(parts: tuple[Part, ...], names: Names) -> tuple[Integers, Integers]:
    """The tensor number of every entry, and its position in that tensor."""
    tensors = np.concatenate([np.full(part.size, names[part.parameter.name]) for part in parts])
    return tensors, np.concatenate([part.positions for part in parts]).astype(np.int64)


def not_small(kernel: object, names: Names, dtype: torch.dtype) -> None:
    """`tables` of kernels that the call does not support."""
