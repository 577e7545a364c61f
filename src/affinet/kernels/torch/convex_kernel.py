"""The kernel of a block with inequalities or nonlinear equations: the verbs of its law on the entries of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.entry_bounds import Boxes
from affinet.blocks.mixed_map import MixedMap
from affinet.blocks.normal_map import Learned, NormalMap
from affinet.blocks.places import Places
from affinet.blocks.pooled_cells import PooledCells
from affinet.blocks.set_law import Known, SetLaw, Step
from affinet.blocks.sphere_cells import SphereCells
from affinet.blocks.stiefel_cells import StiefelCells
from affinet.blocks.tangent_map import TangentMap
from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.curved_loops import CurvedLoops
from affinet.kernels.torch.place_access import Access, access_to, reordered
from affinet.kernels.torch.precision import NOISE, irregular_dtype, regular_dtype
from affinet.kernels.torch.row_loops import RowLoops
from affinet.kernels.torch.shards.held_box import any_distributed
from affinet.kernels.torch.shards.local_cells import LocalCells
from affinet.kernels.torch.shards.shared_access import SharedAccess
from affinet.kernels.torch.sphere_loops import SphereLoops
from affinet.kernels.torch.torch_namespace import Torch

COARSE_NOISE = 4.0
"""As NOISE, for weights of 16 bits: with 32 roundoffs the floor would be an eighth of the gradient."""
COARSE = 1e-4
"""Dtypes whose unit roundoff is larger than this have 16 bits."""


class ConvexKernel:
    """The convex or curved set of one block on one device, for weights of some dtypes.

    Entries are read into one tensor of the shape of the set, in float64 where the device has it, and are rounded once
    when they are written. With loops they are read in the dtype of the weights, and the loops compute in float64.
    States are values: they belong to a training, which stores them (`training/learning.py`).
    """

    def __init__(
        self,
        law: NormalMap[Any] | TangentMap[Any] | MixedMap,
        places: Places,
        tensors: Mapping[str, Tensor],
        loops: RowLoops | SphereLoops | CurvedLoops | None = None,
        local: LocalCells | None = None,
    ) -> None:
        """`local` are the cells of this process where it has a part of the block; `law` is that of these cells."""
        device = next(iter(tensors[parameter.name].device for parameter, _ in places.sizes))
        self._access: Access
        self.cells = None if local is None else local.cells
        """The numbers of the cells of this process; None where every process has all of them."""
        if local is not None:
            self._access = local.access
        elif any_distributed(tensors[parameter.name] for parameter, _ in places.sizes):
            self._access = SharedAccess(places, device, law.order, wide=False)
        else:
            self._access = reordered(access_to(places, device), law.order, device)
        self.names = self._access.names
        self._xp, self._loops = Torch(), loops
        self._law: SetLaw = law
        self._set = law.set
        dtypes = {tensors[name].dtype for name in self.names}
        self._wide = _computed_in(law, dtypes, device)
        self.dtype = self._wide if loops is None else loops.dtype
        self._stores_all = all(tensors[name].dtype == self.dtype for name in self.names)
        u = max(float(torch.finfo(tensors[name].dtype).eps) for name in self.names) / 2.0
        self._floor = (COARSE_NOISE if u > COARSE else NOISE) * u
        sums = torch.float64 if self.in_place else self._wide
        self._u = law.roundoff(u, float(torch.finfo(sums).eps))

    @property
    def pointwise(self) -> bool:
        """Whether no rule couples two entries, so that the nearest point is the same in every diagonal metric."""
        return self._law.count() == 1

    @property
    def is_curved(self) -> bool:
        """Whether a step is followed by a way back to the set, which may be slow, or not be found."""
        return not isinstance(self._law, NormalMap)

    @property
    def in_place(self) -> bool:
        """Whether weights land where they lie, from wherever a step began, so that no copy of them is needed."""
        return self._loops is not None and self._loops.in_place

    @property
    def rounds_nothing(self) -> bool:
        """Whether entries have the dtype of the weights, so that what is written is read again."""
        return self._stores_all

    def read(self, tensors: Tensors, *, copy: bool = False) -> Tensor:
        """The entries, zero for a missing tensor; without `copy` they may share memory with a parameter."""
        return self._access.read(tensors).to(self.dtype, copy=copy).reshape(self._law.shape)

    def numbers(self, tensors: Tensors) -> Tensor:
        """The entries of tensors that are held as the weights are, in a dtype that holds them all."""
        return self._access.read(tensors).reshape(self._law.shape)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        """Write entries to the tensors that are present, rounded to their dtype."""
        self._access.write(tensors, values)

    def rounded(self, values: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """Entries as they are after they were written to tensors of these dtypes."""
        dtypes = {tensors[name].dtype for name in self.names}
        if len(dtypes) == 1:
            return values.to(dtypes.pop()).to(values.dtype)
        copies = {name: torch.empty_like(tensors[name]) for name in self.names}
        self.write(copies, values)
        return self.read(copies)

    def nearest(self, x: Tensor, metric: Tensor | None = None) -> Tensor:
        """The nearest point of the set, in `Σ metric_i dx_i²` where a metric is given."""
        if self._loops is not None and x.dtype == self.dtype and type(x) is Tensor:
            return self._loops.nearest_(x.clone(memory_format=torch.contiguous_format), metric)
        metric = None if metric is None else metric.to(self._wide)
        nearest: Tensor = self._law.nearest(self._xp, x.to(self._wide), metric)
        return nearest.to(self.dtype)

    def project(self, x: Tensor) -> Tensor:
        """The nearest point, but cells that are on the set to rounding keep their bits, within bounds."""
        # These are idempotent already: entries are bounds, or equal to others, and rounding keeps the order.
        if isinstance(self._set, Boxes | PooledCells):
            return self.nearest(x)
        if self._loops is not None and x.dtype == self.dtype and type(x) is Tensor:
            return self._loops.project_(x.clone(memory_format=torch.contiguous_format), self._u)
        projected: Tensor = self._law.snapped(
            self._xp, x.to(self._wide), self._u, lambda _: self.nearest(x).to(self._wide)
        )
        return projected.to(self.dtype)

    def project_(self, tensors: Mapping[str, Tensor]) -> None:
        """Write the nearest point to the tensors, in place where they hold the entries in order."""
        x, convex = self.read(tensors), self._set
        if not isinstance(convex, Boxes):
            self.write(tensors, self.project(x))
            return
        # As `clipped` of `blocks/entry_bounds.py`, without a pass for bounds that are nowhere finite.
        if bool((convex.upper < np.inf).any()):
            torch.minimum(x, self._xp.array(convex.upper, x), out=x)
        if bool((convex.lower > -np.inf).any()):
            torch.maximum(x, self._xp.array(convex.lower, x), out=x)
        self.write(tensors, x)

    @property
    def learns(self) -> bool:
        """Whether averaged multipliers are kept."""
        return self._law.learns

    def same_face(self, face: tuple[Tensor, ...], former: tuple[Tensor, ...]) -> bool:
        """Whether the same inequalities hold with equality on two faces."""
        return self._law.same_face(self._xp, face, former)

    def misses(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether weights that were moved to the nearest point are off the set, since none was found."""
        if self._law.always_found:
            return False
        x = self.read(tensors).to(self._wide)
        return not bool(self._law.satisfies(self._xp, x, self._u).all())

    def on_set(self, w: Tensor) -> Tensor:
        """The nearest point, but w itself in cells that are on the set to rounding.

        Their entries at a bound are exactly there, while the nearest point of rounded weights may be some way off.
        """
        if self.in_place:
            return self.project(w)
        point: Tensor = self._law.snapped(self._xp, w.to(self._wide), self._u)
        return point.to(self.dtype)

    def normal(self, v: Tensor, w: Tensor) -> Tensor:
        """The vector of the normal cone nearest to v, at the point of the set nearest to `w`."""
        at = self.on_set(w).to(self._wide)
        normal: Tensor = self._law.normal(self._xp, at, v.to(self._wide), self._u)
        return normal.to(v.dtype)

    def coupled(self, x: Tensor) -> Tensor:
        """A mask of the entries whose cell has another entry at which x may differ from zero."""
        if self.pointwise:
            return torch.zeros(self._law.shape, dtype=torch.bool, device=x.device)
        norms: Tensor = self._law.norm(self._xp, x)
        return (norms > 0.0).expand(self._law.shape)

    def along_at(self, v: Tensor, w: Tensor) -> Tensor:
        """The part of v that changes no equation of the set, and no inequality that pushes `w` back onto it."""
        v, w = v.to(self._wide), w.to(self._wide)
        projected: Tensor = self._law.tangent_part(self._xp, v, self._law.face_at(self._xp, w))
        return projected.to(self.dtype)

    def start(self, g: Tensor, w: Tensor, state: Known | None = None) -> Known:
        """What is known from one gradient, at weights of the set that are known to be on the face of `state`."""
        if isinstance(self._loops, CurvedLoops):
            return self._loops.start(w)
        face = None if state is None else state.face
        return self._narrow(self._law.start(self._xp, g.to(self._wide), w.to(self._wide), self._u, face))

    def learn_(self, g: Tensor, w: Tensor, state: Known, spare: Tensor | None = None) -> tuple[Step, Tensor]:
        """The step that starts with this gradient, and the gradient along the face, with rounding noise set to zero.

        The latter may take the place of `g`, and the new average that of `spare`.
        """
        if self._loops is not None:
            return self._loops.learn_(g, w, state, self._floor, spare)
        underway, projected = self._law.learn(self._xp, g, w, state)
        return underway, self._law.silenced(self._xp, projected, g, self._floor)

    def tangent(self, g: Tensor, state: Known | Step) -> Tensor:
        """The gradient along the face, with rounding noise set to zero."""
        wide = g.to(self._wide)
        tangent: Tensor = self._law.silenced(self._xp, self.tangent_part(wide, state), wide, self._floor)
        return tangent.to(self.dtype)

    def tangent_part(self, g: Tensor, state: Known | Step) -> Tensor:
        """The gradient along the face."""
        face = self._loops.completed(state.face) if isinstance(self._loops, CurvedLoops) else state.face
        projected: Tensor = self._law.tangent_part(self._xp, g.to(self._wide), face)
        return projected.to(g.dtype)

    def land_(
        self, stepped: Tensor, state: Step, condition: Tensor | None, *, reuse: bool = False
    ) -> tuple[Tensor, Known]:
        """The weights after a step, and what is known there; both as before where the condition is false.

        With `reuse` they may be in the memory of `state`, which is lost then.
        """
        if self._loops is not None:
            return self._loops.land_(stepped, state, self._u, condition, reuse=reuse)
        w, learned = self._law.land(self._xp, stepped, state, self._u, condition)
        return w, learned

    def resettle(self, w: Tensor, state: Known) -> Known:
        """What is known after the weights were changed from outside."""
        if isinstance(state, Learned):
            state = replace(state, y=state.y.to(self._wide))
        return self._narrow(self._law.resettle(self._xp, self.on_set(w).to(self._wide), state, self._u))

    def moved(self, state: Known, w: Tensor) -> Known | None:
        """What is known, in the dtype and on the device of the weights; None where it is computed from them anew."""
        if not isinstance(state, Learned):
            point = state.face.point
            return state if point.device == w.device and point.dtype == self.dtype else None
        if state.y.device == w.device and state.y.dtype == w.dtype:
            return state
        return Learned(state.y.to(w.device, w.dtype), type(state.face)(*(part.to(w.device) for part in state.face)))

    def _narrow(self, state: Known) -> Known:
        return replace(state, y=state.y.to(self.dtype)) if isinstance(state, Learned) else state


def _computed_in(law: SetLaw, dtypes: set[torch.dtype], device: torch.device) -> torch.dtype:
    """The dtype in which a law is computed for weights of these dtypes."""
    dtype = next(iter(dtypes))
    match law:
        # A clamp to rounded bounds is the rounded clamp: nothing is gained by a wider dtype.
        case NormalMap(set=Boxes()) if dtypes <= {torch.float32, torch.float64} and len(dtypes) == 1:
            return dtype
        # Nor is it for lengths and products of orthonormal rows, whose terms have one size.
        case TangentMap(set=SphereCells() | StiefelCells()) if len(dtypes) == 1:
            return regular_dtype(dtype)
    return irregular_dtype(device)
