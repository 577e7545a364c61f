"""How far weights are from each rule as the user wrote it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.mirror import Mirror
from affinet.blocks.pairs import Pairs
from affinet.blocks.places import Part
from affinet.blocks.regular import RowBatch
from affinet.kernels.torch.access import Gathered, box_of, cells_box
from affinet.kernels.torch.evaluating import Value, largest_gap
from affinet.kernels.torch.fixed_gap import FixedGap
from affinet.kernels.torch.mirrors import MirrorKernel
from affinet.kernels.torch.precision import exact_matmul, irregular_dtype
from affinet.language.expression import Expression
from affinet.planning.compilation import ONE_BY_ONE
from affinet.planning.factors.panels import Panel, read_panel
from affinet.planning.reading.fixings import read_fixings
from affinet.planning.reading.terms import read
from affinet.system.distinct import ranked
from affinet.system.rows import Rows
from affinet.system.system import System


class Measure:
    """Largest |A w − b| of every rule, computed in float64 from the terms or the equations of the rule."""

    def __init__(self, system: System, device: torch.device) -> None:
        self._names = [rule.name for rule in system.rules]
        self._regular: list[tuple[int, _Regular | _Panel | FixedGap | _Terms]] = []
        irregular = []
        for number, rule in enumerate(system.rules):
            large = rule.nonzeros > ONE_BY_ONE
            fixings = read_fixings(rule, number, system.tolerance.cancellation) if large else None
            if fixings:
                self._regular.append((number, FixedGap(fixings, device)))
                continue
            panel = read_panel(system, number) if large else None
            found = read(rule.expression, number, system.tolerance.cancellation) if large and panel is None else None
            if panel is not None:
                self._regular.append((number, _Panel(panel, device)))
            elif found is None and large and Value.fits(rule.expression):
                self._regular.append((number, _Terms(rule.expression, device)))
            elif found is None:
                irregular.append(number)
            else:
                scale = abs(rule.expression.terms[0].scalar)
                self._regular.append((number, _Regular(found, scale, device)))
        self._equations = _Equations(system, system.rows(irregular), device)

    def __call__(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """Rule name → largest absolute violation; zero for a rule without equations, nan where a weight is."""
        largest = self._equations(weights, len(self._names))
        for number, rule in self._regular:
            largest[number] = rule(weights)
        return dict(zip(self._names, largest.tolist(), strict=True))


class _Terms:
    """One rule of many pairs that read several weights, or entries in no regular order."""

    def __init__(self, expression: Expression, device: torch.device) -> None:
        self._value = Value(expression, device)

    def __call__(self, weights: Mapping[str, Tensor]) -> Tensor:
        return self._value(weights).abs_().amax()


class _Equations:
    """Equations one by one, all rules in one pass."""

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

    def __call__(self, weights: Mapping[str, Tensor], rules: int) -> Tensor:
        gaps = -self._rhs
        if len(self._columns):
            entries = self._access.read(weights)
            gaps.index_add_(0, self._row, self._values * entries.index_select(0, self._columns))
        largest = torch.zeros(rules, dtype=gaps.dtype, device=gaps.device)
        return largest.scatter_reduce_(0, self._rule, gaps.abs_(), "amax")


class _Panel:
    """One rule of dense equations; on a CPU its matrix is the user's own where that is float64."""

    def __init__(self, panel: Panel, device: torch.device) -> None:
        dtype = irregular_dtype(device)
        self._pieces = [
            (
                Gathered((Part(piece.parameter, piece.entries),), device),
                torch.as_tensor(piece.matrix if piece.matrix.flags.writeable else piece.matrix.copy()).to(
                    device, dtype
                ),
            )
            for piece in panel.pieces
        ]
        self._rhs = torch.as_tensor(np.array(panel.rhs), dtype=dtype, device=device)

    def __call__(self, weights: Mapping[str, Tensor]) -> Tensor:
        gap = -self._rhs
        for access, matrix in self._pieces:
            gap = gap + exact_matmul(matrix) @ access.read(weights)
        return gap.abs().amax()


class _Regular:
    """One rule that reads regular entries; `scale` leads from `x − ratio · y` back to what the user wrote."""

    def __init__(self, form: RowBatch | Mirror | Pairs, scale: float, device: torch.device) -> None:
        self._form = form
        self._scale = scale
        self._device = device
        if isinstance(form, RowBatch):
            found = cells_box(form.parameter.name, form.offset, form.outer, form.inner, device)
            self._cells = 1 if found is None else found[1]
            self._access = found[0] if found else Gathered((Part(form.parameter, form.positions().ravel()),), device)

    def __call__(self, weights: Mapping[str, Tensor]) -> Tensor:
        form = self._form
        match form:
            case RowBatch():
                return self._batch(form, weights[form.parameter.name])
            case Mirror():
                kernel = MirrorKernel(form, weights[form.view.parameter.name])
                x = kernel.read(weights)
                return largest_gap(x, kernel.mirrored(x), form.sign, _tensor(form.shift, x)) * self._scale
            case Pairs():
                first, second = (box_of(view).read(weights[view.parameter.name]) for view in (form.first, form.second))
                return largest_gap(first, second, form.ratio, _tensor(form.shift, first)) * self._scale

    def _batch(self, form: RowBatch, weight: Tensor) -> Tensor:
        if isinstance(self._access, Gathered):
            x = self._access.read({form.parameter.name: weight}).view(form.cells, -1)
        else:
            x = self._access.read(weight)
        inner = tuple(range(self._cells, x.ndim))
        dtype = irregular_dtype(self._device)
        rhs = torch.as_tensor(np.array(form.rhs), dtype=dtype, device=self._device)
        if not any(form.matrix.strides):
            total = x.sum(inner, dtype=dtype).reshape(-1, 1) * float(form.matrix.flat[0])
        else:
            matrix = torch.as_tensor(np.array(form.matrix), dtype=dtype, device=self._device)
            total = x.reshape(form.cells, -1).to(dtype) @ matrix.T
        return (total - rhs).abs().amax()


def _tensor(shift: np.ndarray, like: Tensor) -> Tensor:
    return torch.as_tensor(np.array(shift), dtype=irregular_dtype(like.device), device=like.device)
