"""The left sides of rules minus their right sides, products with their transposed derivatives, and norms of the rows.

Rules that planning would write out one by one are sparse rows here too; others are evaluated by their terms, so that
memory does not grow with the pairs of a row and an entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from affinet.kernels.torch.evaluating import node_value
from affinet.kernels.torch.matrix_norms import lengths
from affinet.kernels.torch.matrix_norms import slope as norm_slope
from affinet.kernels.torch.precision import irregular_dtype
from affinet.kernels.torch.term_adjoints import AffineMap
from affinet.language.nodes import Node, nodes_of
from affinet.system.distinct import ranked
from affinet.system.rows import Rows
from affinet.system.system import Rule, System

Tensors = Mapping[str, Tensor]

JOINED = ("matmul", "det", "inverse", "function")
"""The kinds of nodes whose numbers read several numbers of an operand; those of other kinds read one of each."""


class Residuals:
    """`c(w)`: for all rules in one row, `left − right`, and `right − left` for rules with `>=`.

    So an inequality holds where its number is at most 0. Rows without a bound are 0 and have no derivative.
    """

    def __init__(self, system: System, device: torch.device) -> None:
        rules = system.every
        small = [k for k, rule in enumerate(system.rules) if rule.norm is None and _is_small(rule, system)]
        self._groups: list[_Terms | _SparseRows] = [
            _Terms(rule, device) for k, rule in enumerate(rules) if k not in set(small)
        ]
        numbers = [k for k in range(len(rules)) if k not in set(small)]
        if small:
            self._groups.append(_SparseRows(system, system.rows(small), device))
            numbers += small
        counts = [rules[k].equations for k in numbers]
        self.names = tuple(rules[k].name for k in numbers)
        """The names of the rules, in the order of their numbers in `c`."""
        self.bounds = tuple(int(bound) for bound in np.cumsum([0, *counts]))
        """Where the numbers of each rule begin, and the end."""
        self.shapes = tuple(rules[k].shape for k in numbers)
        flat = [np.zeros(0), *(np.full(n, rules[k].sign) for k, n in zip(numbers, counts, strict=True))]
        self.signs = torch.as_tensor(np.concatenate(flat), dtype=irregular_dtype(device), device=device)
        """1 for `<=`, −1 for `>=`, 0 for `==`, per row."""

    def at(self, weights: Tensors) -> Linearized:
        """The numbers at these weights, with what their derivatives need."""
        return Linearized([group.at(weights) for group in self._groups], self.signs)


@dataclass(frozen=True, eq=False)
class Linearized:
    """`c` at some weights (rows,), and its derivative J there."""

    _parts: Sequence[_TermsAt | _RowsAt]
    _signs: Tensor

    @property
    def value(self) -> Tensor:
        """`c(w)`, in float64 where the device has it."""
        values = [part.value.reshape(-1) for part in self._parts]
        return self._signed(torch.cat(values) if values else self._signs)

    def add_transposed(self, y: Tensor, into: Tensors) -> None:
        """Add `Jᵀ y` to the tensors of those weights that `into` names."""
        sizes = [part.value.numel() for part in self._parts]
        for part, piece in zip(self._parts, self._signed(y).split(sizes), strict=True):
            part.add_transposed(piece.view(part.value.shape), into)

    def squared_norms(self, names: frozenset[str]) -> Tensor:
        """The squared norms of the rows of J by the entries of the named weights.

        Exact for sparse rows; otherwise paths by which a row reads one entry several times are added as squares.
        """
        norms = [part.squared_norms(names).reshape(-1) for part in self._parts]
        return torch.cat(norms) if norms else self._signs.abs()

    def _signed(self, x: Tensor) -> Tensor:
        return torch.where(self._signs < 0.0, -x, x)


class _Terms:
    """A rule that is evaluated by its terms; that of nodes comes first."""

    def __init__(self, rule: Rule, device: torch.device) -> None:
        affine = rule.expression.affine
        self.nodes = [(node, [AffineMap(each, device) for each in node.operands]) for node in nodes_of(affine)]
        self.outputs, self.norm, self.device = AffineMap(affine, device), rule.norm, device
        dtype = irregular_dtype(device)
        self.radius = torch.as_tensor(np.array(rule.radius), dtype=dtype, device=device)
        bounded = np.isfinite(np.broadcast_to(np.asarray(rule.expression.constant), rule.expression.shape))
        self.bounded = None if bounded.all() else torch.as_tensor(bounded.copy(), device=device)

    def at(self, weights: Tensors) -> _TermsAt:
        """The rule at these weights."""
        known, operands = dict(weights), []
        for node, maps in self.nodes:
            operands.append([each.value(known) for each in maps])
            known[node.name] = node_value(node, operands[-1])
        inner = self.outputs.value(known)
        if self.bounded is not None:
            inner = torch.where(self.bounded, inner, 0.0)
        value = inner if self.norm is None else lengths(inner, self.norm) - self.radius
        return _TermsAt(self, weights, operands, inner, value)


@dataclass(frozen=True, eq=False)
class _TermsAt:
    """A rule at some weights; `inner` is the value before the norm of a ball."""

    rule: _Terms
    weights: Tensors
    operands: list[list[Tensor]]
    inner: Tensor
    value: Tensor

    def add_transposed(self, y: Tensor, into: Tensors) -> None:
        """Add `Jᵀ y` to the tensors that `into` names."""
        rule = self.rule
        slope = self._slope()
        y = y if slope is None else y.unsqueeze(-1) * slope
        if rule.bounded is not None:
            y = torch.where(rule.bounded, y, 0.0)
        nodes = {
            node.name: torch.zeros(node.shape, dtype=y.dtype, device=y.device) for node, _ in rule.nodes
        }  # their derivatives, filled in from the last node to the first
        into = {**into, **nodes}
        rule.outputs.add_transposed(y, into)
        for (node, maps), values in zip(reversed(rule.nodes), reversed(self.operands), strict=True):
            for each, slopes in zip(maps, _pulled(node, values, nodes[node.name]), strict=True):
                each.add_transposed(slopes, into)

    def squared_norms(self, names: frozenset[str]) -> Tensor:
        """The squared norms of the rows of J by the entries of the named weights."""
        rule = self.rule
        squares = {
            name: torch.ones((), dtype=self.inner.dtype, device=rule.device).expand(tensor.shape)
            for name, tensor in self.weights.items()
            if name in names
        }
        for (node, maps), values in zip(rule.nodes, self.operands, strict=True):
            of_operands = [each.squares(squares, rule.device) for each in maps]
            squares[node.name] = _squared_slopes(node, values, of_operands)
        total = rule.outputs.squares(squares, rule.device)
        if rule.bounded is not None:
            total = torch.where(rule.bounded, total, 0.0)
        slope = self._slope()
        return total if slope is None else (slope.square() * total).sum(-1)

    def _slope(self) -> Tensor | None:
        """The derivative of the norm of a ball; None for a rule without one."""
        return None if self.rule.norm is None else norm_slope(self.inner, self.rule.norm)


class _SparseRows:
    """The rules that are written out one by one, as sparse rows in one pass."""

    def __init__(self, system: System, rows: Rows, device: torch.device) -> None:
        columns, local = ranked(rows.columns)
        pieces = system.layout.split(columns)
        order = np.concatenate([np.zeros(0, np.int64), *(places for _, places, _ in pieces)])
        place = np.empty(len(columns), np.int64)
        place[order] = np.arange(len(columns))
        dtype, bounded = irregular_dtype(device), np.isfinite(rows.rhs)
        values = np.where(bounded[rows.row_of_each()], rows.values, 0.0)
        self.pieces = [
            (parameter.name, torch.as_tensor(positions.astype(np.int64), device=device))
            for parameter, _, positions in pieces
        ]
        self.columns = torch.as_tensor(place[local], device=device)
        self.values = torch.as_tensor(values, dtype=dtype, device=device)
        self.row = torch.as_tensor(rows.row_of_each(), device=device)
        self.rhs = torch.as_tensor(np.where(bounded, rows.rhs, 0.0), dtype=dtype, device=device)

    def at(self, weights: Tensors) -> _RowsAt:
        """The rows at these weights."""
        entries = [weights[name].detach().reshape(-1)[places].to(self.rhs.dtype) for name, places in self.pieces]
        return _RowsAt(self, self._times(entries, self.values) - self.rhs)

    def squared_norms(self, names: frozenset[str]) -> Tensor:
        """The squared norms of the rows by the entries of the named weights."""
        indicators = [self.rhs.new_full((len(places),), float(name in names)) for name, places in self.pieces]
        return self._times(indicators, self.values.square())

    def _times(self, entries: list[Tensor], values: Tensor) -> Tensor:
        total = torch.zeros_like(self.rhs)
        return total.index_add_(0, self.row, values * torch.cat(entries)[self.columns]) if entries else total


@dataclass(frozen=True, eq=False)
class _RowsAt:
    """Sparse rows at some weights."""

    rows: _SparseRows
    value: Tensor

    def add_transposed(self, y: Tensor, into: Tensors) -> None:
        """Add `Jᵀ y` to the tensors that `into` names."""
        rows = self.rows
        sizes = [len(places) for _, places in rows.pieces]
        summed = torch.zeros(sum(sizes), dtype=y.dtype, device=y.device)
        summed.index_add_(0, rows.columns, rows.values * y[rows.row])
        for (name, places), piece in zip(rows.pieces, summed.split(sizes), strict=True):
            if name in into:
                into[name].view(-1).index_add_(0, places, piece.to(into[name].dtype))

    def squared_norms(self, names: frozenset[str]) -> Tensor:
        """The squared norms of the rows of J by the entries of the named weights."""
        return self.rows.squared_norms(names)


def _is_small(rule: Rule, system: System) -> bool:
    """Whether a rule is affine and as small as those that planning writes out one by one."""
    return rule.nonzeros <= system.limits.one_by_one


def _pulled(node: Node, operands: list[Tensor], y: Tensor) -> tuple[Tensor, ...]:
    """The transposed derivatives of a node, times y: a tensor for each operand. 0 times any derivative is 0."""
    pulled = _multiplied(node, operands, y)
    if node.kind in JOINED:
        return pulled if bool(y.any()) else tuple(torch.zeros_like(part) for part in pulled)
    return tuple(torch.where(y == 0.0, 0.0, part) for part in pulled)


def _multiplied(node: Node, operands: list[Tensor], y: Tensor) -> tuple[Tensor, ...]:
    if node.kind == "multiply":
        return y * operands[1], y * operands[0]
    if node.kind == "power":
        return (y * (node.exponent * operands[0] ** (node.exponent - 1)),)
    with torch.enable_grad():
        leaves = [operand.detach().requires_grad_() for operand in operands]
        value = node_value(node, leaves)
    return torch.autograd.grad(value, leaves, y)


def _squared_slopes(node: Node, operands: list[Tensor], squares: list[Tensor]) -> Tensor:
    """The squared norms of the derivatives of a node, from those of its operands."""
    match node.kind:
        case "multiply":
            return operands[1].square() * squares[0] + operands[0].square() * squares[1]
        case "matmul":
            return squares[0] @ operands[1].square() + operands[0].square() @ squares[1]
        case "inverse":
            inverse = node_value(node, operands).square()
            return inverse @ squares[0] @ inverse
        case "function":
            assert node.opaque is not None
            derivatives: Tensor = node.opaque.linearized(operands[0])[2]
            return derivatives.square() @ squares[0]
    (slopes,) = _pulled(node, operands, torch.ones(node.shape, dtype=operands[0].dtype, device=operands[0].device))
    squared = slopes.square() * squares[0]
    return squared.sum((-2, -1)) if node.kind == "det" else squared


__all__ = ["Linearized", "Residuals"]
