"""Loops for equations of every row of a matrix, which may span several parameters, with plain sums of its columns."""

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
from affinet.kernels.torch.looped import fits_loops
from affinet.language.calculus.terms import Floats, Integers

BLOCKS = 8
"""Parts of the rows, whose sums are added in order, independent of the number of threads."""
MOST_EQUATIONS = 16
"""Equations of a row, not counting ties, up to which loops are faster than matrix products."""


@dataclass(frozen=True, eq=False)
class _Rows:
    """The equations of a row: classes of entries that are equal, opposite or known, and a basis of all other equations.

    `tied` (entries, 2) lists columns and the class of each, `shares` is ± one over the size of the class, `roots` has a
    column of each class; the first classes have `values` (cells | 1, classes). `basis` (r, columns) and `target`
    (cells | 1, r) are the equations of the numbers that the classes leave free. `cells` is the number of rows.
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
        """The equations of the cells of a block; None where its basis does not separate ties and other equations."""
        pinned, copies = block.pinned.astype(np.int64), block.copies.astype(np.int64)
        count = len(pinned) + len(copies)
        basis, target = np.asarray(block.basis)[count:], np.asarray(block.target)[:, count:]
        roots = np.unique(copies[:, 1])
        columns = np.concatenate([pinned, roots, copies[:, 0]])
        number = np.concatenate(
            [np.arange(len(pinned) + len(roots)), len(pinned) + np.searchsorted(roots, copies[:, 1])]
        )
        sign = np.concatenate([np.ones(len(pinned) + len(roots)), copies[:, 2]])
        untied = np.ones(basis.shape[1], bool)
        untied[columns] = False
        root_of = np.concatenate([pinned, roots])[number]
        if len(basis) > MOST_EQUATIONS or np.any(np.asarray(block.basis)[:count, untied]):
            return None
        if np.any(basis[:, pinned]) or not np.array_equal(basis[:, columns], basis[:, root_of] * sign):
            return None
        shares = sign / np.bincount(number, minlength=1)[number]
        tied = np.stack([columns, number], axis=1)
        return cls(tied, shares, np.concatenate([pinned, roots]), block.outer.size, block.values, basis, target)


class Crossing:
    """Loops over the columns of a matrix, which are boxes of one or several parameters, in place."""

    def __init__(self, boxes: Sequence[Box], rows: _Rows, total: Floats | None) -> None:
        from affinet.kernels.loops import crossed, openmp

        self._boxes, self._loops, self._team = boxes, crossed, openmp.team
        self._rows, self._total = rows, total
        widths = [prod(box.shape) // len(rows) for box in boxes]
        self._bounds = list(pairwise(np.cumsum([0, *widths]).tolist()))
        self._tied = []
        for first, last in self._bounds:
            inside = (rows.tied[:, 0] >= first) & (rows.tied[:, 0] < last)
            self._tied.append((rows.tied[inside] - [first, 0], rows.shares[inside]))
        self._bases: dict[np.dtype[Any], list[np.ndarray]] = {}

    def on_entries(self, x: Tensor, *, affine: bool, quiet: float) -> bool:
        """False: entries in one matrix have been copied already, and matrix products are as fast."""
        return False

    def on_tensors(self, tensors: Tensors, *, affine: bool, quiet: float) -> bool:
        if not affine and quiet == 0.0:  # steps never need this, and matrix products are as exact
            return False
        sides = [tensors[box.name] for box in self._boxes]
        present = [side for side in sides if side is not None and fits_loops(side)]
        if len(present) < len(sides) or len({side.dtype for side in present}) > 1:
            return False
        arrays = [box.within(side.detach().numpy().reshape(-1)) for box, side in zip(self._boxes, present, strict=True)]
        boxes = [box.reshape(len(self._rows), -1) for box in arrays if box is not None]
        if len(boxes) < len(arrays):
            return False
        self._project(boxes, torch.get_num_threads(), affine=affine, quiet=quiet)
        for side in present:
            increment_version(side)
        return True

    def _project(self, boxes: Sequence[np.ndarray], threads: int, *, affine: bool, quiet: float) -> None:
        """Law: with y the projected rows, subtract `(Σ_i y_i − total) / rows` from every row; both steps commute."""
        rows, count = self._rows, len(self._rows)
        bases = self._in(boxes[0].dtype)
        blocks = min(BLOCKS, count)
        gaps = np.array(np.broadcast_to(-rows.target if affine else 0.0, (count, len(rows.basis))))
        means, sizes, squares = np.zeros((count, len(rows.roots))), np.zeros((count, len(rows.roots))), np.zeros(count)
        sums = [np.zeros((blocks, box.shape[1])) for box in boxes]
        # Every equation of a row is one more pass over it.
        teams = [self._team(box.size * (1 + len(rows.basis)), threads) for box in boxes]
        for box, basis, tied, column_sums, team in zip(boxes, bases, self._tied, sums, teams, strict=True):
            self._loops.measure(box, basis, *tied, gaps, means, sizes, column_sums, squares, team)
        known = rows.values if affine else np.zeros((1, rows.values.shape[1]))
        means[:, : known.shape[1]] = known
        column_shares = np.zeros(rows.basis.shape[1])
        if self._total is not None:
            total = np.concatenate([column_sums.sum(axis=0) for column_sums in sums])
            columns, number = rows.tied.T
            of_class = np.bincount(number, rows.shares * total[columns], len(rows.roots))
            of_class[: known.shape[1]] = known.mean(axis=0) * count
            total[columns] = of_class[number] * np.sign(rows.shares)
            column_shares = (total - gaps.sum(axis=0) @ rows.basis - (self._total if affine else 0.0)) / count
        values = means - gaps @ rows.basis[:, rows.roots] - column_shares[rows.roots]
        levels = np.full(count, quiet * sqrt(squares.sum() / (count * rows.basis.shape[1])))
        if self._total is None:
            levels = quiet * np.sqrt(squares / rows.basis.shape[1])
        if quiet > 0.0:
            values[np.abs(values) < levels[:, None] + quiet * sizes] = 0.0
        values[:, : known.shape[1]] = known
        kind = boxes[0].dtype
        numbers = [part.astype(kind) for part in (gaps, values, column_shares, levels)]
        for box, basis, tied, (first, last), team in zip(boxes, bases, self._tied, self._bounds, teams, strict=True):
            gap, value, column, level = numbers
            scratch = np.empty((blocks, box.shape[1]), kind)
            self._loops.settle(box, basis, *tied, gap, value, column[first:last], scratch, quiet, level, team)

    def _in(self, kind: np.dtype[Any]) -> list[np.ndarray]:
        """The basis in a dtype, split into the columns of each box."""
        if kind not in self._bases:
            basis = self._rows.basis.astype(kind)
            self._bases[kind] = [np.ascontiguousarray(basis[:, first:last]) for first, last in self._bounds]
        return self._bases[kind]


def crossing(base: Slices | Commuting, boxes: Sequence[Box]) -> Crossing | None:
    """The loops for equations of every row and sums of columns of boxes side by side; None for other equations."""
    sides = base.rows_and_columns
    if sides is None:
        return None
    within, across = sides
    rows = _Rows.of(within)
    if rows is None or (across is not None and not across.even):
        return None
    total = None if across is None else across.target[:, 0] * np.sign(across.basis[0, 0]) * sqrt(within.outer.size)
    return Crossing(boxes, rows, total)
