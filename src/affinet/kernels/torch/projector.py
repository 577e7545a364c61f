"""A plan on a device: projections of weights and of vectors, in place or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from affinet.errors import AttachError, UnsupportedWeightError
from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.kernel import Kernel, prepare
from affinet.kernels.torch.measuring import Measure
from affinet.kernels.torch.precision import noise_floor, silenced, undisturbed
from affinet.language.modules import read_module
from affinet.structure.plan import Plan


class Projector:
    """Projects mappings of names to tensors onto the rules of a plan.

    Tensors may be on any one device and of any real floating dtype; kernels are set up when a device or dtype is
    first seen, and kept. Names and shapes are those of `plan.parameters`; other names are passed over.
    """

    def __init__(self, plan: Plan, like: Mapping[str, Tensor]) -> None:
        self.plan = plan
        self._names = tuple(parameter.name for parameter in plan.parameters)
        self._kernels: dict[tuple[Any, ...], tuple[Kernel, ...]] = {}
        self._measures: dict[torch.device, Measure] = {}
        check(plan, like)
        if not any(tensor.is_meta for tensor in like.values()):
            self.kernels(like)

    def project(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The nearest point that satisfies all rules, as new tensors of the same dtypes.

        Law: idempotent to one spacing of the dtype. Entries in no rule keep their bits.
        """
        check(self.plan, weights)
        copies = {name: weights[name].detach().clone() for name in self._names}
        self.project_(copies, passes=2)
        return {**weights, **copies}

    def tangent(self, vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`P v`: the part of v along which the rules stay as they are, as new tensors. Law: `A P v == 0`."""
        check(self.plan, vectors)
        copies = {name: vectors[name].detach().clone() for name in self._names}
        kernels = self.kernels(copies)
        with undisturbed(_device(copies)):
            for kernel in kernels:
                kernel.write(copies, kernel.tangent(kernel.read(copies)))
        return {**vectors, **copies}

    def violation(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """Rule name → largest absolute violation, each in the units in which the rule was written."""
        check(self.plan, weights)
        device = _device({name: weights[name] for name in self._names})
        if device not in self._measures:
            self._measures[device] = Measure(self.plan.system, device)
        with undisturbed(device):
            return self._measures[device]({name: weights[name].detach() for name in self._names})

    def project_(self, weights: Mapping[str, Tensor], *, passes: int = 1) -> None:
        """Move weights to the nearest feasible point, in place.

        One pass is exact to rounding for weights near the set, as after a step; a second one refines a long move.
        """
        kernels = self.kernels(weights)
        with undisturbed(_device(weights)):
            for kernel in kernels:
                for _ in range(passes):
                    kernel.write(weights, kernel.project(kernel.read(weights)))

    def project_gradients_(self, gradients: Tensors, weights: Mapping[str, Tensor], decay: Mapping[str, float]) -> None:
        """`g ← P(g + λ w) − λ w`, in place, with rounding noise set to zero.

        `decay` holds the signed λ that the optimizer itself will add to each gradient, where it does: what it then
        uses is `P(g + λ w)`. Missing gradients stay missing; their entries count as zero and carry no decay.
        """
        kernels = self.kernels(weights)
        with undisturbed(_device(weights)):
            for kernel in kernels:
                present = {name: gradients.get(name) for name in kernel.names}
                if any(gradient is not None for gradient in present.values()):
                    _project_gradient(kernel, present, weights, decay)

    def kernels(self, tensors: Mapping[str, Tensor]) -> tuple[Kernel, ...]:
        """The kernels for these devices and dtypes."""
        key = tuple((tensors[name].device, tensors[name].dtype) for name in self._names)
        found = self._kernels.get(key)
        if found is None:
            devices = {device for device, _ in key}
            if len(devices) > 1:
                raise AttachError(
                    f"the constrained weights lie on several devices ({', '.join(sorted(map(str, devices)))}). "
                    f"Rules over one model need all of its constrained weights on one device."
                )
            found = tuple(prepare(block, tensors) for block in self.plan.blocks)
            self._kernels[key] = found
        return found


def projector(plan: Plan, like: Any) -> Projector:
    """The projector of a plan for a torch.nn.Module, or for a mapping of names to tensors."""
    if isinstance(like, torch.nn.Module):
        like = read_module(like).parameters
    if not isinstance(like, Mapping):
        raise AttachError(f"give a torch.nn.Module or a mapping of names to tensors, not {type(like).__name__}.")
    return Projector(plan, like)


def check(plan: Plan, tensors: Mapping[str, Tensor]) -> None:
    """Raise unless every parameter of the plan is there, of its shape and of a real floating dtype."""
    for parameter in plan.parameters:
        tensor = tensors.get(parameter.name)
        if tensor is None:
            raise AttachError(
                f"the rules speak of {parameter.name!r} and there is no such tensor; there are: "
                f"{', '.join(sorted(tensors)) or 'none'}."
            )
        if tuple(tensor.shape) != parameter.shape:
            raise AttachError(
                f"the rules speak of {parameter.name!r} of shape {parameter.shape}, and it has shape "
                f"{tuple(tensor.shape)}. Make the rules from affinet.weights of this very model."
            )
        if not tensor.dtype.is_floating_point:
            raise UnsupportedWeightError(
                parameter.name, f"its dtype is {tensor.dtype}", "Rules need a real floating dtype."
            )


def _device(tensors: Mapping[str, Tensor]) -> torch.device:
    """The one device that all constrained tensors are on."""
    return next((tensor.device for tensor in tensors.values()), torch.device("cpu"))


def _project_gradient(
    kernel: Kernel, gradients: Tensors, weights: Mapping[str, Tensor], decay: Mapping[str, float]
) -> None:
    x = kernel.read(gradients)
    shift = _decayed(kernel, gradients, weights, decay)
    total = x if shift is None else x + shift
    floor = max(noise_floor(gradient.dtype) for gradient in gradients.values() if gradient is not None)
    noise = kernel.noise(total, floor)
    projected = silenced(kernel.tangent(total), noise)
    kernel.write(gradients, projected if shift is None else projected - shift)


def _decayed(
    kernel: Kernel, gradients: Tensors, weights: Mapping[str, Tensor], decay: Mapping[str, float]
) -> Tensor | None:
    """`λ w` of the block, zero where the gradient is missing; None where nothing is decayed."""
    if not decay:
        return None
    rates = {name: decay.get(name, 0.0) if gradients[name] is not None else 0.0 for name in kernel.names}
    if not any(rates.values()):
        return None
    if len(set(rates.values())) == 1:
        return kernel.read(weights) * next(iter(rates.values()))
    return kernel.read({name: weights[name] * rate if rate else None for name, rate in rates.items()})
