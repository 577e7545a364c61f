"""Evaluates an expression at given weights: strided views of the weights, multiplied and summed in pieces per term.

Memory does not grow with the pairs of an equation and an entry, except where a term reads or writes through tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.term_places import Strided, aligned, source, target
from affinet.kernels.torch.precision import exact_matmul, irregular_dtype
from affinet.language.affine import Affine
from affinet.language.calculus.terms import Integers, Term
from affinet.language.expression import Expression
from affinet.language.nodes import Node, nodes_of

PIECE = 2**17
"""Numbers computed at a time: a megabyte of float64 stays in the cache."""


def largest_gap(first: Tensor, second: Tensor, ratio: float, shift: Tensor) -> Tensor:
    """The largest `|first − ratio · second − shift|` in the dtype of `shift`, which broadcasts to both."""
    if not first.ndim:
        return (first.to(shift.dtype) - ratio * second.to(shift.dtype) - shift).abs().amax()
    rows = max(1, PIECE // max(1, first[0].numel()))
    shifts = shift.expand(first.shape)
    gaps = [
        torch.sub(part.to(shift.dtype), image.to(shift.dtype), alpha=ratio).sub_(offset).abs_().amax()
        for part, image, offset in zip(first.split(rows), second.split(rows), shifts.split(rows), strict=True)
    ]
    return torch.stack(gaps).amax()


class Value:
    """The value of an expression in float64, where the device has it; that of its nodes is computed first."""

    def __init__(self, expression: Expression, device: torch.device) -> None:
        self._nodes = [
            (node, [_Affine(operand, device) for operand in node.operands]) for node in nodes_of(expression.affine)
        ]
        self._value = _Affine(expression.affine, device)

    @staticmethod
    def fits(expression: Expression) -> bool:
        """Whether no coefficient is zero, so that a weight that is not finite makes the violation not finite."""
        return all(bool(np.all(factor.values != 0.0)) for term in expression.terms for factor in term.factors)

    def __call__(self, weights: Mapping[str, Tensor]) -> Tensor:
        known = dict(weights)
        for node, operands in self._nodes:
            known[node.name] = node_value(node, [operand(known) for operand in operands])
        return self._value(known)


class _Affine:
    """The value of what is affine in weights and nodes."""

    def __init__(self, expression: Affine, device: torch.device) -> None:
        self._shape, self._dtype = expression.shape, irregular_dtype(device)
        self._constant = torch.as_tensor(np.array(expression.constant), dtype=self._dtype, device=device)
        self._terms = [_TermValue(term, expression.shape, device) for term in expression.terms]

    def __call__(self, weights: Mapping[str, Tensor]) -> Tensor:
        value = self._constant.expand(self._shape).clone()
        for term in self._terms:
            term.add_to(value, weights)
        return value


def node_value(node: Node, operands: list[Tensor]) -> Tensor:
    """The numbers of a node from those of its operands; nan where it has none."""
    first = operands[0]
    match node.kind:
        case "multiply":
            return first * operands[1]
        case "matmul":
            return exact_matmul(first) @ operands[1]
        case "power":
            return first**node.exponent
        case "function":
            assert node.opaque is not None
            results: Tensor = node.opaque.values(first)
            return results
        case "det":
            determinant: Tensor = torch.linalg.det(first)
            return determinant
        case "inverse":
            inverse, failed = torch.linalg.inv_ex(first)
            return torch.where(failed[..., None, None] != 0, torch.nan, inverse)
    made: Tensor = getattr(torch, node.kind)(first)
    return made


class _TermValue:
    """The value of one term, added to the value of its expression."""

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
        self._sums_shape = tuple(1 if start is None else n for start, n in zip(term.start, shape, strict=True))
        self._target = _on_device(target(term, self._sums_shape), device)

    def add_to(self, value: Tensor, weights: Mapping[str, Tensor]) -> None:
        """Add the term to `value`, which has the expression's shape."""
        flat = weights[self._name].contiguous().view(-1)
        summed = self._reduced(self._read(flat))
        covers_all = value.shape == self._sums_shape
        sums = value if covers_all else torch.zeros(self._sums_shape, dtype=self._dtype, device=value.device)
        if isinstance(self._target, Tensor):
            sums.view(-1).index_add_(0, self._target, summed.reshape(-1))
        else:
            offset, steps, flips = self._target
            sums.as_strided(summed.shape, steps, offset).add_(summed.flip(flips) if flips else summed)
        if not covers_all:
            value += sums

    def _read(self, flat: Tensor) -> Tensor:
        """The entries that the loops read, in the shape of the loops."""
        if isinstance(self._source, Tensor):
            return flat.index_select(0, self._source).view(self._sizes)
        offset, steps, flips = self._source
        view = flat.as_strided(self._sizes, steps, flat.storage_offset() + offset)
        return view.flip(flips) if flips else view

    def _reduced(self, entries: Tensor) -> Tensor:
        """Entries times coefficients, summed over loops without an output axis; a piece of the first loop at a time."""
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
