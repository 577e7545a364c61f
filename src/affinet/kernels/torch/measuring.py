"""Measures the violation of each rule by weights, in the units of the rule as the user wrote it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import assert_never

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.mirror import Mirror
from affinet.blocks.pairs import Pairs
from affinet.blocks.places import Part
from affinet.blocks.regular import RowBatch
from affinet.kernels.torch.access import Box, Gathered, box_of, cells_box
from affinet.kernels.torch.evaluating import Value, largest_gap
from affinet.kernels.torch.fixed_gap import FixedGap
from affinet.kernels.torch.matrix_norms import lengths
from affinet.kernels.torch.mirrors import mirrored
from affinet.kernels.torch.precision import exact_matmul, irregular_dtype, undisturbed
from affinet.planning.factors.panels import Panel
from affinet.planning.forms import Form, reading_of
from affinet.system.distinct import ranked
from affinet.system.rows import Rows
from affinet.system.system import Rule, System

Gap = Callable[[Mapping[str, Tensor]], Tensor]
"""Returns the largest violation over the equations or inequalities of a rule, or over some of them."""


class Measure:
    """Largest violation of every rule, in float64: |A w − b| from the forms of equations, or what exceeds a bound.

    Tensors on a device are set up when weights on that device are first measured.
    """

    def __init__(self, system: System) -> None:
        self._system = system
        self._on: dict[torch.device, _OnDevice] = {}

    def __call__(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """Rule name → largest absolute violation; zero for a rule without equations, nan where a weight is nan."""
        weights = {name: tensor.detach() for name, tensor in weights.items()}
        device = next((tensor.device for tensor in weights.values()), torch.device("cpu"))
        with undisturbed(device):
            if device not in self._on:
                self._on[device] = _OnDevice(self._system, device)
            return self._on[device](weights)


class _OnDevice:
    """The measure of all rules on one device."""

    def __init__(self, system: System, device: torch.device) -> None:
        self._names = [rule.name for rule in system.every]
        self._gaps: list[tuple[int, Sequence[Gap]]] = []
        irregular = []
        for number in range(len(system.rules)):
            gaps = _gaps(system, number, device)
            if gaps:
                self._gaps.append((number, gaps))
            else:
                irregular.append(number)
        self._gaps += [(number, [_Terms(system.rule(number), device)]) for number in system.curved_rules]
        self._equations = _Equations(system, system.rows(irregular), device)

    def __call__(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        largest = self._equations(weights, len(self._names))
        for number, gaps in self._gaps:
            largest_gaps = [gap(weights) for gap in gaps]
            largest[number] = largest_gaps[0] if len(largest_gaps) == 1 else torch.stack(largest_gaps).amax()
        return dict(zip(self._names, (largest + 0.0).tolist(), strict=True))  # -0.0 + 0.0 is 0.0


def _gaps(system: System, number: int, device: torch.device) -> Sequence[Gap]:
    """The gaps of a large rule; empty for a rule that is measured as sparse rows, together with other rules."""
    rule, expression = system.rules[number], system.rules[number].expression
    if rule.sense != "==":  # forms hold the rows of equations, up to a factor of either sign
        large = rule.nonzeros > system.limits.one_by_one and Value.fits(expression)
        if large and rule.bounds_weight:
            return [partial(_bound_gap, expression.terms[0].parameter.name, rule.sign, float(expression.constant))]
        return [_Terms(rule, device)] if large or rule.norm is not None else []
    reading = reading_of(system, number)
    if reading.fixings:
        return [FixedGap(reading.fixings, device)]
    if reading.forms:
        return [_gap(form, abs(expression.terms[0].scalar), device) for form in reading.forms]
    return [_Terms(rule, device)] if reading.large and Value.fits(expression) else []


def _gap(form: Form, scale: float, device: torch.device) -> Gap:
    """The gap of a form; `scale` converts `x − ratio · y` to the units that the user wrote."""
    match form:
        case RowBatch():
            return _Batch(form, device)
        case Panel():
            return _Panel(form, device)
        case Mirror():
            return partial(_mirror_gap, form, scale, _numbers(form.shift, device))
        case Pairs():
            return partial(_pairs_gap, form, scale, _numbers(form.shift, device))
        case _:
            assert_never(form)


class _Terms:
    """The gap of a rule that is evaluated by terms: an inequality, or over several weights or irregular entries."""

    def __init__(self, rule: Rule, device: torch.device) -> None:
        self._value, self._sign, self._norm = Value(rule.expression, device), rule.sign, rule.norm
        self._radius = _numbers(np.asarray(rule.radius), device)

    def __call__(self, weights: Mapping[str, Tensor]) -> Tensor:
        gaps = self._value(weights)
        if self._norm is not None:
            gaps = lengths(gaps, self._norm) - self._radius
        elif self._sign == 0.0:
            gaps = gaps.abs_()
        elif self._sign < 0.0:
            gaps = gaps.neg_()
        largest = gaps.amax() if gaps.numel() else gaps.new_zeros(())
        return largest.clamp(min=0.0)


class _Equations:
    """The gaps of sparse rows, for all their rules in one pass."""

    def __init__(self, system: System, rows: Rows, device: torch.device) -> None:
        columns, local = ranked(rows.columns)
        pieces = system.layout.split(columns)
        order = np.concatenate([np.zeros(0, np.int64), *(places for _, places, _ in pieces)])
        place = np.empty(len(columns), np.int64)
        place[order] = np.arange(len(columns))
        dtype = irregular_dtype(device)
        self._access = Gathered(tuple(Part(parameter, positions) for parameter, _, positions in pieces), device)
        self._columns = torch.as_tensor(place[local], device=device)
        self._values = torch.as_tensor(rows.values, dtype=dtype, device=device)
        self._row = torch.as_tensor(rows.row_of_each(), device=device)
        self._rhs = torch.as_tensor(rows.rhs, dtype=dtype, device=device)
        self._rule = torch.as_tensor(rows.rule, device=device)
        signs = np.array([rule.sign for rule in system.rules])[rows.rule]
        self._sign = torch.as_tensor(signs, dtype=dtype, device=device) if signs.any() else None

    def __call__(self, weights: Mapping[str, Tensor], rules: int) -> Tensor:
        gaps = -self._rhs
        if len(self._columns):
            entries = self._access.read(weights)
            gaps.index_add_(0, self._row, self._values * entries.index_select(0, self._columns))
        largest = torch.zeros(rules, dtype=gaps.dtype, device=gaps.device)
        if self._sign is None:
            gaps = gaps.abs_()
        else:
            gaps = torch.where(self._sign == 0.0, gaps.abs(), (self._sign * gaps).clamp(min=0.0))
        return largest.scatter_reduce_(0, self._rule, gaps, "amax")


class _Panel:
    """The gap of a rule of dense equations; on a CPU its matrix is the user's array where that is float64."""

    def __init__(self, panel: Panel, device: torch.device) -> None:
        self._pieces = [
            (Gathered((Part(piece.parameter, piece.entries),), device), _numbers(piece.matrix, device))
            for piece in panel.pieces
        ]
        self._rhs = _numbers(panel.rhs, device)

    def __call__(self, weights: Mapping[str, Tensor]) -> Tensor:
        gap = -self._rhs
        for access, matrix in self._pieces:
            gap = gap + exact_matmul(matrix) @ access.read(weights)
        return gap.abs().amax()


class _Batch:
    """The gap of one small matrix over every cell of one parameter, or of sums with equal coefficients."""

    def __init__(self, form: RowBatch, device: torch.device) -> None:
        self._name, self._count, self._dtype = form.parameter.name, form.cells, irregular_dtype(device)
        box = cells_box(self._name, form.offset, form.outer, form.inner, device)
        self._access: Box | Gathered
        self._access, self._cells = box or (Gathered((Part(form.parameter, form.positions().ravel()),), device), 1)
        self._rhs = _numbers(form.rhs, device)
        self._coefficient = float(form.matrix.flat[0])
        self._matrix = _numbers(form.matrix, device) if any(form.matrix.strides) else None

    def __call__(self, weights: Mapping[str, Tensor]) -> Tensor:
        weight = weights[self._name]
        if isinstance(self._access, Gathered):
            x = self._access.read({self._name: weight}).view(self._count, -1)
        else:
            x = self._access.read(weight)
        if self._matrix is None:
            total = x.sum(tuple(range(self._cells, x.ndim)), dtype=self._dtype).reshape(-1, 1) * self._coefficient
        else:
            total = x.reshape(self._count, -1).to(self._dtype) @ self._matrix.T
        largest: Tensor = (total - self._rhs).abs_().amax()
        return largest


def _bound_gap(name: str, sign: float, constant: float, weights: Mapping[str, Tensor]) -> Tensor:
    """The gap of a rule that bounds all of a weight by one number: that of its largest or smallest entry."""
    weight = weights[name]
    extreme = (weight.amax() if sign > 0.0 else weight.amin()).to(irregular_dtype(weight.device))
    return (sign * (extreme + constant)).clamp(min=0.0)


def _mirror_gap(form: Mirror, scale: float, shift: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    x = box_of(form.view).read(weights[form.view.parameter.name])
    return largest_gap(x, mirrored(x, form.permutation, form.flips), form.sign, shift) * scale


def _pairs_gap(form: Pairs, scale: float, shift: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    first, second = (box_of(view).read(weights[view.parameter.name]) for view in (form.first, form.second))
    return largest_gap(first, second, form.ratio, shift) * scale


def _numbers(array: np.ndarray, device: torch.device) -> Tensor:
    """Numbers on a device, in float64 where it has that; on the CPU they share memory with the array where possible.

    Axes along which an array repeats one number are stored once.
    """
    once = array[tuple(slice(1) if step == 0 else slice(None) for step in array.strides)]
    shareable = once.flags.writeable and all(step >= 0 for step in once.strides)
    numbers = torch.as_tensor(once if shareable else np.array(once)).to(device, irregular_dtype(device))
    return numbers.expand(array.shape)
