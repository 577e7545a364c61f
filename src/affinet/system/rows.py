"""A sparse form of equations, row by row, in which irregular rules are planned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from affinet.language.calculus.terms import Floats, Integers

PAIR_BYTES = 64
"""Memory that planning takes at its peak for one (equation, entry) pair that is written out (measured)."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Sparse equations `Σ_j values_j · w[columns_j] == rhs`, row `i` holding `columns[bounds[i]:bounds[i+1]]`.

    `rule` and `index` are the rule of each row and the number of the equation in it (row-major in its shape). Columns
    ascend within a row, without repetitions. `size` is the sum of the magnitudes from which the right-hand sides were
    computed, if that is larger than the right-hand sides (frozen weights that cancel): rounding is relative to it.
    """

    bounds: Integers
    columns: Integers
    values: Floats
    rhs: Floats
    rule: Integers
    index: Integers
    size: Floats | None = None

    @property
    def magnitude(self) -> Floats:
        """The magnitude to which the rounding of each right-hand side is relative."""
        return np.abs(self.rhs) if self.size is None else self.size

    @property
    def count(self) -> int:
        return len(self.rhs)

    @property
    def lengths(self) -> Integers:
        return np.diff(self.bounds)

    def row_of_each(self) -> Integers:
        """The row of every stored value."""
        return np.repeat(np.arange(self.count), self.lengths)

    def select(self, numbers: Integers) -> Rows:
        """The numbered rows, in the order of the numbers."""
        lengths = self.lengths[numbers]
        bounds = np.concatenate([[0], np.cumsum(lengths)])
        places = np.repeat(self.bounds[:-1][numbers] - bounds[:-1], lengths) + np.arange(bounds[-1])
        return Rows(
            bounds,
            self.columns[places],
            self.values[places],
            self.rhs[numbers],
            self.rule[numbers],
            self.index[numbers],
            None if self.size is None else self.size[numbers],
        )

    def matrix(self, width: int) -> sparse.csr_array:
        """The coefficients as a SciPy matrix with `width` columns."""
        return sparse.csr_array((self.values, self.columns, self.bounds), shape=(self.count, width))


def gather_rows(
    row: Integers, column: Integers, value: Floats, rhs: Floats, rule: Integers, index: Integers, cancellation: float
) -> Rows:
    """Rows from unordered triples; triples at the same place add up, and sums that cancel count as zero."""
    if _is_in_order(row, column):
        bounds = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(rhs)))])
        return Rows(bounds, column.astype(np.int64), value, rhs, rule, index)
    width = int(column.max(initial=-1)) + 1
    shape = (len(rhs), width)
    added = sparse.coo_array((value, (row, column)), shape=shape).tocsr()
    if added.nnz < len(value):
        size = sparse.coo_array((np.abs(value), (row, column)), shape=shape).tocsr()
        nonzero = np.abs(added.data) > cancellation * size.data
        bounds = np.concatenate([[0], np.cumsum(nonzero)])[added.indptr]
        return Rows(bounds, added.indices[nonzero].astype(np.int64), added.data[nonzero], rhs, rule, index)
    return Rows(added.indptr.astype(np.int64), added.indices.astype(np.int64), added.data, rhs, rule, index)


def _is_in_order(row: Integers, column: Integers) -> bool:
    """Whether places are row-major and distinct."""
    follows = (row[1:] == row[:-1]) & (column[1:] > column[:-1]) | (row[1:] > row[:-1])
    return bool(follows.all())


def added_up(shape: tuple[int, int], row: Integers, column: Integers, value: Floats, cancellation: float) -> Floats:
    """Like `gather_rows`, as a full matrix: triples at the same place add up, and sums that cancel count as zero."""
    place = row * shape[1] + column
    total = np.bincount(place, value, shape[0] * shape[1])
    if len(place) and np.bincount(place).max() > 1:
        size = np.bincount(place, np.abs(value), len(total))
        total[np.abs(total) <= cancellation * size] = 0.0
    matrix: Floats = total.reshape(shape).astype(np.float64, copy=False)
    return matrix


def concatenate(parts: Sequence[Rows]) -> Rows:
    """All rows of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    offsets = np.cumsum([0, *(len(part.columns) for part in parts)])
    bounds = [part.bounds[:-1] + offset for part, offset in zip(parts, offsets[:-1], strict=True)]
    empty = np.zeros(0, np.int64)
    return Rows(
        np.concatenate([*bounds, offsets[-1:]]).astype(np.int64),
        np.concatenate([empty, *(part.columns for part in parts)]),
        np.concatenate([np.zeros(0), *(part.values for part in parts)]),
        np.concatenate([np.zeros(0), *(part.rhs for part in parts)]),
        np.concatenate([empty, *(part.rule for part in parts)]),
        np.concatenate([empty, *(part.index for part in parts)]),
        np.concatenate([np.zeros(0), *(part.magnitude for part in parts)]),
    )
