"""Runs the tangent sandwich of spheres in compiled loops on the CPU: one pass before a step and one after it.

A return by scaling needs no memory of where the step began. So gradients and weights are changed where they lie, and a
step copies nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from affinet.blocks.sphere_cells import SphereCells, SphereFace
from affinet.blocks.tangent_map import Following, Tangent
from affinet.kernels.torch.precision import regular_dtype

NOWHERE = -1.0
"""The share of their terms within which cells are left as they are: none is."""


class SphereLoops:
    """The loops of round spheres, over matrices whose rows or columns are the cells."""

    in_place = True

    def __init__(self, spheres: SphereCells, dtype: torch.dtype) -> None:
        """`dtype` is that of the weights; those of 16 bits are computed as float32."""
        self.dtype = regular_dtype(dtype)
        self._radius = np.ascontiguousarray(np.atleast_1d(np.asarray(spheres.radius, np.float64)).reshape(-1))

    def nearest_(self, x: Tensor, metric: Tensor | None = None) -> Tensor:
        """Scale cells to their lengths, in place where they are the rows or columns of a matrix; return them."""
        return self._scaled(x, NOWHERE)

    def project_(self, x: Tensor, u: float) -> Tensor:
        """As `nearest_`, but cells that hold to u times the size of their terms are left there."""
        return self._scaled(x, u)

    def learn_(
        self, g: Tensor, w: Tensor, state: Tangent[Any], floor: float, spare: Tensor | None = None
    ) -> tuple[Following[Any], Tensor]:
        """As `TangentMap.learn`, with rounding noise of the projected gradient set to zero, in the place of g."""
        from affinet.kernels.loops import sphere_rows
        from affinet.kernels.loops.openmp import team

        g, w = g.detach(), w.detach()
        if g.stride() != w.stride() or not (_is_matrix(g) and _is_matrix(w)):
            g, w = g.contiguous(), w.contiguous()
        project = sphere_rows.tangent_rows if g.is_contiguous() else sphere_rows.tangent_columns
        project(_matrix(g), _matrix(w), floor, team(g.numel(), torch.get_num_threads()))
        increment_version(g)
        known = Tangent(SphereFace(w))
        return Following(known.face, w, known), g

    def land_(
        self, stepped: Tensor, state: Following[Any], u: float, condition: Tensor | None, *, reuse: bool
    ) -> tuple[Tensor, Tangent[Any]]:
        """As `TangentMap.land`, in the memory of the weights; a step that was not taken changes nothing."""
        if condition is not None and not bool(condition):
            return stepped, state.former
        landed = self._scaled(stepped, u)
        return landed, Tangent(SphereFace(landed))

    def _scaled(self, x: Tensor, within: float) -> Tensor:
        from affinet.kernels.loops import sphere_rows
        from affinet.kernels.loops.openmp import team

        x = x.detach()
        if not _is_matrix(x):
            x = x.contiguous()
        scale: Callable[..., None] = sphere_rows.scaled_rows if x.is_contiguous() else sphere_rows.scaled_columns
        scale(_matrix(x), self._radius, within, team(x.numel(), torch.get_num_threads()))
        increment_version(x)
        return x


def _is_matrix(x: Tensor) -> bool:
    """Whether the cells are the rows or the columns of a row-major matrix."""
    return x.is_contiguous() or x.T.is_contiguous()


def _matrix(x: Tensor) -> np.ndarray:
    """The row-major matrix, whose columns are the cells where the rows are not."""
    matrix: np.ndarray = (x if x.is_contiguous() else x.T).numpy()
    return matrix
