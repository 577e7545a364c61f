"""Evaluate an expression at given weights, term by term: strided views of the weights, multiplied and summed in pieces.

Nothing is kept for a pair of an equation and an entry but where a term reads or writes through tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.offsets import Dim, Nest, mixed_radix
from affinet.kernels.torch.precision import irregular_dtype
from affinet.language.calculus.terms import Integers, Term, Variable, row_major_steps, table
from affinet.language.expression import Expression

PIECE = 2**17
"""Numbers computed at a time: a megabyte of float64 stays in the cache."""


def largest_gap(one: Tensor, other: Tensor, ratio: float, shift: Tensor) -> Tensor:
    """The largest `|one − ratio · other − shift|` in the dtype of `shift`, which broadcasts to both."""
    if not one.ndim:
        return (one.to(shift.dtype) - ratio * other.to(shift.dtype) - shift).abs().amax()
    rows = max(1, PIECE // max(1, one[0].numel()))
    shifts = shift.expand(one.shape)
    gaps = [
        torch.sub(part.to(shift.dtype), image.to(shift.dtype), alpha=ratio).sub_(away).abs_().amax()
        for part, image, away in zip(one.split(rows), other.split(rows), shifts.split(rows), strict=True)
    ]
    return torch.stack(gaps).amax()


class Value:
    """The value of an expression in float64, where the device has it."""

    def __init__(self, expression: Expression, device: torch.device) -> None:
        self._shape, self._dtype = expression.shape, irregular_dtype(device)
        self._constant = torch.as_tensor(np.array(expression.constant), dtype=self._dtype, device=device)
        self._terms = [_TermValue(term, expression.shape, device) for term in expression.terms]

    @staticmethod
    def fits(expression: Expression) -> bool:
        """Whether no coefficient is zero: a weight that is not finite is then in the rule, and makes it so."""
        return all(bool(np.all(factor.values != 0.0)) for term in expression.terms for factor in term.factors)

    def __call__(self, weights: Mapping[str, Tensor]) -> Tensor:
        value = self._constant.expand(self._shape).clone()
        for term in self._terms:
            term.add_to(value, weights)
        return value


class _TermValue:
    """What one term adds."""

    def __init__(self, term: Term, shape: tuple[int, ...], device: torch.device) -> None:
        self._name, self._scalar, self._dtype = term.parameter.name, term.scalar, irregular_dtype(device)
        self._sizes = tuple(variable.size for variable in term.variables)
        self._coefficients = [
            torch.as_tensor(_aligned(factor.variables, factor.values, self._sizes), dtype=self._dtype, device=device)
            for factor in term.factors
        ]
        self._summed = tuple(k for k, variable in enumerate(term.variables) if not variable.outputs)
        self._source = _source(term, device)
        self._held = tuple(1 if start is None else n for start, n in zip(term.start, shape, strict=True))
        self._target = _target(term, self._held, device)

    def add_to(self, value: Tensor, weights: Mapping[str, Tensor]) -> None:
        """Add the term to `value`, which has the expression's shape."""
        flat = weights[self._name].contiguous().view(-1)
        found = self._reduced(self._read(flat))
        whole = value.shape == self._held
        held = value if whole else torch.zeros(self._held, dtype=self._dtype, device=value.device)
        if isinstance(self._target, Tensor):
            held.view(-1).index_add_(0, self._target, found.reshape(-1))
        else:
            offset, steps, flips = self._target
            held.as_strided(found.shape, steps, offset).add_(found.flip(flips) if flips else found)
        if not whole:
            value += held

    def _read(self, flat: Tensor) -> Tensor:
        """The entries in the box of the loops."""
        if isinstance(self._source, Tensor):
            return flat.index_select(0, self._source).view(self._sizes)
        offset, steps, flips = self._source
        view = flat.as_strided(self._sizes, steps, flat.storage_offset() + offset)
        return view.flip(flips) if flips else view

    def _reduced(self, entries: Tensor) -> Tensor:
        """Entries times coefficients, summed over loops that move along no axis; some of the first loop at a time."""
        if not self._sizes:
            return entries.to(self._dtype) * self._scalar * prod(float(c) for c in self._coefficients)
        rows = max(1, PIECE // max(1, prod(self._sizes[1:])))
        pieces = []
        for first in range(0, self._sizes[0], rows):
            piece = entries[first : first + rows].to(self._dtype, copy=True).mul_(self._scalar)
            for values in self._coefficients:
                piece *= values[first : first + rows] if len(values) > 1 else values
            pieces.append(piece.sum(self._summed) if self._summed else piece)
        if 0 in self._summed:
            return torch.stack(pieces).sum(0)
        return torch.cat(pieces)


Strided = tuple[int, tuple[int, ...], tuple[int, ...]]
"""Offset, steps of at least zero, and the loops that run backwards."""


def _source(term: Term, device: torch.device) -> Tensor | Strided:
    """Where the box of loops reads: as steps, or as places one by one where a loop has a table."""
    dims = [(variable.size, variable.source) for variable in term.variables if isinstance(variable.source, int)]
    if len(dims) == len(term.variables):
        return _strided(term.offset, dims)
    places = _summed_tables(term.offset, [table(v.source, v.size) for v in term.variables])
    return torch.as_tensor(places.ravel(), device=device)


def _target(term: Term, held: tuple[int, ...], device: torch.device) -> Tensor | Strided:
    """Where the loops that are left write, in the flat array of shape `held`: as steps where no two places are one."""
    steps = row_major_steps(held)
    offset = sum(step * (start or 0) for step, start in zip(steps, term.start, strict=True))
    left = [variable for variable in term.variables if variable.outputs]
    if all(isinstance(positions, int) for variable in left for _, positions in variable.outputs):
        dims = [(v.size, sum(int(positions) * steps[axis] for axis, positions in v.outputs)) for v in left]
        if mixed_radix(Nest(tuple(dims)), Nest(())):
            return _strided(offset, dims)
    places = _summed_tables(offset, [_moved(variable, steps) for variable in left])
    return torch.as_tensor(places.ravel(), device=device)


def _moved(variable: Variable, steps: tuple[int, ...]) -> Integers:
    """By how much each turn of a loop moves the place that is written to."""
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


def _aligned(variables: tuple[int, ...], values: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Coefficients with an axis for every loop, of size one for those on which they do not depend."""
    order = np.argsort(variables)
    return np.array(np.transpose(values, order)).reshape([n if k in variables else 1 for k, n in enumerate(sizes)])
