"""The gradients of the last step as they were before they were projected: what multipliers are computed from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

SMALL = 2**16
"""Up to this many constrained entries the gradients of every step are kept; more only when asked for."""


class Capture:
    """Copies of raw gradients, with the coupled decay that the optimizer adds: `∇f + λ w`.

    Small models keep them at every step. For larger ones `ask()` before a step keeps those of that step.
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        self._parameters = parameters
        self._always = sum(parameter.numel() for parameter in parameters.values()) <= SMALL
        self._asked = False
        self._gradients: dict[str, Tensor] = {}
        self._rates: dict[str, float] = {}
        self._scale: Tensor | None = None
        self.times = 0
        """How often gradients were kept."""

    def ask(self) -> None:
        """Keep the gradients of the next step."""
        self._asked = True

    def take(
        self,
        gradients: Mapping[str, Tensor | None],
        rates: Mapping[str, float],
        scale: Tensor | None,
        *,
        wanted: bool = False,
    ) -> None:
        """Called by the hook before it projects; `wanted` by one who watches this step."""
        if self._always or self._asked or wanted:
            self._asked = False
            self.times += 1
            last = self._gradients
            self._gradients = {
                name: _copied(g.detach() if g.requires_grad else g, last.get(name))
                for name, g in gradients.items()
                if g is not None
            }
            self._rates, self._scale = dict(rates), scale

    def total(self) -> dict[str, Tensor] | None:
        """`∇f + λ w` by name in float64, unscaled, zero where a gradient was missing; None if nothing was kept."""
        if not self._gradients:
            return None
        with torch.no_grad():
            return {name: self._one(name, parameter) for name, parameter in self._parameters.items()}

    def _one(self, name: str, parameter: torch.nn.Parameter) -> Tensor:
        gradient = self._gradients.get(name)
        if gradient is None:
            return torch.zeros_like(parameter, dtype=torch.float64)
        wide = gradient.double() if self._scale is None else gradient.double() / self._scale.double()
        rate = self._rates.get(name, 0.0)
        return wide + rate * parameter.double() if rate else wide


def _copied(gradient: Tensor, last: Tensor | None) -> Tensor:
    """A copy, over the last one where that is alike."""
    if last is None or last.shape != gradient.shape or last.dtype != gradient.dtype or last.device != gradient.device:
        return gradient.clone()
    return last.copy_(gradient)
