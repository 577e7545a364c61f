"""Keep the gradients of the last step as they were before the projection: multipliers are computed from them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

SMALL = 2**16
"""Most constrained entries for which the gradients of every step are kept; beyond, only on request."""


class Capture:
    """Copies of raw gradients, with the coupled decay that the optimizer adds: `∇f + λ w`.

    Small models keep them at every step. For larger models `request()` before a step keeps those of the step.
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        self._parameters = parameters
        self._always = sum(parameter.numel() for parameter in parameters.values()) <= SMALL
        self._requested = False
        self._gradients: dict[str, Tensor] = {}
        self._rates: dict[str, float] = {}
        self._scale: Tensor | None = None
        self.captures = 0
        """How many times gradients were kept."""

    def request(self) -> None:
        """Keep the gradients of the next step."""
        self._requested = True

    def take(
        self,
        gradients: Mapping[str, Tensor | None],
        rates: Mapping[str, float],
        scale: Tensor | None,
        *,
        wanted: bool = False,
    ) -> None:
        """Keep the gradients if they are needed, before the projection; `wanted` if an observer needs them."""
        if self._always or self._requested or wanted:
            self._requested = False
            self.captures += 1
            previous = self._gradients
            self._gradients = {
                name: _copy_over(gradient.detach() if gradient.requires_grad else gradient, previous.get(name))
                for name, gradient in gradients.items()
                if gradient is not None
            }
            self._rates, self._scale = dict(rates), scale

    def total(self) -> dict[str, Tensor] | None:
        """`∇f + λ w` by name in float64, unscaled, zero where a gradient was missing; None if none were kept."""
        if not self._gradients:
            return None
        with torch.no_grad():
            return {name: self._total_of(name, parameter) for name, parameter in self._parameters.items()}

    def _total_of(self, name: str, parameter: torch.nn.Parameter) -> Tensor:
        gradient = self._gradients.get(name)
        if gradient is None:
            return torch.zeros_like(parameter, dtype=torch.float64)
        widened = gradient.double() if self._scale is None else gradient.double() / self._scale.double()
        rate = self._rates.get(name, 0.0)
        return widened + rate * parameter.double() if rate else widened


def _copy_over(gradient: Tensor, previous: Tensor | None) -> Tensor:
    """A copy of a gradient, written over the previous copy where shape, dtype and device agree."""
    if (
        previous is None
        or previous.shape != gradient.shape
        or previous.dtype != gradient.dtype
        or previous.device != gradient.device
    ):
        return gradient.clone()
    return previous.copy_(gradient)
