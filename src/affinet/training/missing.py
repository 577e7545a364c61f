"""Gradients that are missing: where rules couple a weight without one to weights with one, it takes its part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from weakref import ref

import torch
from torch import Tensor

from affinet.kernels.torch.precision import regular_dtype
from affinet.kernels.torch.projector import Projector

MOST = 64
"""Sets of missing gradients whose couplings are remembered: a mixture of experts meets many."""


class Couplings:
    """Which entries of weights without a gradient the rules couple to weights with one."""

    def __init__(self, projector: Projector, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        self._projector = projector
        self._parameters = parameters
        self._known: dict[frozenset[str], dict[str, Tensor]] = {}

    def of(self, missing: Iterable[str]) -> dict[str, Tensor]:
        """Name → mask of the coupled entries, for those of the missing parameters that have any.

        Law: an entry is coupled if and only if `P g` can differ from zero there where g is zero on all that is missing.
        """
        key = frozenset(missing)
        if key not in self._known:
            if len(self._known) >= MOST:
                self._known.clear()
            self._known[key] = self._found(key)
        return self._known[key]

    def _found(self, missing: frozenset[str]) -> dict[str, Tensor]:
        """By the projection of random numbers: what is zero then is zero always."""
        draw = torch.Generator().manual_seed(0)
        vectors = {
            name: torch.zeros_like(p, dtype=regular_dtype(p.dtype))
            if name in missing
            else torch.randn(p.shape, generator=draw).to(p.device, regular_dtype(p.dtype))
            for name, p in self._parameters.items()
        }
        tangent = self._projector.tangent(vectors)
        # Solvers and Schur complements leave rounding where there is nothing.
        masks = {name: tangent[name].abs() > max(1e-9, 64.0 * torch.finfo(tangent[name].dtype).eps) for name in missing}
        return {name: masks[name] for name in sorted(missing) if bool(masks[name].any())}


class StandIns:
    """Gradients that were put in the place of missing ones for one step, and taken away after it.

    The optimizer steps with them, so that tied weights move together. Entries that are not coupled have no gradient:
    they are put back to where they were, whatever momentum or decay would have made of a zero.
    """

    def __init__(self) -> None:
        self._gradients: dict[str, tuple[ref[torch.nn.Parameter], Tensor]] = {}
        self._before: dict[str, tuple[Tensor, Tensor]] = {}

    def __bool__(self) -> bool:
        return bool(self._gradients)

    def put(self, name: str, parameter: torch.nn.Parameter, coupled: Tensor) -> Tensor:
        """Give a parameter a gradient of zeros, which the projection fills; returns it."""
        if name not in self._before and not bool(coupled.all()):
            self._before[name] = coupled, parameter.detach().clone()
        gradient = torch.zeros_like(parameter)
        parameter.grad = gradient
        self._gradients[name] = ref(parameter), gradient
        return gradient

    def put_back(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        """After the step of the optimizer that holds these: entries without a gradient have not moved."""
        with torch.no_grad():
            for name, (coupled, before) in self._before.items():
                if name in parameters:
                    parameters[name].copy_(torch.where(coupled, parameters[name], before))

    def take_away(self) -> None:
        """Gradients that were missing are missing again; before they are computed anew."""
        for parameter, gradient in self._gradients.values():
            held = parameter()
            if held is not None and held.grad is gradient:
                held.grad = None
        self._gradients.clear()

    def close(self) -> None:
        """After all optimizers have stepped."""
        self.take_away()
        self._before.clear()
