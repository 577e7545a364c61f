"""The kernel of a block with inequalities: the verbs of its normal map on the entries of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from affinet.blocks.normal_map import Learned, NormalMap, Underway
from affinet.blocks.places import Places
from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.place_access import access_to
from affinet.kernels.torch.precision import NOISE, irregular_dtype
from affinet.kernels.torch.torch_namespace import Torch

COARSE_NOISE = 4.0
"""As NOISE, for weights of 16 bits: with 32 roundoffs the floor would be an eighth of the gradient."""
COARSE = 1e-4
"""Dtypes whose unit roundoff is larger than this have 16 bits."""

ON_SET = 4.0
"""Weights that were rounded once are off the set by at most one roundoff of their norm."""


class ConvexKernel:
    """The convex set of one block on one device, for weights of some dtypes.

    Entries are read into one tensor of the shape of the set, in float64 where the device has it, and are rounded once
    when they are written. States are values: they belong to a training, which stores them (`training/learning.py`).
    """

    def __init__(self, law: NormalMap[Any], places: Places, tensors: Mapping[str, Tensor]) -> None:
        device = next(iter(tensors[parameter.name].device for parameter, _ in places.sizes))
        self._access = access_to(places, device)
        self.names = self._access.names
        self._law, self._xp, self.dtype = law, Torch(), irregular_dtype(device)
        self._u = max(float(torch.finfo(tensors[name].dtype).eps) for name in self.names) / 2.0
        self._floor = (COARSE_NOISE if self._u > COARSE else NOISE) * self._u

    @property
    def pointwise(self) -> bool:
        """Whether no rule couples two entries, so that the nearest point is the same in every diagonal metric."""
        return self._law.set.count() == 1

    def read(self, tensors: Tensors, *, copy: bool = False) -> Tensor:
        """The entries, zero for a missing tensor; without `copy` they may share memory with a parameter."""
        return self._access.read(tensors).to(self.dtype, copy=copy).reshape(self._law.shape)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        """Write entries to the tensors that are present, rounded to their dtype."""
        self._access.write(tensors, values)

    def rounded(self, values: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """Entries as they are after they were written to tensors of these dtypes."""
        copies = {name: torch.empty_like(tensors[name]) for name in self.names}
        self.write(copies, values)
        return self.read(copies)

    def nearest(self, x: Tensor, metric: Tensor | None = None) -> Tensor:
        """The nearest point of the set, in `Σ metric_i dx_i²` where a metric is given."""
        nearest: Tensor = self._law.set.nearest(self._xp, x, metric)[0]
        return nearest

    def on_set(self, w: Tensor) -> Tensor:
        """The nearest point, but w itself in cells that are on the set to rounding.

        Their entries at a bound are exactly there, while the nearest point of rounded weights may be some way off.
        """
        nearest, norm = self.nearest(w), self._law.set.norm
        return torch.where(norm(self._xp, nearest - w) <= ON_SET * self._u * norm(self._xp, w), w, nearest)

    def normal(self, v: Tensor, w: Tensor) -> Tensor:
        """The vector of the normal cone nearest to v, at the point of the set nearest to `w`."""
        normal: Tensor = self._law.set.normal(self._xp, self.on_set(w), v, None, self._u)[0]
        return normal

    def coupled(self, x: Tensor) -> Tensor:
        """A mask of the entries whose cell has another entry at which x may differ from zero."""
        if self.pointwise:
            return torch.zeros(self._law.shape, dtype=torch.bool, device=x.device)
        norms: Tensor = self._law.set.norm(self._xp, x)
        return (norms > 0.0).expand(self._law.shape)

    def along_at(self, v: Tensor, w: Tensor) -> Tensor:
        """The part of v that changes no equation of the set, and no inequality that pushes `w` back onto it."""
        projected: Tensor = self._law.set.along(self._xp, v, self._law.set.nearest(self._xp, w)[1])
        return projected

    def start(self, g: Tensor, w: Tensor) -> Learned[Any]:
        """What is known from the first gradient, at weights of the set."""
        return self._law.start(self._xp, g, w, self._u)

    def learn(self, g: Tensor, w: Tensor, state: Learned[Any]) -> tuple[Underway[Any], Tensor]:
        """The step that starts with this gradient, and the gradient along the face, with rounding noise set to zero."""
        underway, projected = self._law.learn(self._xp, g, w, state)
        return underway, self._law.silenced(self._xp, projected, g, self._floor)

    def tangent(self, g: Tensor, state: Learned[Any] | Underway[Any]) -> Tensor:
        """The gradient along the face, with rounding noise set to zero."""
        tangent: Tensor = self._law.silenced(self._xp, self.along(g, state), g, self._floor)
        return tangent

    def along(self, g: Tensor, state: Learned[Any] | Underway[Any]) -> Tensor:
        """The gradient along the face."""
        projected: Tensor = self._law.set.along(self._xp, g, state.face)
        return projected

    def land(self, stepped: Tensor, state: Underway[Any], condition: Tensor | None) -> tuple[Tensor, Learned[Any]]:
        """The weights after a step, and what is known there; both as before where the condition is false."""
        w, learned = self._law.land(self._xp, stepped, state, self._u, condition)
        return w, learned

    def resettle(self, w: Tensor, state: Learned[Any]) -> Learned[Any]:
        """What is known after the weights were changed from outside."""
        return self._law.resettle(self._xp, self.on_set(w), state, self._u)
