"""Runs the normal map of rows with inequalities in compiled loops: cut boxes and chains, on the CPU.

A step then reads and writes each of its arrays once, in the dtype of the weights. Whatever happens rarely, such as rows
that did not move, goes through the set itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from affinet.blocks.curved_set import CurvedSet
from affinet.blocks.cut_boxes import CutBoxes, CutFace
from affinet.blocks.mixed_map import MixedMap
from affinet.blocks.normal_map import AVERAGING, REACH, Learned, NormalMap, Underway, chosen
from affinet.blocks.pooled_cells import PooledCells
from affinet.blocks.sphere_cells import SphereCells
from affinet.blocks.tangent_map import TangentMap
from affinet.kernels.torch.curved_loops import CurvedLoops, fits
from affinet.kernels.torch.looped import WIDTHS, available
from affinet.kernels.torch.sphere_loops import SphereLoops
from affinet.kernels.torch.torch_namespace import Torch

Nearest = Callable[[np.ndarray, np.ndarray | None, float, int], None]
Learn = Callable[[np.ndarray, np.ndarray, tuple[np.ndarray, ...], float, tuple[np.ndarray, ...], int], None]
Land = Callable[[np.ndarray, tuple[np.ndarray, ...], tuple[np.ndarray, ...], float, int], None]

NOWHERE = -1.0
"""The share of their terms within which rows are left as they are: none is."""
RESTS = -1.0
"""What loops write for the force of a row that did not move."""


class RowLoops:
    """The loops of one set, over arrays (cells, width) of one dtype."""

    in_place = False

    def __init__(self, convex: CutBoxes | PooledCells, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._set, self._xp = convex, Torch()
        self._no_upper = isinstance(convex, CutBoxes) and bool((convex.upper == np.inf).all())
        self._nearest, self._learn, self._land = _cut_boxes(convex) if isinstance(convex, CutBoxes) else _chains(convex)

    def nearest_(self, x: Tensor, metric: Tensor | None = None) -> Tensor:
        """Move x to the nearest points of the set, in place where it is row-major; return them."""
        return self._moved(x, metric, NOWHERE)

    def project_(self, x: Tensor, u: float) -> Tensor:
        """As `nearest_`, but rows that hold to u times the size of their terms between their bounds are left there."""
        return self._moved(x, None, u)

    def _moved(self, x: Tensor, metric: Tensor | None, within: float) -> Tensor:
        nearest = x.detach().contiguous()
        weights = None if metric is None else metric.detach().double().contiguous().numpy()
        self._nearest(nearest.numpy(), weights, within, torch.get_num_threads())
        increment_version(nearest)
        return nearest

    def learn_(
        self, g: Tensor, w: Tensor, state: Learned[Any], floor: float, spare: Tensor | None = None
    ) -> tuple[Underway[Any], Tensor]:
        """As `NormalMap.learn`, with rounding noise of the projected gradient set to zero.

        The projected gradient takes the place of g where g is row-major, and the new average that of `spare`: fresh
        pages of memory cost as much as several passes over them.
        """
        g, y = g.detach().contiguous(), state.y.to(g.dtype).contiguous()
        pending = spare if spare is not None and _is_like(spare, g) else torch.empty_like(g)
        force = torch.empty(len(g), dtype=torch.float64)
        arrays = pending.numpy(), force.numpy()
        self._learn(g.numpy(), y.numpy(), _flat(state.face), floor, arrays, torch.get_num_threads())
        increment_version(g)
        former = Learned(y, state.face)
        return Underway(pending, state.face, w, force[:, None], former), g

    def land_(
        self, stepped: Tensor, state: Underway[Any], u: float, condition: Tensor | None, *, reuse: bool
    ) -> tuple[Tensor, Learned[Any]]:
        """As `NormalMap.land`; with `reuse` and without a condition, in the memory of the step that was under way."""
        stepped, w, y = (part.contiguous() for part in (stepped, state.before, state.y))
        face = type(state.face)(*(part.contiguous() for part in state.face))
        if not reuse or condition is not None:
            w, y, face = w.clone(), y.clone(), type(face)(*(part.clone() for part in face))
        force = state.force.reshape(-1).clone()
        arrays = w.numpy(), y.numpy(), force.numpy()
        self._land(stepped.numpy(), arrays, _flat(face), u, torch.get_num_threads())
        learned = Learned(y, face)
        remaining = torch.nonzero(force < 0.0)[:, 0]
        if len(remaining):
            self._remain(remaining, force[remaining, None] == RESTS, state, u, learned)
        if condition is None:
            return w, learned
        return torch.where(condition, w, stepped), chosen(self._xp, self._set, condition, learned, state.former)

    def _remain(self, rows: Tensor, resting: Tensor, state: Underway[Any], u: float, learned: Learned[Any]) -> None:
        """What is known in rows that did not move: the normal part of y at the weights.

        The others of `rows` moved by a step that is not finite, and keep what was known before it.
        """
        convex, face = self._set.only(rows.numpy()), type(state.face)(*(part[rows] for part in state.face))
        before, y = state.before[rows].double(), state.y[rows].double()
        at_rest = Learned(*convex.normal(self._xp, before, y, face, u))
        former = Learned(state.former.y[rows].double(), type(face)(*(part[rows] for part in state.former.face)))
        known = chosen(self._xp, convex, resting, at_rest, former)
        learned.y[rows] = known.y.to(learned.y.dtype)
        for part, marks in zip(learned.face, known.face, strict=True):
            part[rows] = marks


def row_loops(
    law: NormalMap[Any] | TangentMap[Any] | MixedMap, tensors: Mapping[str, Tensor]
) -> RowLoops | SphereLoops | CurvedLoops | None:
    """The loops of a law for the parameters of its block; None where it has none for their dtypes and devices."""
    dtypes, devices = ({getattr(t, kind) for t in tensors.values()} for kind in ("dtype", "device"))
    dtype = next(iter(dtypes))
    if len(dtypes) > 1 or any(device.type != "cpu" for device in devices):
        return None
    match law.set:
        case CurvedSet() if available() and fits(law.set):
            return CurvedLoops(law.set)
        case SphereCells() if law.set.is_round and available():
            return SphereLoops(law.set, dtype)
        case CutBoxes() | PooledCells() if law.set.shape[1] >= 2 and dtype in WIDTHS and available():
            return RowLoops(law.set, dtype)
    return None


def _is_like(spare: Tensor, g: Tensor) -> bool:
    """Whether memory can hold numbers like those of a row-major tensor."""
    return spare.shape == g.shape and spare.dtype == g.dtype and spare.is_contiguous()


def _flat(face: tuple[Tensor, ...]) -> tuple[np.ndarray, ...]:
    """The marks of a face, those of a cell (cells, 1) as one axis; they share memory with a row-major face."""
    cells = len(face[0])
    single = (2,) if isinstance(face, CutFace) else (1, 2)
    return tuple(
        part.reshape(cells).numpy() if number in single else part.contiguous().numpy()
        for number, part in enumerate(face)
    )


def _wide(values: np.ndarray, width: int) -> np.ndarray:
    """Numbers that broadcast to cells, as rows of the full width."""
    rows = np.atleast_2d(np.asarray(values, np.float64))
    return np.ascontiguousarray(np.broadcast_to(rows, (len(rows), width)))


def _each(values: np.ndarray) -> np.ndarray:
    """A number for each cell, or one for all."""
    return np.ascontiguousarray(np.atleast_2d(np.asarray(values, np.float64))[:, 0])


def _cut_boxes(convex: CutBoxes) -> tuple[Nearest, Learn, Land]:
    from affinet.kernels.loops import cut_landings, cut_rows
    from affinet.kernels.loops.openmp import team

    width = convex.shape[1]
    a = None if bool((convex.row == 1.0).all()) else _wide(convex.row, width)
    high = None if bool((convex.upper == np.inf).all()) else _wide(convex.upper, width)
    cell, equation = (_each(convex.rhs), _wide(convex.lower, width)), convex.equation

    def nearest(x: np.ndarray, metric: np.ndarray | None, within: float, threads: int) -> None:
        threads = team(x.size, threads)
        scratch = np.empty((threads, cut_rows.SCRATCH, width))
        multipliers = np.empty(len(x))
        cut_rows.nearest_rows(x, metric, a, high, cell, equation, multipliers, False, within, scratch, threads)

    def learn(
        g: np.ndarray, y: np.ndarray, face: tuple[Any, ...], floor: float, learned: tuple[Any, ...], threads: int
    ) -> None:
        cut_rows.learned_rows(g, y, face, a, high, equation, AVERAGING, floor, learned, team(g.size, threads))

    def land(stepped: np.ndarray, state: tuple[Any, ...], face: tuple[Any, ...], u: float, threads: int) -> None:
        threads = team(stepped.size, threads)
        scratch = np.empty((threads, cut_landings.SCRATCH, width))
        cut_landings.landed_rows(stepped, state, face, a, high, cell, equation, REACH, u, scratch, threads)

    return nearest, learn, land


def _chains(convex: PooledCells) -> tuple[Nearest, Learn, Land]:
    from affinet.kernels.loops import chain_rows, level_rows
    from affinet.kernels.loops.openmp import team

    width = convex.shape[1]
    gap = _wide(convex.gap, width - 1) if convex.gap.any() else None
    bounds = _each(convex.lower), _each(convex.upper)

    def nearest(x: np.ndarray, metric: np.ndarray | None, within: float, threads: int) -> None:
        threads = team(x.size, threads)
        if gap is None and metric is None and x.dtype == np.float32:
            pools = np.empty((threads, level_rows.LANES, width + 2, level_rows.WORDS))
            level_rows.nearest_levels(x, bounds, pools, threads)
            return
        scratch, starts = np.empty((threads, chain_rows.SCRATCH, width)), np.empty((threads, width + 1), np.int64)
        chain_rows.nearest_chains(x, metric, gap, bounds, scratch, starts, threads)

    def learn(
        g: np.ndarray, y: np.ndarray, face: tuple[Any, ...], floor: float, learned: tuple[Any, ...], threads: int
    ) -> None:
        chain_rows.learned_chains(g, y, face, AVERAGING, floor, learned, team(g.size, threads))

    def land(stepped: np.ndarray, state: tuple[Any, ...], face: tuple[Any, ...], u: float, threads: int) -> None:
        threads = team(stepped.size, threads)
        scratch, starts = np.empty((threads, chain_rows.SCRATCH, width)), np.empty((threads, width + 1), np.int64)
        chain_rows.landed_chains(stepped, state, face, gap, bounds, REACH, u, scratch, starts, threads)

    return nearest, learn, land
