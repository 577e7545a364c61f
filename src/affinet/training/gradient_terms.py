"""The gradients of one block as the optimizer will use them: unscaled, with decay, in the direction of descent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.convex_kernel import ConvexKernel


@dataclass(frozen=True, eq=False)
class Added:
    """What optimizers do to gradients before their step.

    `rates` are the signed λ of the decay that they add, negative where they maximize; `maximized` are the parameters
    whose gradients they negate; `scale` is what all gradients are multiplied by, None for 1.
    """

    rates: Mapping[str, float]
    maximized: frozenset[str] = frozenset()
    scale: Tensor | None = None


class GradientTerms:
    """`g + λ w` of one block, with the sign that makes it the gradient of what is minimized."""

    def __init__(self, kernel: ConvexKernel, gradients: Tensors, weights: Mapping[str, Tensor], added: Added) -> None:
        self._kernel, self._gradients, self._scale = kernel, gradients, added.scale
        rates = {name: added.rates.get(name, 0.0) if gradients[name] is not None else 0.0 for name in kernel.names}
        self._decay = _weighted(kernel, weights, rates) if any(rates.values()) else None
        self._signs = _signs(kernel, weights, added.maximized)

    @property
    def decays(self) -> bool:
        """Whether the optimizer adds decay."""
        return self._decay is not None

    def objective(self) -> Tensor:
        """The gradient with decay; it may share memory with the gradient that the optimizer gets."""
        g = self._unscaled()
        return self._signed(g if self._decay is None else g + self._decay)

    def plain(self) -> Tensor:
        """The gradient without decay; it may share memory with the gradient that the optimizer gets."""
        return self._signed(self._unscaled())

    def feed(self, g: Tensor, feed_decay: bool) -> None:
        """Write a gradient of what is minimized to the optimizer, without the decay that it adds itself."""
        g = self._signed(g)
        if feed_decay and self._decay is not None:
            g = g - self._decay
        self._kernel.write(self._gradients, g if self._scale is None else g * self._scale)

    def _signed(self, g: Tensor) -> Tensor:
        return g if self._signs is None else g * self._signs

    def _unscaled(self) -> Tensor:
        g = self._kernel.read(self._gradients)
        return g if self._scale is None else g / self._scale


def _weighted(kernel: ConvexKernel, weights: Mapping[str, Tensor], factors: Mapping[str, float]) -> Tensor:
    """The weights of the block, times a factor per parameter."""
    if len(set(factors.values())) == 1:
        return kernel.read(weights) * next(iter(factors.values()))
    return kernel.read({name: weights[name] * factor if factor else None for name, factor in factors.items()})


def _signs(kernel: ConvexKernel, weights: Mapping[str, Tensor], maximized: frozenset[str]) -> Tensor | float | None:
    """−1 for entries of maximized parameters, 1 for all others; None for 1 everywhere."""
    if maximized.isdisjoint(kernel.names):
        return None
    if maximized.issuperset(kernel.names):
        return -1.0
    return kernel.read(
        {name: torch.full_like(weights[name], -1.0 if name in maximized else 1.0) for name in kernel.names}
    )
