"""A plan on a device: projections of weights and of vectors, in place or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import local
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from affinet.analysis.multipliers import by_rule, shared_by_rule
from affinet.blocks.kinds import AnyBlock
from affinet.errors import AttachError, UnsupportedWeightError
from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.kernel import Decay, Kernel, State
from affinet.kernels.torch.measuring import Measure
from affinet.kernels.torch.precision import irregular_dtype, noise_floor, undisturbed
from affinet.kernels.torch.preparing import prepare
from affinet.kernels.torch.small_blocks import Together, together
from affinet.language.modules import parameters_of, present_weights
from affinet.plans.plan import Plan


class _Prepared(NamedTuple):
    """The kernels of all blocks, and the same as one call for the small blocks and the kernels of the others."""

    kernels: tuple[Kernel, ...]
    together: Together | None
    others: tuple[Kernel, ...]


class _States(local):
    """What kernels keep between steps, each thread its own: what another thread projects must not move the bits."""

    def __init__(self) -> None:
        self.of: dict[Kernel, State] = {}

    def __reduce__(self) -> tuple[type[_States], tuple[()]]:
        """A copy, in another process perhaps, keeps nothing yet."""
        return _States, ()


class Projector:
    """Projects mappings of names to tensors onto the rules of a plan.

    Tensors may be on any one device and of any real floating dtype; kernels are set up when a device or dtype is
    first seen, and kept. Names and shapes are those of `plan.parameters`; other names are passed over.
    """

    def __init__(self, plan: Plan, like: Mapping[str, Tensor], *, before: Projector | None = None) -> None:
        """`before`: a projector whose kernels serve on for blocks that its plan holds too (`plans.updating`)."""
        self.plan = plan
        self._before = {} if before is None else before._by_block(plan.blocks)
        self._states = _States()
        if before is not None:
            kept = {id(kernel) for some in self._before.values() for _, kernel in some}
            self._states.of.update((kernel, state) for kernel, state in before._states.of.items() if id(kernel) in kept)
        self.names = tuple(parameter.name for parameter in plan.parameters)
        self._prepared: dict[tuple[Any, ...], _Prepared] = {}
        self._latest: _Prepared | None = None
        self._measure = Measure(plan)
        check(plan, like)
        if not any(tensor.is_meta for tensor in like.values()):
            self.kernels(like)

    def __getstate__(self) -> dict[str, Any]:
        """The plan: kernels are set up again where a copy is used, in another process perhaps."""
        fresh: dict[str, Any] = {"_prepared": {}, "_latest": None, "_before": {}, "_states": _States()}
        fresh["_measure"] = Measure(self.plan)
        return {"plan": self.plan, "names": self.names, **fresh}

    def project(self, weights: Mapping[str, Tensor] | torch.nn.Module) -> dict[str, Tensor]:
        """The nearest point that satisfies all rules, as new tensors of the same dtypes; a model is left as it is.

        Law: idempotent to one spacing of the dtype. Entries in no rule keep their bits.
        """
        weights = weights_of(self.plan, weights)
        with undisturbed(self._device(weights)):
            copies = {name: weights[name].detach().clone() for name in self.names}
            self.project_(copies, passes=2)
        return {**weights, **copies}

    def tangent(self, vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`P v`: the part of v along which the rules stay as they are, as new tensors. Law: `A P v == 0`."""
        check(self.plan, vectors)
        with undisturbed(self._device(vectors)):
            copies = {name: vectors[name].detach().clone() for name in self.names}
            for kernel in self._after_small(copies, copies, affine=False):
                if not kernel.settle(copies, affine=False):
                    kernel.write(copies, self._tangent(kernel, kernel.read(copies)))
        return {**vectors, **copies}

    def violation(self, weights: Mapping[str, Tensor] | torch.nn.Module) -> dict[str, float]:
        """Rule name → largest absolute violation, each in the units in which the rule was written."""
        weights = weights_of(self.plan, weights)
        return self._measure({name: weights[name] for name in self.names})

    def multipliers(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rule name → ν of the rule's shape (float64, on the CPU), with `Aᵀν` nearest to the gradients.

        Law: ν is of smallest norm; at an optimum `ν = ∂f*/∂b` per unit of each equation as the user wrote it.
        """
        check(self.plan, gradients)
        flat = [gradients[name].detach().to("cpu", torch.float64).reshape(-1).numpy() for name in self.names]
        values = by_rule(self.plan.system, np.concatenate([np.zeros(0), *flat]))
        return {name: torch.from_numpy(part) for name, part in values.items()}

    def stationarity(self, gradients: Mapping[str, Tensor]) -> float:
        """`‖P g‖ / ‖g‖` over the parameters of the rules: 0 where the rules take all of the gradient, 0 for g = 0."""
        tangent = self.tangent(gradients)
        wide = irregular_dtype(self._device(gradients))
        along, whole = (
            sum(float(torch.linalg.vector_norm(vectors[name].detach(), dtype=wide)) ** 2 for name in self.names) ** 0.5
            for vectors in (tangent, gradients)
        )
        return along / whole if whole != 0.0 else 0.0

    def shared_multipliers(self) -> dict[str, tuple[str, ...]]:
        """Rule name → the other rules together with which it is redundant; rules that stand alone are left out."""
        return shared_by_rule(self.plan.system)

    def project_(self, weights: Mapping[str, Tensor], *, passes: int = 1, skipped: Tensor | None = None) -> None:
        """Move weights to the nearest feasible point, in place.

        One pass is exact to rounding for weights near the set, as after a step; a second one refines a long move.
        Where the number `skipped` is not zero (a GradScaler found an infinity) no bit is changed, without a look at it.
        """
        if skipped is None:
            kernels = self._after_small(weights, weights, affine=True, passes=passes)
        else:
            kernels = self.kernels(weights)
        if not kernels:
            return
        with undisturbed(self._device(weights)):
            for kernel in kernels:
                for _ in range(passes):
                    if skipped is None and kernel.settle(weights, affine=True):
                        continue
                    x = kernel.read(weights)
                    if skipped is None:
                        kernel.write(weights, self._landed(kernel, x))
                    else:  # decided on the device, without a look
                        kernel.write(weights, torch.where(skipped != 0, x, self._landed(kernel, x.clone())))

    def project_in_metric_(
        self, weights: Mapping[str, Tensor], metric: Mapping[str, Tensor], skipped: Tensor | None = None
    ) -> None:
        """Move weights to the feasible point nearest in `Σ D_i dw_i²`, in place; `metric` holds the D_i > 0.

        Two passes: where the D_i differ by many orders of magnitude one of them loses digits that the second finds.
        """
        with undisturbed(self._device(weights)):
            for kernel in self.kernels(weights):
                if skipped is None and kernel.settle(weights, affine=True, metric=metric):
                    continue
                x, resistance = kernel.read(weights), kernel.read(metric)
                moved = kernel.land_in_metric(kernel.land_in_metric(x, resistance), resistance)
                kernel.write(weights, moved if skipped is None else torch.where(skipped != 0, x, moved))

    def project_gradients_(
        self,
        gradients: Tensors,
        weights: Mapping[str, Tensor],
        decay: Mapping[str, float],
        scale: Tensor | None = None,
    ) -> None:
        """`g ← P(g + λ w) − λ w`, in place, with rounding noise set to zero.

        `decay` holds the signed λ that the optimizer itself will add to each gradient, where it does: what it then
        uses is `P(g + λ w)`. Missing gradients stay missing; their entries count as zero and carry no decay.
        """
        decayed = Decay(decay, weights) if decay else None
        if scale is None:
            quiet = noise_floor(self._dtype(weights))
            kernels = self._after_small(gradients, weights, affine=False, quiet=quiet, decay=decayed)
        else:
            kernels = self.kernels(weights)
        if not kernels:
            return
        with undisturbed(self._device(weights)):
            for kernel in kernels:
                present = {name: gradients.get(name) for name in kernel.names}
                floor = _floor(present)
                in_place = scale is None or decayed is None  # a decay that is scaled is only added after reading
                if floor > 0.0 and not (in_place and kernel.settle(present, affine=False, quiet=floor, decay=decayed)):
                    self._project_gradient(kernel, present, decayed, scale, floor)

    def forget(self) -> None:
        """Drop what solvers keep from the steps before.

        Law: what is projected next depends, to the bit, on nothing that was projected before.
        """
        self._states.of.clear()

    def _landed(self, kernel: Kernel, x: Tensor) -> Tensor:
        states = self._states.of
        landed, state = kernel.land(x, states.get(kernel))
        if state is not None:
            states[kernel] = state
        return landed

    def _tangent(self, kernel: Kernel, x: Tensor, floor: float = 0.0) -> Tensor:
        states = self._states.of
        along, state = kernel.tangent(x, states.get(kernel), floor=floor)
        if state is not None:
            states[kernel] = state
        return along

    def _project_gradient(
        self, kernel: Kernel, gradients: Tensors, decay: Decay | None, scale: Tensor | None, floor: float
    ) -> None:
        x = kernel.read(gradients)
        shift = None if decay is None else _decayed(kernel, gradients, decay)
        if shift is not None and scale is not None:
            shift = shift * scale
        projected = self._tangent(kernel, x if shift is None else x + shift, floor)
        kernel.write(gradients, projected if shift is None else projected - shift)

    def _device(self, tensors: Mapping[str, Tensor]) -> torch.device:
        """The one device that all constrained tensors are on."""
        return tensors[self.names[0]].device if self.names else torch.device("cpu")

    def _dtype(self, tensors: Mapping[str, Tensor]) -> torch.dtype:
        """The dtype of the first of the constrained tensors, which is that of all that are projected in one call."""
        return tensors[self.names[0]].dtype if self.names else torch.float32

    def kernels(self, tensors: Mapping[str, Tensor]) -> tuple[Kernel, ...]:
        """The kernels for these devices and dtypes, one a block."""
        return self._prepare(tensors).kernels

    def _after_small(
        self,
        tensors: Tensors,
        weights: Mapping[str, Tensor],
        *,
        affine: bool,
        quiet: float = 0.0,
        decay: Decay | None = None,
        passes: int = 1,
    ) -> tuple[Kernel, ...]:
        """Have all small blocks projected in one call where the tensors allow it; the kernels that are left to run."""

        def settled(small: Together | None) -> bool:
            return small is not None and small.settle(tensors, affine=affine, quiet=quiet, decay=decay, passes=passes)

        if self._latest is not None and settled(self._latest.together):
            return ()
        prepared = self._prepare(weights)
        return prepared.others if settled(prepared.together) else prepared.kernels

    def _prepare(self, tensors: Mapping[str, Tensor]) -> _Prepared:
        key = tuple((tensors[name].device, tensors[name].dtype) for name in self.names)
        found = self._prepared.get(key)
        if found is None:
            devices = {device for device, _ in key}
            if len(devices) > 1:
                raise AttachError(
                    f"the constrained weights lie on several devices ({', '.join(sorted(map(str, devices)))}). "
                    f"Rules over one model need all of its constrained weights on one device."
                )
            kernels = tuple(self._kernel(block, tensors) for block in self.plan.blocks)
            found = _Prepared(kernels, *together(self.plan.blocks, kernels, tensors))
            self._prepared[key] = found
        self._latest = found if not found.others else None
        return found

    def _kernel(self, block: AnyBlock, tensors: Mapping[str, Tensor]) -> Kernel:
        for kinds, kernel in self._before.get(id(block), ()):
            if all((tensors[name].device, tensors[name].dtype) == kinds[name] for name in kernel.names):
                return kernel
        return prepare(block, tensors)

    def _by_block(
        self, blocks: Sequence[AnyBlock]
    ) -> dict[int, list[tuple[dict[str, tuple[torch.device, torch.dtype]], Kernel]]]:
        """Kernels of these blocks by their identity, with the devices and dtypes that each was made for."""
        wanted = set(map(id, blocks))
        found: dict[int, list[tuple[dict[str, tuple[torch.device, torch.dtype]], Kernel]]] = {}
        for key, prepared in self._prepared.items():
            for block, kernel in zip(self.plan.blocks, prepared.kernels, strict=True):
                if id(block) in wanted:
                    found.setdefault(id(block), []).append((dict(zip(self.names, key, strict=True)), kernel))
        return found


def projector(plan: Plan, like: Any) -> Projector:
    """The projector of a plan for a torch.nn.Module, or for a mapping of names to tensors."""
    if isinstance(like, torch.nn.Module):
        like = parameters_of(like, [parameter.name for parameter in plan.parameters])
    if not isinstance(like, Mapping):
        raise AttachError(f"give a torch.nn.Module or a mapping of names to tensors, not {type(like).__name__}.")
    return Projector(plan, like)


def weights_of(plan: Plan, source: Mapping[str, Tensor] | torch.nn.Module) -> Mapping[str, Tensor]:
    """The weights of a model, computed ones included, or a mapping as it is; checked against the plan."""
    if isinstance(source, torch.nn.Module):
        source = present_weights(source, [parameter.name for parameter in plan.parameters])
    check(plan, source)
    return source


def check(plan: Plan, tensors: Mapping[str, Tensor]) -> None:
    """Raise unless every parameter of the plan is there, of its shape and of a real floating dtype."""
    if isinstance(tensors, torch.nn.Module):
        raise AttachError(
            f"these are vectors, one for each weight, and no {type(tensors).__name__}. Give a mapping of names to "
            f"tensors; for gradients {{name: p.grad for name, p in model.named_parameters()}}."
        )
    if not isinstance(tensors, Mapping):
        raise AttachError(
            f"give a mapping of names to tensors, such as model.state_dict(), not {type(tensors).__name__}."
        )
    for parameter in plan.parameters:
        tensor = tensors.get(parameter.name)
        if tensor is None:
            raise AttachError(
                f"the rules speak of {parameter.name!r} and there is no such tensor; there are: "
                f"{', '.join(sorted(tensors)) or 'none'}."
            )
        if not isinstance(tensor, Tensor):
            raise AttachError(f"{parameter.name!r} is {type(tensor).__name__}, and must be a torch.Tensor.")
        if tuple(tensor.shape) != parameter.shape:
            raise AttachError(
                f"the rules speak of {parameter.name!r} of shape {parameter.shape}, and it has shape "
                f"{tuple(tensor.shape)}. Make the rules from affinet.weights of this very model."
            )
        if not tensor.dtype.is_floating_point:
            raise UnsupportedWeightError(
                parameter.name, f"its dtype is {tensor.dtype}", "Rules need a real floating dtype."
            )


def _floor(gradients: Tensors) -> float:
    """The floor of noise of the gradients that are there, 0 where none is."""
    return max((noise_floor(gradient.dtype) for gradient in gradients.values() if gradient is not None), default=0.0)


def _decayed(kernel: Kernel, gradients: Tensors, decay: Decay) -> Tensor | None:
    """`λ w` of the block, zero where the gradient is missing; None where nothing is decayed."""
    weights = decay.weights
    rates = {name: decay.rates.get(name, 0.0) if gradients[name] is not None else 0.0 for name in kernel.names}
    if not any(rates.values()):
        return None
    if len(set(rates.values())) == 1:
        return kernel.read(weights) * next(iter(rates.values()))
    return kernel.read({name: weights[name] * rate if rate else None for name, rate in rates.items()})
