"""Evaluate an expression at given weights, term by term: strided views of the weights, multiplied and summed in pieces.

Nothing is kept for a pair of an equation and an entry but where a term reads or writes through tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.term_places import Strided, aligned, source, target
from affinet.kernels.torch.precision import irregular_dtype
from affinet.language.calculus.terms import Integers, Term
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
            torch.as_tensor(
                np.array(aligned(factor.variables, factor.values, self._sizes)), dtype=self._dtype, device=device
            )
            for factor in term.factors
        ]
        self._summed = tuple(k for k, variable in enumerate(term.variables) if not variable.outputs)
        self._source = _on_device(source(term), device)
        self._held = tuple(1 if start is None else n for start, n in zip(term.start, shape, strict=True))
        self._target = _on_device(target(term, self._held), device)

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


def _on_device(places: Integers | Strided, device: torch.device) -> Tensor | Strided:
    return places if isinstance(places, tuple) else torch.as_tensor(places, device=device)
