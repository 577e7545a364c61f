"""Find circuits among sparse equations: eliminate unknown by unknown, and use dense factors once few remain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse

from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.elimination.combinations import affordable, dense_circuits, dense_dependencies, independent
from affinet.planning.refit.record import from_coefficients
from affinet.system.tolerance import Tolerance

SMALL_ENOUGH = 1_000_000
"""Numbers of a dense matrix that is cheaper to factor than to eliminate from."""
MOST_UPDATES = 6_000_000
"""Numbers that elimination may change (about one per microsecond) until it gives up: the rows have filled in."""
FILLING = 64
"""Numbers that the cheapest pivot may fill in, (equations − 1) · (entries − 1); with more, all rows fill in."""
STABLE = 0.1
"""A pivot is at least this share of the largest number in its column, which bounds the growth of the others."""
CHECKED = 64
"""Pivots between two checks whether the remaining matrix is small enough; at least one per this many remaining rows."""


def sparse_circuits(
    matrix: sparse.csr_array, rhs: Floats, terms: Floats, tolerance: Tolerance
) -> Iterator[tuple[Integers, Floats]]:
    """Rows and multipliers of contradictions among rows of length one; nothing if the rows can hold or fill in.

    Law: as in `dense_circuits`, with the rows that have a pivot as the basis. An unknown of the fewest equations is
    eliminated first, by the shortest of these (Markowitz, 1957), so that ties and paths of ties never fill in.
    """
    work = _Elimination(matrix, rhs, terms, tolerance)
    for row in work.run(MOST_UPDATES):
        if work.contradicts(row):
            yield work.combine(np.array([row]), np.ones(1))
    remainder = work.remainder()
    if remainder is not None:
        for rows, weights in dense_circuits(*remainder[1:], tolerance):
            yield work.combine(remainder[0][rows], weights)


def sparse_basis(
    matrix: sparse.csr_array, rhs: Floats, terms: Floats, tolerance: Tolerance, most_updates: int
) -> tuple[Integers, bool] | None:
    """Independent rows that span all others, in ascending order, and whether all can hold; None if the rows fill in.

    At most `most_updates` numbers are changed. Shapes and rows as in `sparse_circuits`.
    """
    if matrix.nnz > most_updates:
        return None
    pivots = from_coefficients(_find_pivots, matrix, tolerance, most_updates)
    rhs, terms = pivots.subtract(rhs, terms)
    implied = pivots.implied
    if (np.abs(rhs[implied]) > tolerance.consistency(8) * terms[implied]).any():
        return np.zeros(0, np.int64), False
    if pivots.dense is None:
        return None
    rows = pivots.rows
    if next(dense_circuits(pivots.dense, rhs[rows], terms[rows], tolerance), None) is not None:
        return np.zeros(0, np.int64), False
    return pivots.basis_rows, True


@dataclass(frozen=True, eq=False)
class _Pivots:
    """An elimination without right-hand sides.

    `implied` are rows that became empty; `rows` and `dense` are the rows not eliminated and their matrix, None if it is
    too large; `basis_rows` are independent rows, in ascending order. Each step, in order, subtracts `share` times row
    `pivot` from `row`.
    """

    implied: Integers
    rows: Integers
    dense: Floats | None
    basis_rows: Integers
    row: Integers
    pivot: Integers
    share: Floats

    def subtract(self, rhs: Floats, terms: Floats) -> tuple[Floats, Floats]:
        """Right-hand sides and their terms after all steps."""
        sides, sizes = rhs.tolist(), terms.tolist()
        for row, pivot, share in zip(self.row.tolist(), self.pivot.tolist(), self.share.tolist(), strict=True):
            sides[row] -= share * sides[pivot]
            sizes[row] += abs(share) * sizes[pivot]
        return np.array(sides), np.array(sizes)


def _find_pivots(matrix: sparse.csr_array, tolerance: Tolerance, most_updates: int) -> _Pivots:
    zeros = np.zeros(matrix.shape[0])
    work = _Elimination(matrix, zeros, zeros, tolerance)
    implied = np.array(list(work.run(most_updates)), np.int64)
    remainder = work.remainder()
    rows, dense = (np.zeros(0, np.int64), None) if remainder is None else remainder[:2]
    dependent = np.zeros(matrix.shape[0], bool)
    dependent[implied] = True
    dependent[rows] = True
    if dense is not None:
        dependent[rows[independent(dense, tolerance)]] = False
    return _Pivots(implied, rows, dense, np.flatnonzero(~dependent), *work.steps())


def sparse_dependencies(
    matrix: sparse.csr_array, tolerance: Tolerance, most_dependencies: int
) -> list[tuple[Integers, Floats]] | None:
    """As `dense_dependencies`, for rows of length one.

    None if there are more than `most_dependencies`, or if the rows fill in.
    """
    zeros = np.zeros(matrix.shape[0])
    work = _Elimination(matrix, zeros, zeros, tolerance)
    implied = list(work.run(MOST_UPDATES)) if matrix.shape[0] * matrix.shape[1] > SMALL_ENOUGH else []
    remainder = work.remainder()
    if remainder is None or len(implied) > most_dependencies:
        return None
    dependencies = [(np.array([row]), np.ones(1)) for row in implied]
    for rows, weights in dense_dependencies(remainder[1], tolerance):
        if len(dependencies) == most_dependencies:
            return None
        dependencies.append((remainder[0][rows], weights))
    return [work.combine(rows, weights) for rows, weights in dependencies]


class _Elimination:
    """The rows while unknowns are eliminated from them."""

    def __init__(self, matrix: sparse.csr_array, rhs: Floats, terms: Floats, tolerance: Tolerance) -> None:
        bounds, columns, values = matrix.indptr.tolist(), matrix.indices.tolist(), matrix.data.tolist()
        self.rows = [dict(zip(columns[a:b], values[a:b], strict=True)) for a, b in pairwise(bounds)]
        self.rhs, self.terms = rhs.tolist(), terms.tolist()
        self._height = [1.0] * len(self.rows)
        self._owners: list[set[int]] = [set() for _ in range(matrix.shape[1])]
        for row, row_values in enumerate(self.rows):
            for column in row_values:
                self._owners[column].add(row)
        self._by_count: list[list[int]] = []
        for column, owners in enumerate(self._owners):
            self._queue(column, len(owners))
        self._tolerance = tolerance
        self._drop = tolerance.rank(*matrix.shape)
        self._steps: list[tuple[int, int, float]] = []
        self._updates = 0

    def run(self, most_updates: int) -> Iterator[int]:
        """Eliminate until a dense factor is cheaper, rows fill in, or `most_updates` numbers were changed.

        Yields rows that have become empty.
        """
        count = pivots = 0
        next_check = CHECKED
        while count < len(self._by_count) and self._updates < most_updates:
            if not self._by_count[count]:
                count += 1
                continue
            column = self._by_count[count].pop()
            owners = self._owners[column]
            if not count or len(owners) != count:
                continue
            pivot = self._choose_pivot(column)
            if (count - 1) * (len(self.rows[pivot]) - 1) > FILLING:
                return
            yield from self._eliminate(column, pivot)
            count, pivots = 0, pivots + 1
            if pivots == next_check:
                if sum(map(bool, self.rows)) * sum(map(bool, self._owners)) <= SMALL_ENOUGH:
                    return
                next_check += max(CHECKED, (len(self.rows) - pivots) // CHECKED)

    def contradicts(self, row: int) -> bool:
        """Whether an empty row says `0 == gap` beyond rounding."""
        return bool(abs(self.rhs[row]) > self._tolerance.consistency(8) * self.terms[row])

    def remainder(self) -> tuple[Integers, Floats, Floats, Floats] | None:
        """The numbers, matrix, right-hand sides and terms of the rows that are not eliminated; None if too many."""
        rows = [row for row, values in enumerate(self.rows) if values]
        columns = sorted({column for row in rows for column in self.rows[row]})
        if not affordable(len(rows), len(columns)):
            return None
        place = {column: k for k, column in enumerate(columns)}
        dense = np.zeros((len(rows), len(columns)))
        for k, row in enumerate(rows):
            for column, value in self.rows[row].items():
                dense[k, place[column]] = value
        row_numbers = np.array(rows, np.int64)
        return row_numbers, dense, np.array(self.rhs)[row_numbers], np.array(self.terms)[row_numbers]

    def combine(self, rows: Integers, weights: Floats) -> tuple[Integers, Floats]:
        """Original rows and multipliers whose combination equals the weighted sum of current rows."""
        multipliers = dict(zip(rows.tolist(), weights.tolist(), strict=True))
        for row, pivot, share in reversed(self._steps):
            weight = multipliers.get(row)
            if weight:
                multipliers[pivot] = multipliers.get(pivot, 0.0) - share * weight
        size = max(map(abs, multipliers.values()))
        used_rows = sorted(row for row, weight in multipliers.items() if abs(weight) > self._drop * size)
        return np.array(used_rows, np.int64), np.array([multipliers[row] for row in used_rows])

    def steps(self) -> tuple[Integers, Integers, Floats]:
        """Rows, pivots and shares of all subtractions."""
        rows, pivots, shares = zip(*self._steps, strict=True) if self._steps else ((), (), ())
        return np.array(rows, np.int64), np.array(pivots, np.int64), np.array(shares, np.float64)

    def _queue(self, column: int, count: int) -> None:
        while len(self._by_count) <= count:
            self._by_count.append([])
        self._by_count[count].append(column)

    def _choose_pivot(self, column: int) -> int:
        """The shortest of the rows whose number in a column is not small."""
        owners, rows = self._owners[column], self.rows
        least = STABLE * max(abs(rows[row][column]) for row in owners)
        return min((row for row in owners if abs(rows[row][column]) >= least), key=lambda row: (len(rows[row]), row))

    def _eliminate(self, column: int, pivot: int) -> Iterator[int]:
        owners, rows = self._owners[column], self.rows
        pivot_row = rows[pivot]
        rows[pivot] = {}
        for other in pivot_row:
            self._owners[other].discard(pivot)
        for row in sorted(owners):
            share = rows[row][column] / pivot_row[column]
            self._steps.append((row, pivot, share))
            self._subtract(row, pivot_row, column, share, self._height[pivot])
            self.rhs[row] -= share * self.rhs[pivot]
            self.terms[row] += abs(share) * self.terms[pivot]
            if not rows[row]:
                yield row
        for other in pivot_row:
            if self._owners[other]:
                self._queue(other, len(self._owners[other]))

    def _subtract(self, row: int, pivot_row: dict[int, float], column: int, share: float, height: float) -> None:
        target = self.rows[row]
        self._height[row] = max(self._height[row], abs(share) * height)
        negligible = self._drop * self._height[row]
        self._updates += len(pivot_row)
        for other, value in pivot_row.items():
            remainder = target.get(other, 0.0) - share * value
            if other == column or abs(remainder) <= negligible:
                if other in target:
                    del target[other]
                    self._owners[other].discard(row)
            else:
                if other not in target:
                    self._owners[other].add(row)
                target[other] = remainder
