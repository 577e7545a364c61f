"""Peel equations with a private entry, repeatedly: they are independent, and no contradiction needs them."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from affinet.language.calculus.terms import Integers

WORTH_A_ROUND = 0.05
"""Passes over all rows at once continue while each peels at least this share of them; then rows go one by one."""


def unpeeled(matrix: sparse.csr_array) -> Integers:
    """The rows, in ascending order, that remain when no row has a private column. Time is linear in the coefficients.

    Law: the multiplier of a peeled row is zero in every combination of rows that cancels all columns.
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
            rows = rows[_peel_one_by_one(pattern)]
            break
    return rows


def _peel_one_by_one(pattern: sparse.csr_array) -> Integers:
    """Peel row by row. A column stores the exclusive or of its rows, which is its row once only one remains."""
    count, width = pattern.shape
    owner = np.repeat(np.arange(count), np.diff(pattern.indptr))
    uses = np.bincount(pattern.indices, minlength=width).tolist()
    row_codes = np.zeros(width, np.int64)
    np.bitwise_xor.at(row_codes, pattern.indices, owner)
    row_code, columns, bounds = row_codes.tolist(), pattern.indices.tolist(), pattern.indptr.tolist()
    remains = [True] * count
    candidates = [column for column, used in enumerate(uses) if used == 1]
    while candidates:
        column = candidates.pop()
        if uses[column] != 1:
            continue
        row = row_code[column]
        remains[row] = False
        for other in columns[bounds[row] : bounds[row + 1]]:
            uses[other] -= 1
            row_code[other] ^= row
            if uses[other] == 1:
                candidates.append(other)
    return np.flatnonzero(remains)
