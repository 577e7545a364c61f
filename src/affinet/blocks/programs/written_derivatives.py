"""Write the derivatives of a large component out as a sparse matrix, whose pattern is found once from its program.

Each number of a step has a slope: its derivatives by entries, a run of values. A value is a sum of products of a
coefficient, a derivative of the step, and a value of the slope of an earlier number; the places of all three follow
from the program, so that a point costs one gather per step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from affinet.blocks.programs.equation_program import EquationProgram, LargeStep
from affinet.language.calculus.terms import Floats, Integers


@dataclass(frozen=True, eq=False)
class _Gather:
    """`value_k = Σ coefficient · derivative[of_step] · value[earlier]` over the run of each k, from `starts[k]` on."""

    coefficient: Floats
    of_step: Integers
    earlier: Integers
    starts: Integers

    def values(self, derivatives: Floats, known: Floats) -> Floats:
        if not len(self.starts):
            return np.zeros(0)
        products = self.coefficient * derivatives[self.of_step]
        products *= known[self.earlier]
        return products if len(products) == len(self.starts) else np.add.reduceat(products, self.starts)


@dataclass(frozen=True, eq=False)
class WrittenDerivatives:
    """How `J` is computed from the slopes of the steps, and its pattern (`columns`, `bounds` of its rows)."""

    shape: tuple[int, int]
    steps: tuple[_Gather, ...]
    outputs: _Gather
    columns: Integers
    bounds: Integers

    def matrix(self, slopes: list[list[Floats]]) -> sparse.csr_array:
        """`J` at the point of these slopes."""
        known = np.ones(1)
        for gather, of_step in zip(self.steps, slopes, strict=True):
            derivatives = np.concatenate(of_step) if len(of_step) > 1 else of_step[0]
            known = np.concatenate([known, gather.values(derivatives, known)])
        data = self.outputs.values(np.ones(1), known)
        return sparse.csr_array((data, self.columns, self.bounds), shape=self.shape)

    def pattern(self) -> sparse.csr_array:
        """The places of `J`, each with a one."""
        return sparse.csr_array((np.ones(len(self.columns)), self.columns, self.bounds), shape=self.shape)


@dataclass
class _Slopes:
    """The slopes of all numbers so far: `columns` and `places` in runs that `bounds` divide."""

    bounds: Integers
    columns: Integers
    places: Integers
    count: int

    def of(self, numbers: Integers) -> tuple[Integers, Integers, Integers]:
        """For each pair of one of these numbers and an entry of its slope: which number, the entry and the place."""
        lengths = np.diff(self.bounds)[numbers]
        first = np.cumsum(lengths) - lengths
        place_of_each = np.repeat(np.arange(len(numbers)), lengths)
        at = np.repeat(self.bounds[:-1][numbers] - first, lengths) + np.arange(len(place_of_each))
        return place_of_each, self.columns[at], self.places[at]

    def added(self, rows: Integers, columns: Integers, count: int) -> _Slopes:
        """With the slopes of `count` further numbers: values in the order of rows, at these columns."""
        lengths = np.bincount(rows, minlength=count)
        bounds = np.concatenate([self.bounds, self.bounds[-1] + np.cumsum(lengths)])
        places = self.count + np.arange(len(rows))
        joined = np.concatenate([self.columns, columns]), np.concatenate([self.places, places])
        return _Slopes(bounds, *joined, self.count + len(rows))


def written_out(program: EquationProgram, most: int) -> WrittenDerivatives | None:
    """The derivatives of a program as a sparse matrix; None where that takes more than `most` products at a point."""
    if any(step.kind in ("matmul", "inverse", "function") for step in program.steps):
        return None
    width, total = program.width, 0
    slopes = _Slopes(np.arange(width + 1), np.arange(width), np.zeros(width, np.int64), 1)
    gathers = []
    for step in program.steps:
        parts, first = [], 0
        for operand in step.operands:
            row, column, coefficient = _triples(operand.matrix)
            total += int(np.diff(slopes.bounds)[column].sum())
            if total > most:
                return None
            place_of_each, entry, place = slopes.of(column)
            parts.append(
                (
                    _number(step, row[place_of_each]),
                    entry,
                    coefficient[place_of_each],
                    first + row[place_of_each],
                    place,
                )
            )
            first += operand.matrix.shape[0]
        gather, rows, entries = _gathered(*(np.concatenate(part) for part in zip(*parts, strict=True)), width=width)
        gathers.append(gather)
        slopes = slopes.added(rows, entries, step.count)
    row, column, coefficient = _triples(program.outputs.matrix)
    if total + int(np.diff(slopes.bounds)[column].sum()) > most:
        return None
    place_of_each, entry, place = slopes.of(column)
    zeros = np.zeros(len(place_of_each), np.int64)
    outputs, rows, entries = _gathered(row[place_of_each], entry, coefficient[place_of_each], zeros, place, width=width)
    bounds = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=program.equations))])
    index = np.int32 if len(entries) < 2**31 else np.int64
    shape = program.equations, width
    return WrittenDerivatives(shape, tuple(gathers), outputs, entries.astype(index), bounds.astype(index))


def _number(step: LargeStep, rows: Integers) -> Integers:
    """The number of a step that a row of its operand enters."""
    return rows // step.size**2 if step.kind == "det" else rows


def _triples(matrix: sparse.csr_array) -> tuple[Integers, Integers, Floats]:
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return rows, matrix.indices.astype(np.int64), matrix.data


def _gathered(
    rows: Integers, entries: Integers, coefficient: Floats, of_step: Integers, earlier: Integers, *, width: int
) -> tuple[_Gather, Integers, Integers]:
    """The products in the order of rows and entries, and the row and entry of each sum."""
    key = rows * width + entries
    order = np.argsort(key, kind="stable")
    sorted_key = key[order]
    starts = np.flatnonzero(np.concatenate([[True], sorted_key[1:] != sorted_key[:-1]])[: len(key)])
    gather = _Gather(coefficient[order], of_step[order], earlier[order], starts)
    return gather, sorted_key[starts] // width, sorted_key[starts] % width
