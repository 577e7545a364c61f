"""A kernel that projects onto a few equations on top of other blocks, by a Schur complement between two projections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from affinet.blocks.bases import AnyBase
from affinet.blocks.bordered import Bordered
from affinet.kernels.torch.access import Gathered, Tensors
from affinet.kernels.torch.kernel import Kernel, State, not_in_place, without_loops
from affinet.kernels.torch.precision import irregular_dtype, mean_norm, regular_dtype_of, silenced
from affinet.kernels.torch.putting import put
from affinet.kernels.torch.small_tables import not_small
from affinet.kernels.torch.sparse_kernel import on_device
from affinet.system.distinct import ranked

FEW = 65_536
"""Entries up to which bases compute in float64 too: this costs a fraction of the calls then, and the condition number
of S costs no digit of the weights."""
PIECE = 2**16
"""Entries that are compared with noise at a time on a CPU."""
FULL_NUMBERS = 2**16
"""Numbers in the matrix of the extra equations up to which it is dense."""


class BorderedKernel:
    """`Π(w) = Π_A(Π_A(w) − Bᵀy)`, `y = S⁺(B Π_A(w) − b)`, with Π_A the projections of the bases.

    B, S⁺, y and the entries with coefficients in B are in float64. Bases are prepared for the working dtype.
    """

    settle = not_in_place
    with_loops = without_loops
    tables = not_small

    def __init__(
        self,
        block: Bordered,
        prepare: Callable[[AnyBase, Mapping[str, Tensor]], Kernel],
        tensors: Mapping[str, Tensor],
    ) -> None:
        base_names = [parameter.name for base in block.bases for parameter, _, _ in base.entries.spans]
        self.names = tuple(dict.fromkeys([*base_names, *(part.parameter.name for part in block.loose)]))
        device = tensors[self.names[0]].device
        self._wide = irregular_dtype(device)
        few = block.matrix.shape[1] <= FEW
        self._dtype = self._wide if few else regular_dtype_of(tensors[name] for name in self.names)
        likes = {name: torch.empty(0, dtype=self._dtype, device=device) for name in self.names}
        self._bases = [prepare(base, likes) for base in block.bases]
        self._shapes = [tuple(kernel.read(tensors).shape) for kernel in self._bases]
        self._loose = Gathered(block.loose, device, dtype=self._dtype) if block.loose else None
        self._sizes = [*map(prod, self._shapes), *([sum(part.size for part in block.loose)] if block.loose else [])]
        self._border(block, device)

    def read(self, tensors: Tensors) -> Tensor:
        """The entries of the bases one after the other, then the loose entries; a single base keeps its shape."""
        if self._single_base:
            return self._bases[0].read(tensors).to(self._dtype)
        pieces = [
            kernel.read(tensors).to(self._dtype).reshape(-1)
            if any(tensors[name] is not None for name in kernel.names)
            else torch.zeros(size, dtype=self._dtype, device=self._rhs.device)
            for kernel, size in zip(self._bases, self._sizes, strict=False)
        ]
        return torch.cat([*pieces, *([self._loose.read(tensors)] if self._loose else [])])

    def write(self, tensors: Tensors, values: Tensor) -> None:
        for kernel, piece in zip(self._bases, self._pieces(values), strict=False):
            if any(tensors[name] is not None for name in kernel.names):
                kernel.write(tensors, piece)
        if self._loose is not None:
            self._loose.write(tensors, values[-self._sizes[-1] :])

    def land(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        x = self._on_bases(x, _landed)
        x = self._bordered(x, self._rhs)
        return self._exact(self._on_bases(x, _landed), self._values), state

    def land_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        """`Π(w) = Π_A(w − D⁻¹Bᵀy)` with `S = B P_A D⁻¹Bᵀ` in the metric D, on the range of the Euclidean S.

        Raises AttachError where a base cannot be projected in a metric.
        """
        ease, nothing = metric.reciprocal(), self._in_metric(torch.zeros_like(x), metric)
        x = self._in_metric(x, metric)
        gap = self._factor.T @ (self._matrix @ self._touched_entries(x) - self._rhs)
        system = torch.empty(len(gap), len(gap), dtype=self._wide, device=x.device)
        for k, direction in enumerate((self._transposed @ self._factor).T):
            move = self._in_metric(self._spread(direction, x) * ease, metric) - nothing
            system[:, k] = self._factor.T @ (self._matrix @ self._touched_entries(move))
        solved = self._transposed @ (self._factor @ torch.linalg.solve(system, gap))
        return self._exact(self._in_metric(x - self._spread(solved, x) * ease, metric), self._values)

    def tangent(self, x: Tensor, state: State, *, floor: float = 0.0) -> tuple[Tensor, State]:
        level, rms = (self.noise(x), mean_norm(x, None, x.numel(), floor)) if floor else (None, None)
        x = self._on_bases(x, _tangent)
        x = self._bordered(x, None)
        x = self._exact(self._on_bases(x, _tangent), None)
        return x if level is None or rms is None else _silenced(x, level, floor, rms), state

    def noise(self, x: Tensor) -> Tensor:
        levels = [kernel.noise(piece) for kernel, piece in zip(self._bases, self._pieces(x), strict=True)]
        if not self._single_base:
            loose = [x[-self._sizes[-1] :].abs()] if self._loose is not None else []
            levels = [torch.cat([*(level.reshape(-1) for level in levels), *loose])]
        (level,) = levels
        return put(level, self._members, level.take(self._representatives)) if len(self._members) else level

    def _border(self, block: Bordered, device: torch.device) -> None:
        """Set up the extra equations: the matrix over entries with coefficients, S⁺, and pinned and copied entries."""
        used, local = ranked(block.matrix.indices)
        rows = sparse.csr_array((block.matrix.data, local, block.matrix.indptr), shape=(len(block.rhs), len(used)))
        full = rows.shape[0] * rows.shape[1] <= FULL_NUMBERS
        self._matrix, self._transposed = (
            torch.as_tensor(part.toarray(), dtype=self._wide, device=device)
            if full
            else on_device(part, self._wide, device)
            for part in (rows, rows.T)
        )
        self._rhs, self._factor, self._values = (
            torch.as_tensor(np.array(numbers), dtype=self._wide, device=device)
            for numbers in (block.rhs, block.factor, block.values)
        )
        copies = torch.as_tensor(block.copies, device=device)
        self._members, self._representatives, self._signs = copies[:, 0], copies[:, 1], copies[:, 2]
        self._touched, self._pinned = (torch.as_tensor(places, device=device) for places in (used, block.pinned))

    @property
    def _single_base(self) -> bool:
        """Whether there is one base and no loose entry, so that entries are processed in place."""
        return len(self._sizes) == 1

    def _pieces(self, x: Tensor) -> list[Tensor]:
        """The entries of each base, in the shape of the base."""
        if self._single_base:
            return [x]
        return [piece.view(shape) for piece, shape in zip(x.split(self._sizes), self._shapes, strict=False)]

    def _on_bases(self, x: Tensor, verb: Callable[[Kernel, Tensor], Tensor]) -> Tensor:
        projected = [verb(kernel, piece) for kernel, piece in zip(self._bases, self._pieces(x), strict=True)]
        if self._single_base:
            return projected[0]
        loose = [x[-self._sizes[-1] :]] if self._loose is not None else []
        return torch.cat([*(piece.reshape(-1) for piece in projected), *loose])

    def _in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        metrics = iter(self._pieces(metric))
        return self._on_bases(x, lambda kernel, piece: kernel.land_in_metric(piece, next(metrics)))

    def _touched_entries(self, x: Tensor) -> Tensor:
        return x.take(self._touched).to(self._wide)

    def _spread(self, values: Tensor, like: Tensor) -> Tensor:
        return put(torch.zeros_like(like), self._touched, values.to(like.dtype))

    def _bordered(self, x: Tensor, rhs: Tensor | None) -> Tensor:
        """`x − Bᵀ S⁺ (B x − rhs)`, in place."""
        touched = self._touched_entries(x)
        gap = self._matrix @ touched
        solved = self._factor @ (self._factor.T @ (gap if rhs is None else gap - rhs))
        return put(x, self._touched, (touched - self._transposed @ solved).to(x.dtype))

    def _exact(self, x: Tensor, values: Tensor | None) -> Tensor:
        """Set pinned entries (to zero without values) and copy equal entries, in place and exact to the bit."""
        if len(self._pinned):
            known = torch.zeros_like(self._values) if values is None else values
            put(x, self._pinned, known.to(x.dtype))
        if len(self._members):
            put(x, self._members, x.take(self._representatives) * self._signs.to(x.dtype))
        return x


def _silenced(projected: Tensor, levels: Tensor, floor: float, rms: Tensor) -> Tensor:
    """`projected`, in place, with zeros where it is at most `floor · levels + rms`; in pieces that stay in cache."""
    pieces = [(projected, levels)]
    if projected.device.type == "cpu" and projected.is_contiguous() and levels.is_contiguous():
        pieces = list(zip(projected.view(-1).split(PIECE), levels.view(-1).split(PIECE), strict=True))
    for piece, level in pieces:
        silenced(piece, level.mul_(floor).add_(rms))
    return projected


def _landed(kernel: Kernel, x: Tensor) -> Tensor:
    """Project by a base, which has no state between steps."""
    return kernel.land(x, None)[0]


def _tangent(kernel: Kernel, x: Tensor) -> Tensor:
    return kernel.tangent(x, None)[0]
