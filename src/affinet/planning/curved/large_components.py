"""Make the program of one large component from the steps and equations that its columns belong to, and its set."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from affinet.blocks.interval import Interval
from affinet.blocks.large_curved_set import LargeCurvedSet
from affinet.blocks.programs.equation_program import EquationProgram, LargeStep, SparseMap
from affinet.blocks.programs.linear_part import Matrix, linear_part
from affinet.blocks.programs.written_derivatives import written_out
from affinet.language.calculus.terms import Integers
from affinet.planning.curved.lowering import Lowered, LoweredStep
from affinet.planning.elimination.filling import forecast_fill
from affinet.planning.elimination.peeling import independent_rows
from affinet.system.limits import Limits
from affinet.system.rows import Rows
from affinet.system.system import System


def large_program(lowered: Lowered, belongs: np.ndarray, equations: Integers, weights: int) -> EquationProgram:
    """The program of these equations over the columns that belong to a component.

    Columns below `weights` are its entries, in order.
    """
    entries = np.flatnonzero(belongs[:weights])
    local = np.zeros(lowered.width, np.int64)
    local[entries] = np.arange(len(entries))
    count, steps = len(entries), []
    for step in sorted(lowered.steps, key=lambda each: each.first):
        numbers = np.flatnonzero(belongs[step.first : step.first + step.count])
        for part, made in _steps(step, numbers, local, count):
            local[step.first + made] = count + np.arange(len(made))
            steps.append(part)
            count += len(made)
    return EquationProgram(len(entries), tuple(steps), _map(lowered.equations, equations, local, count))


def large_set(program: EquationProgram, limits: Limits) -> LargeCurvedSet:
    """The set of a program: derivatives are written out where they are not those of products of matrices."""
    written = written_out(program, limits.most_written_derivatives)
    factors = written is not None and forecast_fill(written.pattern()) <= limits.largest_fill
    return LargeCurvedSet(program, written, factors)


def large_rank(curved: LargeCurvedSet, system: System) -> int | Interval:
    """The rank of the derivatives at a random point, or bounds on it."""
    program = curved.program
    part = linear_part(program, curved.written, np.random.default_rng(0).standard_normal(program.width))
    if not isinstance(part.derivatives, Matrix):
        return Interval(1, min(program.equations, program.width))
    zeros = np.zeros(program.equations)
    rank = independent_rows(part.derivatives.matrix, zeros, zeros, system.tolerance, system.limits).rank
    return rank.low if rank.low == rank.high else rank


def _steps(step: LoweredStep, numbers: Integers, local: Integers, count: int) -> list[tuple[LargeStep, Integers]]:
    """The step for these numbers of it, and the numbers in the order in which it makes them.

    Products of matrices are one step per matrix, of the rows and columns that are read.
    """
    if not len(numbers):
        return []
    shape = step.shape
    if shape is None:
        maps = tuple(_map(operand, step.rows_of(numbers), local, count) for operand in step.operands)
        return [(LargeStep(step.kind, step.exponent, step.size, (0, 0, 0), maps, step.opaque), numbers)]
    parts: list[tuple[LargeStep, Integers]] = []
    area = shape.rows * shape.columns
    for matrix in np.unique(numbers // area):
        of_matrix = numbers[numbers // area == matrix]
        lines = [np.unique(shape.lines(place, of_matrix)) for place in (0, 1)]
        read = lines[0][:, None] * shape.columns + lines[1] % shape.columns
        left = shape.entries(0, lines[0]).ravel()
        right = shape.entries(1, lines[1]).T.ravel()
        before = count + sum(len(made) for _, made in parts)
        maps = tuple(_map(o, rows, local, before) for o, rows in zip(step.operands, (left, right), strict=True))
        sizes = len(lines[0]), shape.terms, len(lines[1])
        parts.append((LargeStep("matmul", 0, 0, sizes, maps), np.asarray(read.ravel())))
    return parts


def _map(rows: Rows, numbers: Integers, local: Integers, count: int) -> SparseMap:
    """The numbered rows over the numbers that a component has so far."""
    chosen = rows.select(numbers)
    index = np.int32 if max(len(chosen.columns), count) < 2**31 else np.int64
    columns, bounds = local[chosen.columns].astype(index), chosen.bounds.astype(index)
    return SparseMap(sparse.csr_array((chosen.values, columns, bounds), shape=(chosen.count, count)), -chosen.rhs)
