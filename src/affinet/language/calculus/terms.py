"""The loop-nest term, which holds what one weight tensor adds to an expression, written once for a box of entries."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from affinet.language.calculus.marked import Marked

Integers = NDArray[np.integer]
Floats = NDArray[np.float64]
Map = int | Integers
"""The positions of a loop variable at 0, 1, …: a step (the position is `step * i`) or a table."""
Source = Map | Marked
"""The entries that a loop variable reads: a map, or the places of a mask."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A weight tensor as the language knows it: its name and its shape, without its numbers.

    `labels` has for each axis the names of its positions, where they have names; they are for indexing alone.
    """

    name: str
    shape: tuple[int, ...]
    labels: tuple[tuple[str, ...] | None, ...] = field(default=(), compare=False, repr=False, kw_only=True)

    @property
    def size(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True, eq=False, slots=True)
class Variable:
    """One loop of a term: its size, where it reads, and the output axes that it moves along.

    `outputs` is `((axis, map), …)`; a variable without outputs is summed over.
    """

    size: int
    source: Source
    outputs: tuple[tuple[int, Map], ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class Factor:
    """Coefficients that depend on some of a term's variables: `values[i_v for v in variables]`.

    `values` may be a broadcast or overlapping view (a Toeplitz matrix of n + m numbers), so it is never written to.
    """

    variables: tuple[int, ...]
    values: Floats


@dataclass(frozen=True, eq=False, slots=True)
class Term:
    """`out[start + Σ_v output_v(i_v)] += scalar · ∏ factors · parameter.flat[offset + Σ_v source_v(i_v)]`.

    The sum runs over the box of all variables. `start` has one number per output axis; `None` means that the term
    is the same at every position of that axis (broadcast), and then no variable moves along it. On an axis of size
    one `None` and 0 mean the same. Normal form: no variable has size one (it is folded into `offset` and `start`).
    """

    parameter: Parameter
    offset: int
    variables: tuple[Variable, ...]
    scalar: float
    factors: tuple[Factor, ...]
    start: tuple[int | None, ...]

    @property
    def count(self) -> int:
        """The number of (equation, entry) pairs in the box, without those that broadcast axes repeat."""
        return prod(variable.size for variable in self.variables)

    def variables_on(self, axis: int) -> list[int]:
        """The numbers of the variables that move along output axis `axis`."""
        return [k for k, v in enumerate(self.variables) if any(a == axis for a, _ in v.outputs)]


def identity(parameter: Parameter) -> Term:
    """The term that reads all entries of `parameter` in place; an axis of size one needs no variable."""
    sizes = zip(parameter.shape, row_major_steps(parameter.shape), strict=True)
    variables = tuple(Variable(n, step, ((axis, 1),)) for axis, (n, step) in enumerate(sizes) if n != 1)
    return Term(parameter, 0, variables, 1.0, (), (0,) * len(parameter.shape))


def is_identity(term: Term, shape: tuple[int, ...]) -> bool:
    """Whether an expression of this shape and this one term is the whole of a parameter, entry by entry."""
    if shape != term.parameter.shape or term.offset or term.scalar != 1.0 or term.factors or any(term.start):
        return False
    maps = [read for v in term.variables for read in (v.source, *(read for _, read in v.outputs))]
    if not all(isinstance(read, int) for read in maps):
        return False
    plain = identity(term.parameter).variables
    return {(v.size, v.source, v.outputs) for v in term.variables} == {(v.size, v.source, v.outputs) for v in plain}


def row_major_steps(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The distance in entries between neighbours along each axis of a row-major tensor of this shape."""
    steps, step = [], 1
    for n in reversed(shape):
        steps.append(step)
        step *= n
    return tuple(reversed(steps))


def table(positions: Source, size: int) -> Integers:
    """The positions of a map, written out one by one."""
    if isinstance(positions, Marked):
        return positions.table()
    return np.arange(size, dtype=np.int64) * positions if isinstance(positions, int) else positions


def narrow(positions: Integers) -> Integers:
    """The same table in 32 bits where its numbers allow."""
    if positions.size and (positions.max() >= 2**31 or positions.min() < -(2**31)):
        return positions.astype(np.int64, copy=False)
    return positions.astype(np.int32, copy=False)


def held_bytes(term: Term) -> int:
    """The memory of the term's tables and coefficients in bytes; overlapping views count the numbers that they span."""
    total = 64
    for variable in term.variables:
        maps = (variable.source, *(positions for _, positions in variable.outputs))
        total += 64 + sum(m.nbytes for m in maps if not isinstance(m, int))
    return total + sum(spanned_bytes(factor.values) for factor in term.factors)


def lower(term: Term, shape: tuple[int, ...]) -> tuple[Integers, Integers, Floats]:
    """Write a term out as rows, entries and values: one triple for each pair whose coefficient is not zero.

    Rows are row-major positions in an expression of shape `shape`; entries are row-major positions in the parameter.
    Pairs may repeat; their values add up.
    """
    variables, start = list(term.variables), list(term.start)
    for axis, size in enumerate(shape):
        if start[axis] is None:
            start[axis] = 0
            variables.append(Variable(size, 0, ((axis, 1),)))
    steps, depth = row_major_steps(shape), len(variables)
    box = tuple(v.size for v in variables)
    rows = np.full((1,) * depth, sum(step * (first or 0) for step, first in zip(steps, start, strict=True)), np.int64)
    entries = np.full((1,) * depth, term.offset, np.int64)
    values = np.full((1,) * depth, term.scalar)
    for k, variable in enumerate(variables):
        entries = entries + _on_axis(table(variable.source, variable.size), k, depth)
        for axis, positions in variable.outputs:
            rows = rows + _on_axis(table(positions, variable.size).astype(np.int64) * steps[axis], k, depth)
    for factor in term.factors:
        order = np.argsort(factor.variables)
        sizes = [box[k] if k in factor.variables else 1 for k in range(depth)]
        values = values * np.transpose(factor.values, order).reshape(sizes)
    flat_rows, flat_entries, flat_values = (np.broadcast_to(array, box).ravel() for array in (rows, entries, values))
    if not term.factors and term.scalar != 0.0:
        return flat_rows, flat_entries, flat_values
    nonzero = flat_values != 0
    if nonzero.all():
        return flat_rows, flat_entries, flat_values
    return flat_rows[nonzero], flat_entries[nonzero], flat_values[nonzero]


def _on_axis(values: Integers, axis: int, depth: int) -> Integers:
    return np.asarray(values, np.int64).reshape([-1 if k == axis else 1 for k in range(depth)])


def spanned_bytes(values: Floats) -> int:
    """The memory in bytes between the first and the last number of an array that may overlap itself."""
    span = sum(abs(step) * (n - 1) for step, n in zip(values.strides, values.shape, strict=True))
    return int(span + values.itemsize)


def without_repetitions(values: Floats) -> Floats:
    """The array without repetitions: one that overlaps itself is read as its underlying memory."""
    if not values.size or (span := spanned_bytes(values)) >= values.nbytes:
        return values
    lowest = values[tuple(slice(0, 1) if step >= 0 else slice(-1, None) for step in values.strides)]
    return as_strided(lowest, (span // values.itemsize,), (values.itemsize,), writeable=False)
