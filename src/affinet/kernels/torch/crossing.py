"""Equations about every row of a matrix, which may lie in several parameters, crossed by plain sums of its columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod, sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from affinet.blocks.commuting import Commuting
from affinet.blocks.slices import Slices
from affinet.kernels.torch.access import Box, Tensors
from affinet.kernels.torch.looped import fit
from affinet.language.calculus.terms import Floats, Integers

BLOCKS = 8
"""Parts of the rows whose sums are added one after the other, whatever the number of threads."""
MOST_EQUATIONS = 16
"""Equations about a row, ties not counted, up to which loops beat matrix products."""


@dataclass(frozen=True, eq=False)
class _Rows:
    """Equations about a row: entries of classes that are equal or opposite or known, and all else by a basis.

    `tied` (entries, 2) holds columns and the class of each, `shares` ± one over the size of the class, `roots` a column
    of each class; the first classes have `values` (cells | 1, classes). `basis` (r, columns) and `target` (cells | 1,
    r) hold for what the classes leave free. `cells` is how many rows there are.
    """

    tied: Integers
    shares: Floats
    roots: Integers
    cells: int
    values: Floats
    basis: Floats
    target: Floats

    def __len__(self) -> int:
        return self.cells

    @classmethod
    def of(cls, block: Slices) -> _Rows | None:
        """None where the basis does not keep ties and other equations apart."""
        pinned, copies = block.pinned.astype(np.int64), block.copies.astype(np.int64)
        apart = len(pinned) + len(copies)
        basis, target = np.asarray(block.basis)[apart:], np.asarray(block.target)[:, apart:]
        roots = np.unique(copies[:, 1])
        columns = np.concatenate([pinned, roots, copies[:, 0]])
        number = np.concatenate(
            [np.arange(len(pinned) + len(roots)), len(pinned) + np.searchsorted(roots, copies[:, 1])]
        )
        sign = np.concatenate([np.ones(len(pinned) + len(roots)), copies[:, 2]])
        others = np.ones(basis.shape[1], bool)
        others[columns] = False
        root_of = np.concatenate([pinned, roots])[number]
        if len(basis) > MOST_EQUATIONS or np.any(np.asarray(block.basis)[:apart, others]):
            return None
        if np.any(basis[:, pinned]) or not np.array_equal(basis[:, columns], basis[:, root_of] * sign):
            return None
        shares = sign / np.bincount(number, minlength=1)[number]
        tied = np.stack([columns, number], axis=1)
        return cls(tied, shares, np.concatenate([pinned, roots]), block.outer.size, block.values, basis, target)


class Crossing:
    """Loops over the columns of a matrix, boxes of one or several parameters, where they lie."""

    def __init__(self, boxes: Sequence[Box], rows: _Rows, total: Floats | None) -> None:
        from affinet.kernels.loops import crossed, openmp

        self._boxes, self._loops, self._team = boxes, crossed, openmp.team
        self._rows, self._total = rows, total
        widths = [prod(box.shape) // len(rows) for box in boxes]
        self._bounds = list(pairwise(np.cumsum([0, *widths]).tolist()))
        self._tied = []
        for first, last in self._bounds:
            own = (rows.tied[:, 0] >= first) & (rows.tied[:, 0] < last)
            self._tied.append((rows.tied[own] - [first, 0], rows.shares[own]))
        self._bases: dict[np.dtype[Any], list[np.ndarray]] = {}

    def on_entries(self, x: Tensor, *, affine: bool, quiet: float) -> bool:
        """False: entries that were read into one matrix have been copied already, and products are as quick."""
        return False

    def on_tensors(self, tensors: Tensors, *, affine: bool, quiet: float) -> bool:
        if not affine and quiet == 0.0:  # no step asks for this, and matrix products are as exact
            return False
        sides = [tensors[box.name] for box in self._boxes]
        there = [side for side in sides if side is not None and fit(side)]
        if len(there) < len(sides) or len({side.dtype for side in there}) > 1:
            return False
        found = [box.within(side.detach().numpy().reshape(-1)) for box, side in zip(self._boxes, there, strict=True)]
        boxes = [box.reshape(len(self._rows), -1) for box in found if box is not None]
        if len(boxes) < len(found):
            return False
        self._project(boxes, torch.get_num_threads(), affine=affine, quiet=quiet)
        for side in there:
            increment_version(side)
        return True

    def _project(self, boxes: Sequence[np.ndarray], threads: int, *, affine: bool, quiet: float) -> None:
        """Law: with y the rows projected, columns take `(Σ_i y_i − total) / rows` off every row; both commute."""
        rows, count = self._rows, len(self._rows)
        bases = self._in(boxes[0].dtype)
        blocks = min(BLOCKS, count)
        gaps = np.array(np.broadcast_to(-rows.target if affine else 0.0, (count, len(rows.basis))))
        means, sizes, squares = np.zeros((count, len(rows.roots))), np.zeros((count, len(rows.roots))), np.zeros(count)
        sums = [np.zeros((blocks, box.shape[1])) for box in boxes]
        # Every equation about a row is one more pass over it.
        teams = [self._team(box.size * (1 + len(rows.basis)), threads) for box in boxes]
        for box, basis, tied, own, team in zip(boxes, bases, self._tied, sums, teams, strict=True):
            self._loops.measure(box, basis, *tied, gaps, means, sizes, own, squares, team)
        known = rows.values if affine else np.zeros((1, rows.values.shape[1]))
        means[:, : known.shape[1]] = known
        off = np.zeros(rows.basis.shape[1])
        if self._total is not None:
            total = np.concatenate([own.sum(axis=0) for own in sums])
            columns, number = rows.tied.T
            of_class = np.bincount(number, rows.shares * total[columns], len(rows.roots))
            of_class[: known.shape[1]] = known.mean(axis=0) * count
            total[columns] = of_class[number] * np.sign(rows.shares)
            off = (total - gaps.sum(axis=0) @ rows.basis - (self._total if affine else 0.0)) / count
        values = means - gaps @ rows.basis[:, rows.roots] - off[rows.roots]
        levels = np.full(count, quiet * sqrt(squares.sum() / (count * rows.basis.shape[1])))
        if self._total is None:
            levels = quiet * np.sqrt(squares / rows.basis.shape[1])
        if quiet > 0.0:
            values[np.abs(values) < levels[:, None] + quiet * sizes] = 0.0
        values[:, : known.shape[1]] = known
        kind = boxes[0].dtype
        numbers = [part.astype(kind) for part in (gaps, values, off, levels)]
        for box, basis, tied, (first, last), team in zip(boxes, bases, self._tied, self._bounds, teams, strict=True):
            gap, value, column, level = numbers
            scratch = np.empty((blocks, box.shape[1]), kind)
            self._loops.settle(box, basis, *tied, gap, value, column[first:last], scratch, quiet, level, team)

    def _in(self, kind: np.dtype[Any]) -> list[np.ndarray]:
        """The basis in a dtype, the columns of each box by themselves."""
        if kind not in self._bases:
            whole = self._rows.basis.astype(kind)
            self._bases[kind] = [np.ascontiguousarray(whole[:, first:last]) for first, last in self._bounds]
        return self._bases[kind]


def crossing(base: Slices | Commuting, boxes: Sequence[Box]) -> Crossing | None:
    """The loops of equations about every row of boxes side by side, and sums of columns; None where they do not fit."""
    sides = base.rows_and_columns
    if sides is None:
        return None
    within, across = sides
    rows = _Rows.of(within)
    if rows is None or (across is not None and not across.even):
        return None
    total = None if across is None else across.target[:, 0] * np.sign(across.basis[0, 0]) * sqrt(within.outer.size)
    return Crossing(boxes, rows, total)
