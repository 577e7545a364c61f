"""Circuits among sparse equations: eliminated one unknown after the other, dense once few are left."""

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
"""Numbers that elimination may change (about one a microsecond) before it gives up: the rows have filled in."""
FILLING = 64
"""Numbers that the cheapest pivot may fill in, (equations − 1) · (entries − 1) of it: beyond, all rows fill in."""
STABLE = 0.1
"""A pivot is at least this share of the largest number in its column, which bounds the growth of the others."""
CHECKED = 64
"""Pivots, or one to so many rows that are left, between two looks at whether what is left is small enough."""


def sparse_circuits(
    matrix: sparse.csr_array, rhs: Floats, terms: Floats, tolerance: Tolerance
) -> Iterator[tuple[Integers, Floats]]:
    """Rows and multipliers of contradictions, in rows of length one; nothing where they hold or fill in.

    Law: as in `dense_circuits`, the rows with a pivot being the basis. An unknown in the fewest equations goes first,
    by the shortest of these (Markowitz, 1957), so that ties and paths of them never fill in.
    """
    work = _Elimination(matrix, rhs, terms, tolerance)
    for row in work.run(MOST_UPDATES):
        if work.contradicts(row):
            yield work.combination(np.array([row]), np.ones(1))
    left = work.left()
    if left is not None:
        for rows, weights in dense_circuits(*left[1:], tolerance):
            yield work.combination(left[0][rows], weights)


def sparse_basis(
    matrix: sparse.csr_array, rhs: Floats, terms: Floats, tolerance: Tolerance, most: int
) -> tuple[Integers, bool] | None:
    """Independent rows that span all others, rising, and whether these can hold; None where the rows fill in.

    `most` numbers may be changed. Shapes and rows as in `sparse_circuits`.
    """
    if matrix.nnz > most:
        return None
    found = from_coefficients(_pivots, matrix, tolerance, most)
    rhs, terms = found.subtracted(rhs, terms)
    implied = found.implied
    if (np.abs(rhs[implied]) > tolerance.consistency(8) * terms[implied]).any():
        return np.zeros(0, np.int64), False
    if found.dense is None:
        return None
    rows = found.rows
    if next(dense_circuits(found.dense, rhs[rows], terms[rows], tolerance), None) is not None:
        return np.zeros(0, np.int64), False
    return found.kept, True


@dataclass(frozen=True, eq=False)
class _Pivots:
    """An elimination without right-hand sides.

    `implied` are rows with nothing left; `rows` and `dense` what was not eliminated, None where that is too much;
    `kept` are independent rows, rising. In each step, one after the other, `share` times row `pivot` was subtracted
    from `row`.
    """

    implied: Integers
    rows: Integers
    dense: Floats | None
    kept: Integers
    row: Integers
    pivot: Integers
    share: Floats

    def subtracted(self, rhs: Floats, terms: Floats) -> tuple[Floats, Floats]:
        """Right-hand sides and their terms after all steps."""
        sides, sizes = rhs.tolist(), terms.tolist()
        for row, pivot, share in zip(self.row.tolist(), self.pivot.tolist(), self.share.tolist(), strict=True):
            sides[row] -= share * sides[pivot]
            sizes[row] += abs(share) * sizes[pivot]
        return np.array(sides), np.array(sizes)


def _pivots(matrix: sparse.csr_array, tolerance: Tolerance, most: int) -> _Pivots:
    none = np.zeros(matrix.shape[0])
    work = _Elimination(matrix, none, none, tolerance)
    implied = np.array(list(work.run(most)), np.int64)
    left = work.left()
    rows, dense = (np.zeros(0, np.int64), None) if left is None else left[:2]
    dependent = np.zeros(matrix.shape[0], bool)
    dependent[implied] = True
    dependent[rows] = True
    if dense is not None:
        dependent[rows[independent(dense, tolerance)]] = False
    return _Pivots(implied, rows, dense, np.flatnonzero(~dependent), *work.steps())


def sparse_dependencies(
    matrix: sparse.csr_array, tolerance: Tolerance, most: int
) -> list[tuple[Integers, Floats]] | None:
    """As `dense_dependencies`, of rows of length one; None where there are more than `most`, or the rows fill in."""
    none = np.zeros(matrix.shape[0])
    work = _Elimination(matrix, none, none, tolerance)
    implied = list(work.run(MOST_UPDATES)) if matrix.shape[0] * matrix.shape[1] > SMALL_ENOUGH else []
    left = work.left()
    if left is None or len(implied) > most:
        return None
    found = [(np.array([row]), np.ones(1)) for row in implied]
    for rows, weights in dense_dependencies(left[1], tolerance):
        if len(found) == most:
            return None
        found.append((left[0][rows], weights))
    return [work.combination(rows, weights) for rows, weights in found]


class _Elimination:
    """The rows while unknowns are eliminated from them; local to `sparse_circuits`."""

    def __init__(self, matrix: sparse.csr_array, rhs: Floats, terms: Floats, tolerance: Tolerance) -> None:
        bounds, columns, values = matrix.indptr.tolist(), matrix.indices.tolist(), matrix.data.tolist()
        self.rows = [dict(zip(columns[a:b], values[a:b], strict=True)) for a, b in pairwise(bounds)]
        self.rhs, self.terms = rhs.tolist(), terms.tolist()
        self._height = [1.0] * len(self.rows)
        self._owners: list[set[int]] = [set() for _ in range(matrix.shape[1])]
        for row, held in enumerate(self.rows):
            for column in held:
                self._owners[column].add(row)
        self._by_count: list[list[int]] = []
        for column, owners in enumerate(self._owners):
            self._file(column, len(owners))
        self._tolerance = tolerance
        self._drop = tolerance.rank(*matrix.shape)
        self._steps: list[tuple[int, int, float]] = []
        self._updates = 0

    def run(self, most: int) -> Iterator[int]:
        """Eliminate until a dense factor is cheaper, or rows fill in, or `most` numbers were changed.

        Yields rows with nothing left.
        """
        low = pivots = 0
        check = CHECKED
        while low < len(self._by_count) and self._updates < most:
            if not self._by_count[low]:
                low += 1
                continue
            column = self._by_count[low].pop()
            owners = self._owners[column]
            if not low or len(owners) != low:
                continue
            pivot = self._pivot(column)
            if (low - 1) * (len(self.rows[pivot]) - 1) > FILLING:
                return
            yield from self._eliminate(column, pivot)
            low, pivots = 0, pivots + 1
            if pivots == check:
                if sum(map(bool, self.rows)) * sum(map(bool, self._owners)) <= SMALL_ENOUGH:
                    return
                check += max(CHECKED, (len(self.rows) - pivots) // CHECKED)

    def contradicts(self, row: int) -> bool:
        """Whether a row with nothing left says `0 == gap` beyond rounding."""
        return bool(abs(self.rhs[row]) > self._tolerance.consistency(8) * self.terms[row])

    def left(self) -> tuple[Integers, Floats, Floats, Floats] | None:
        """The rows that are not eliminated: which, their matrix, right-hand sides and terms; None where too many."""
        rows = [row for row, values in enumerate(self.rows) if values]
        columns = sorted({column for row in rows for column in self.rows[row]})
        if not affordable(len(rows), len(columns)):
            return None
        place = {column: k for k, column in enumerate(columns)}
        dense = np.zeros((len(rows), len(columns)))
        for k, row in enumerate(rows):
            for column, value in self.rows[row].items():
                dense[k, place[column]] = value
        kept = np.array(rows, np.int64)
        return kept, dense, np.array(self.rhs)[kept], np.array(self.terms)[kept]

    def combination(self, rows: Integers, weights: Floats) -> tuple[Integers, Floats]:
        """The rows as they were, and their multipliers, that the given multiple of rows as they are stands for."""
        held = dict(zip(rows.tolist(), weights.tolist(), strict=True))
        for row, pivot, share in reversed(self._steps):
            weight = held.get(row)
            if weight:
                held[pivot] = held.get(pivot, 0.0) - share * weight
        size = max(map(abs, held.values()))
        kept = sorted(row for row, weight in held.items() if abs(weight) > self._drop * size)
        return np.array(kept, np.int64), np.array([held[row] for row in kept])

    def steps(self) -> tuple[Integers, Integers, Floats]:
        """Rows, pivots and shares of all that was subtracted."""
        rows, pivots, shares = zip(*self._steps, strict=True) if self._steps else ((), (), ())
        return np.array(rows, np.int64), np.array(pivots, np.int64), np.array(shares, np.float64)

    def _file(self, column: int, count: int) -> None:
        while len(self._by_count) <= count:
            self._by_count.append([])
        self._by_count[count].append(column)

    def _pivot(self, column: int) -> int:
        """The shortest row of a column whose number there is not small."""
        owners, rows = self._owners[column], self.rows
        least = STABLE * max(abs(rows[row][column]) for row in owners)
        return min((row for row in owners if abs(rows[row][column]) >= least), key=lambda row: (len(rows[row]), row))

    def _eliminate(self, column: int, pivot: int) -> Iterator[int]:
        owners, rows = self._owners[column], self.rows
        taken = rows[pivot]
        rows[pivot] = {}
        for other in taken:
            self._owners[other].discard(pivot)
        for row in sorted(owners):
            share = rows[row][column] / taken[column]
            self._steps.append((row, pivot, share))
            self._subtract(row, taken, column, share, self._height[pivot])
            self.rhs[row] -= share * self.rhs[pivot]
            self.terms[row] += abs(share) * self.terms[pivot]
            if not rows[row]:
                yield row
        for other in taken:
            if self._owners[other]:
                self._file(other, len(self._owners[other]))

    def _subtract(self, row: int, taken: dict[int, float], column: int, share: float, height: float) -> None:
        held = self.rows[row]
        self._height[row] = max(self._height[row], abs(share) * height)
        least = self._drop * self._height[row]
        self._updates += len(taken)
        for other, value in taken.items():
            left = held.get(other, 0.0) - share * value
            if other == column or abs(left) <= least:
                if other in held:
                    del held[other]
                    self._owners[other].discard(row)
            else:
                if other not in held:
                    self._owners[other].add(row)
                held[other] = left
