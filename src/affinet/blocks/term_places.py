"""Computes the places that the loops of a term read and write: as steps where they are regular, else as a table."""

from __future__ import annotations

import numpy as np

from affinet.blocks.offsets import Dim, Nest, mixed_radix
from affinet.language.calculus.terms import Integers, Term, Variable, row_major_steps, table

Strided = tuple[int, tuple[int, ...], tuple[int, ...]]
"""Offset, steps of at least zero, and the loops that run backwards."""


def source(term: Term) -> Integers | Strided:
    """The places that the loops read: as steps, or as a table of places where a loop has a table."""
    dims = [(variable.size, variable.source) for variable in term.variables if isinstance(variable.source, int)]
    if len(dims) == len(term.variables):
        return _strided(term.offset, dims)
    return _summed_tables(term.offset, [table(v.source, v.size) for v in term.variables]).ravel()


def target(term: Term, shape: tuple[int, ...]) -> Integers | Strided:
    """The places that the loops with outputs write, in a flat array of this shape: as steps where all places differ."""
    steps = row_major_steps(shape)
    offset = sum(step * (start or 0) for step, start in zip(steps, term.start, strict=True))
    output_loops = [variable for variable in term.variables if variable.outputs]
    if all(isinstance(positions, int) for variable in output_loops for _, positions in variable.outputs):
        dims = [(v.size, sum(int(positions) * steps[axis] for axis, positions in v.outputs)) for v in output_loops]
        if mixed_radix(Nest(tuple(dims)), Nest(())):
            return _strided(offset, dims)
    return _summed_tables(offset, [_moved(variable, steps) for variable in output_loops]).ravel()


def aligned(variables: tuple[int, ...], values: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Coefficients with one axis per loop, of size one for loops that they do not depend on."""
    order = np.argsort(variables)
    return np.transpose(values, order).reshape([n if k in variables else 1 for k, n in enumerate(sizes)])


def _moved(variable: Variable, steps: tuple[int, ...]) -> Integers:
    """The distance that each iteration of a loop adds to the place that is written to."""
    moves: Integers = np.zeros(variable.size, np.int64)
    for axis, positions in variable.outputs:
        moves = moves + table(positions, variable.size).astype(np.int64) * steps[axis]
    return moves


def _strided(offset: int, dims: list[Dim]) -> Strided:
    low = offset + sum(step * (size - 1) for size, step in dims if step < 0)
    return low, tuple(abs(step) for _, step in dims), tuple(k for k, (_, step) in enumerate(dims) if step < 0)


def _summed_tables(offset: int, tables: list[Integers]) -> Integers:
    """`offset + Σ_k tables[k][i_k]` over the box of all i."""
    places: Integers = np.full((1,) * len(tables), offset, np.int64)
    for k, positions in enumerate(tables):
        places = places + np.asarray(positions, np.int64).reshape([-1 if j == k else 1 for j in range(len(tables))])
    return places
