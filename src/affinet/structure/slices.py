"""From regular rows to the block that projects them: one orthonormal basis for all cells."""

from __future__ import annotations

from math import sqrt

import numpy as np

from affinet.language.terms import Floats, Integers
from affinet.structure.blocks import Slices
from affinet.structure.contradiction import Contradiction
from affinet.structure.factor import factor_shared
from affinet.structure.regular import RowBatch, shared
from affinet.system.tolerance import Tolerance


def slices_of(batch: RowBatch, tolerance: Tolerance, rules: tuple[int, ...] | None = None) -> Slices:
    """Factor the matrix of a batch once. Raises Contradiction where its equations cannot hold in some cell."""
    rules = batch.rules if rules is None else rules
    basis, target, ambiguous = _factored(batch, tolerance, rules)
    pinned, values, copies = _exact_places(batch.matrix, batch.rhs)
    place = (batch.parameter, batch.offset, batch.outer, batch.inner)
    return Slices(*place, basis, target, pinned, values, copies, rules, ambiguous)


def _factored(batch: RowBatch, tolerance: Tolerance, rules: tuple[int, ...]) -> tuple[Floats, Floats, int]:
    matrix, rhs = batch.matrix, batch.rhs
    if len(matrix) == 1 and not any(matrix.strides):
        norm = sqrt(matrix.shape[1]) * abs(float(matrix[0, 0]))
        return np.broadcast_to(matrix[:1, :1] / norm, matrix.shape), rhs / norm, 0
    if len(matrix) == 1:
        length = np.linalg.norm(matrix)
        return matrix / length, rhs / length, 0
    # Every cell has the same matrix: one factor, and one system of right-hand sides a cell.
    found = factor_shared(np.asarray(matrix), rhs, tolerance)
    if not found.consistent.all():
        raise Contradiction(rules)
    return shared(found.basis[0]), found.target, found.ambiguous


def _exact_places(matrix: Floats, rhs: Floats) -> tuple[Integers, Floats, Integers]:
    """Inner places that one equation pins to a value, and pairs that one equation makes equal or opposite."""
    none = np.zeros((0, 3), np.int64)
    if matrix.shape[1] > 2 and not any(matrix.strides):
        return np.zeros(0, np.int64), np.zeros((1, 0)), none
    lengths = np.count_nonzero(matrix, axis=1)
    single = np.flatnonzero(lengths == 1)
    pinned, first = np.unique(np.argmax(matrix[single] != 0, axis=1), return_index=True)
    rows = single[first]
    values = rhs[:, rows] / matrix[rows, pinned]
    copies = _copies(matrix, rhs, np.flatnonzero(lengths == 2), set(pinned.tolist()))
    return pinned, values, copies


def _copies(matrix: Floats, rhs: Floats, double: Integers, pinned: set[int]) -> Integers:
    """(member, representative, sign) triples; chains are followed to one representative."""
    root = {k: (k, 1) for k in range(matrix.shape[1])} if len(double) else {}
    for row in double:
        x, y = (int(k) for k in np.flatnonzero(matrix[row]))
        if abs(matrix[row, x]) != abs(matrix[row, y]) or rhs[:, row].any():
            continue
        sign = -1 if matrix[row, x] == matrix[row, y] else 1
        (a, s), (b, t) = root[x], root[y]
        for k, (r, u) in root.items():
            if r == b and a != b:
                root[k] = (a, s * sign * t * u)
    found = [(k, r, s) for k, (r, s) in root.items() if r != k and k not in pinned and r not in pinned]
    return np.array(found, np.int64).reshape(-1, 3)
