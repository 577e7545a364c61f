"""Equations that own a private entry, repeatedly: independent of the rest, so that no contradiction needs them."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from affinet.language.calculus.terms import Integers

WORTH_A_ROUND = 0.05
"""A pass over all rows at once is taken as long as it peels this share of them; then they go one by one."""


def unpeeled(matrix: sparse.csr_array) -> Integers:
    """The rows, rising, that are left when none owns a private column any more, in time linear in the numbers.

    Law: a multiplier of a row that is not among them is zero in every combination of rows that cancels all columns.
    """
    rows = np.arange(matrix.shape[0])
    pattern = sparse.csr_array((np.ones(matrix.nnz, np.int32), matrix.indices, matrix.indptr), shape=matrix.shape)
    while len(rows):
        uses = np.bincount(pattern.indices, minlength=matrix.shape[1])
        private = (uses[pattern.indices] == 1).astype(np.int64)
        owned = np.concatenate([[0], np.cumsum(private)])
        owns = owned[pattern.indptr[1:]] > owned[pattern.indptr[:-1]]
        if not owns.any():
            return rows
        few = int(owns.sum()) < WORTH_A_ROUND * len(rows)
        rows, pattern = rows[~owns], pattern[np.flatnonzero(~owns)]
        if few:
            rows = rows[_one_by_one(pattern)]
            break
    return rows


def _one_by_one(pattern: sparse.csr_array) -> Integers:
    """The last row of a column is the exclusive or of its rows: no list of rows is kept for any column."""
    count, width = pattern.shape
    owner = np.repeat(np.arange(count), np.diff(pattern.indptr))
    uses = np.bincount(pattern.indices, minlength=width).tolist()
    mixed = np.zeros(width, np.int64)
    np.bitwise_xor.at(mixed, pattern.indices, owner)
    last, columns, bounds = mixed.tolist(), pattern.indices.tolist(), pattern.indptr.tolist()
    left = [True] * count
    waiting = [column for column, used in enumerate(uses) if used == 1]
    while waiting:
        column = waiting.pop()
        if uses[column] != 1:
            continue
        row = last[column]
        left[row] = False
        for other in columns[bounds[row] : bounds[row + 1]]:
            uses[other] -= 1
            last[other] ^= row
            if uses[other] == 1:
                waiting.append(other)
    return np.flatnonzero(left)
