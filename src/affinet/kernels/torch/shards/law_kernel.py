"""The kernel of a block of equations whose verbs are those of its law, on entries that an access reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from affinet.blocks.law import BaseProjection, Linear, run_alone
from affinet.blocks.places import Places
from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.kernel import State, not_in_place, without_loops
from affinet.kernels.torch.shards.shared_access import SharedAccess
from affinet.kernels.torch.small_tables import Names, Tables
from affinet.kernels.torch.torch_namespace import Torch


class LawKernel:
    """The projections of a block on entries that are gathered from all processes, the same on each of them."""

    settle = not_in_place
    with_loops = without_loops

    def __init__(self, law: Linear[Any], places: Places, tensors: Mapping[str, Tensor]) -> None:
        name = places.sizes[0][0].name
        self._access = SharedAccess(places, tensors[name].device, wide=law.wide)
        self.names = self._access.names
        self._projection, self._shape, self._xp = law.projection, law.shape, Torch()

    def read(self, tensors: Tensors) -> Tensor:
        return self._access.read(tensors).view(self._shape)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        self._access.write(tensors, values.broadcast_to(self._shape))

    def land(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        landed: Tensor = run_alone(self._projection.nearest(self._xp, x))
        return landed, None

    def land_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        landed: Tensor = run_alone(self._projection.nearest_in_metric(self._xp, x, metric))
        return landed

    def tangent(self, x: Tensor, state: State, *, floor: float = 0.0) -> tuple[Tensor, State]:
        tangent: Tensor = run_alone(self._projection.tangent(self._xp, x, floor=floor))
        return tangent, None

    def noise(self, x: Tensor) -> Tensor:
        base: BaseProjection = self._projection
        noise: Tensor = base.noise(self._xp, x)
        return noise

    def tables(self, names: Names, dtype: torch.dtype) -> Tables | None:
        """None: weights of several processes are not projected in one call."""
        return None
