"""A projector that moves tensors onto the rules of a plan: weights and vectors, in place or as copies."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from threading import local
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from affinet.analysis.active import ActiveBounds, active_bounds
from affinet.analysis.one_sided import OneSided, one_sided_prices
from affinet.analysis.prices import PricedRules, Prices, parts_by_rule, prices, rules_that_share
from affinet.analysis.rule_values import Weight
from affinet.analysis.unreached import unreached
from affinet.blocks.kinds import AnyBlock, AnyLinear
from affinet.blocks.law import Linear, is_curved
from affinet.errors import AttachError, InfeasibleError, UnsupportedWeightError
from affinet.kernels.bounds_in_dtypes import check_bounds
from affinet.kernels.naming_rules import naming_rules
from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.convex_kernel import ConvexKernel
from affinet.kernels.torch.kernel import Decay, Kernel, State
from affinet.kernels.torch.measuring import Measure
from affinet.kernels.torch.precision import irregular_dtype, noise_floor, undisturbed
from affinet.kernels.torch.preparing import prepare
from affinet.kernels.torch.rounded_weights import format_of, weight_of
from affinet.kernels.torch.shards.divided_blocks import DividedBlocks, divided
from affinet.kernels.torch.shards.held_box import any_distributed, placed_like, placement_of
from affinet.kernels.torch.shards.united_bits import united
from affinet.kernels.torch.small_blocks import SmallBlocks, gather_small_blocks
from affinet.language.calculus.terms import Parameter
from affinet.language.dtensors import gathered, gathered_all
from affinet.language.modules import parameters_of, present_weights
from affinet.plans.plan import Plan

Kind = tuple[torch.device, torch.dtype, object]
"""The device and dtype of a tensor, and how processes hold it together (`placement_of`)."""
Kinds = dict[str, Kind]


class _Prepared(NamedTuple):
    """The kernels of all blocks, in their order, and apart: those of equations and those of convex sets.

    For equations also one call for all small blocks, or for those whose parts processes project where they lie, and the
    kernels of the remaining blocks.
    """

    every: tuple[Kernel | ConvexKernel, ...]
    kernels: tuple[Kernel, ...]
    small: SmallBlocks | DividedBlocks | None
    remaining: tuple[Kernel, ...]
    sets: tuple[ConvexKernel, ...]


class _States(local):
    """The states of kernels between steps, separate for each thread: other threads must not change the bits."""

    def __init__(self) -> None:
        self.of: dict[Kernel, State] = {}

    def __reduce__(self) -> tuple[type[_States], tuple[()]]:
        """Copy without states, perhaps into another process."""
        return _States, ()


class Projector:
    """Projects mappings of names to tensors onto the rules of a plan.

    Tensors may be on any one device and of any real floating dtype; kernels are set up on the first use of a device or
    dtype, and stored. Names and shapes are those of `plan.parameters`; tensors of other names are returned unchanged.
    """

    def __init__(self, plan: Plan, like: Mapping[str, Tensor], *, before: Projector | None = None) -> None:
        """`before`: a projector whose kernels are reused for blocks that both plans contain (`plans.updating`)."""
        self.plan = plan
        self.has_inequalities = not all(isinstance(block.law(), Linear) for block in plan.blocks)
        """Whether some rules are inequalities or nonlinear equations, so that tangents depend on the weights."""
        self._before = {} if before is None else before._by_block(plan.blocks)
        self._states = _States()
        if before is not None:
            reused = {id(kernel) for pairs in self._before.values() for _, kernel in pairs}
            self._states.of.update(
                (kernel, state) for kernel, state in before._states.of.items() if id(kernel) in reused
            )
        self.names = tuple(parameter.name for parameter in plan.parameters)
        self._prepared: dict[tuple[Any, ...], _Prepared] = {}
        self._latest: _Prepared | None = None
        self._measure = Measure(plan.system)
        check(plan, like)
        self._checked_dtypes: set[tuple[torch.dtype, ...]] = set()
        self._check_bounds(like)
        if not any(tensor.is_meta for tensor in like.values()):
            self.kernels(like)

    def __getstate__(self) -> dict[str, Any]:
        """The plan without kernels: a copy, perhaps in another process, sets them up again."""
        empty: dict[str, Any] = {"_prepared": {}, "_latest": None, "_before": {}, "_states": _States()}
        empty |= {"_measure": Measure(self.plan.system), "_checked_dtypes": set(self._checked_dtypes)}
        return {"plan": self.plan, "names": self.names, "has_inequalities": self.has_inequalities, **empty}

    def project(self, weights: Mapping[str, Tensor] | torch.nn.Module) -> dict[str, Tensor]:
        """The nearest point that satisfies all rules, as new tensors of the same dtypes; a model is not changed.

        Law: idempotent to one spacing of the dtype. Entries in no rule keep their bits. Raises InfeasibleError where no
        way to nonlinear equations was found.
        """
        weights = weights_of(self.plan, weights)
        with undisturbed(self._device(weights)):
            copies = {name: weights[name].detach().clone() for name in self.names}
            self.project_(copies, passes=2)
            blocks = self.unreached(copies)
        if blocks:
            raise self.not_found(blocks, weights)
        return {**weights, **copies}

    def tangent(
        self, vectors: Mapping[str, Tensor], at: Mapping[str, Tensor] | torch.nn.Module | None = None
    ) -> dict[str, Tensor]:
        """`P v`: the part of v that changes no rule, as new tensors. Law: `A P v == 0`.

        With inequalities it depends on the weights `at` which it is taken, and is the nearest direction that violates
        no rule to first order. Raises AttachError where rules are inequalities and `at` is missing.
        """
        check(self.plan, vectors)
        weights = self._weights_at(at, "tangent(vectors, at=weights)")
        if any(placement_of(weights[name]) != placement_of(vectors[name]) for name in self.names if weights):
            weights = {name: placed_like(gathered(weights[name]), vectors[name]) for name in self.names}
        with undisturbed(self._device(vectors)):
            copies = {name: vectors[name].detach().clone() for name in self.names}
            for kernel in self._project_small(copies, copies, affine=False):
                if not kernel.settle(copies, affine=False):
                    kernel.write(copies, self._tangent(kernel, kernel.read(copies)))
            # Which inequalities are active is up to the rounding of the weights, whatever the dtype of the vectors.
            for convex, of_weights in zip(self.sets(copies), self.sets(weights) if weights else (), strict=True):
                v = convex.read(copies)
                convex.write(copies, v - of_weights.normal(v, of_weights.read(weights)))
        return {**vectors, **copies}

    def violation(self, weights: Mapping[str, Tensor] | torch.nn.Module) -> dict[str, float]:
        """Rule name → largest absolute violation, in the units of the rule as written."""
        weights = weights_of(self.plan, weights)
        return self._measure(gathered_all({name: weights[name] for name in self.names}))

    def multipliers(
        self, gradients: Mapping[str, Tensor], at: Mapping[str, Tensor] | torch.nn.Module | None = None
    ) -> dict[str, Tensor]:
        """Rule name → ν of the rule's shape (float64, on the CPU), with `Aᵀν` nearest to the gradients.

        Law: ν is of smallest norm; at an optimum `ν = ∂f*/∂b` per unit of each equation as the user wrote it. With
        inequalities it depends on which are at their bound at the weights `at`: their ν has the sign of what their
        bound costs (at most 0 for `<=`, at least 0 for `>=`, 0 off the bound), and where it is not unique
        (`shared_multipliers`) it is the price of a change in one direction only.
        """
        check(self.plan, gradients)
        solved = self._prices(self._flat(gradients), self._weights_priced(at, "multipliers(gradients, at=weights)"))
        return {name: torch.from_numpy(part) for name, part in parts_by_rule(solved).items()}

    def priced(
        self, gradients: Mapping[str, Tensor], at: Mapping[str, Tensor] | torch.nn.Module | None = None
    ) -> PricedRules:
        """`multipliers` and `shared_multipliers`, solved for once, and as arrays of NumPy."""
        check(self.plan, gradients)
        solved = self._prices(self._flat(gradients), self._weights_priced(at, "priced(gradients, at=weights)"))
        return PricedRules(parts_by_rule(solved), rules_that_share(solved))

    def one_sided_multipliers(
        self,
        gradients: Mapping[str, Tensor],
        at: Mapping[str, Tensor] | torch.nn.Module,
        rules: Collection[str] | None = None,
    ) -> dict[str, OneSided]:
        """Rule name → ν where right-hand sides are lowered, and where they are raised; of all rules or the named ones.

        Law: they differ only for rows that depend on other active rows, where `multipliers` gives numbers in between.
        Raises RuleError for a name of no rule, and for more than 1,000 such rows, each of which takes two linear
        programs.
        """
        check(self.plan, gradients)
        gradient = self._flat(gradients)
        priced = one_sided_prices(self.plan.system, gradient, numbers_of(self.plan, at), rules)
        return {
            name: OneSided(torch.from_numpy(sides.lowered), torch.from_numpy(sides.raised))
            for name, sides in priced.items()
        }

    def active(self, weights: Mapping[str, Tensor] | torch.nn.Module) -> dict[str, ActiveBounds]:
        """Rule name → which of its inequalities are at their bound, to rounding; equations are left out."""
        return active_bounds(self.plan.system, numbers_of(self.plan, weights))

    def stationarity(
        self, gradients: Mapping[str, Tensor], at: Mapping[str, Tensor] | torch.nn.Module | None = None
    ) -> float:
        """`‖P g‖ / ‖g‖` over the parameters of the rules: 0 where the rules remove the entire gradient, 0 for g = 0.

        With inequalities `P g` is the distance of −g from the normal cone at the weights `at`, so that it is 0 only
        where no direction that the rules allow descends.
        """
        check(self.plan, gradients)
        descent = {name: -gradients[name] for name in self.names} if self.has_inequalities else gradients
        tangent, gradients = gathered_all(self.tangent(descent, at)), gathered_all(gradients)
        wide = irregular_dtype(self._device(gradients))
        tangent_norm, norm = (
            sum(float(torch.linalg.vector_norm(vectors[name].detach(), dtype=wide)) ** 2 for name in self.names) ** 0.5
            for vectors in (tangent, gradients)
        )
        return tangent_norm / norm if norm != 0.0 else 0.0

    def shared_multipliers(
        self, at: Mapping[str, Tensor] | torch.nn.Module | None = None
    ) -> dict[str, tuple[str, ...]]:
        """Rule name → the other rules together with which it is redundant; independent rules are omitted.

        With inequalities: the rules on which its rows at their bound depend, at the weights `at`.
        """
        weights = self._weights_priced(at, "shared_multipliers(at=weights)")
        return rules_that_share(self._prices(np.zeros(self.plan.system.layout.size), weights))

    def project_(self, weights: Mapping[str, Tensor], *, passes: int = 1, skipped: Tensor | None = None) -> None:
        """Move weights to the nearest feasible point, in place.

        One pass is exact to rounding for weights near the set, as after a step; a second pass refines a long move.
        Where the number `skipped` is not zero (a GradScaler found an infinity) no bit changes, decided on the device.
        Raises AttachError, with nothing moved, where a dtype has no number within the bounds of a weight.
        """
        self._check_bounds(weights)
        self.project_onto_equations_(weights, passes=passes, skipped=skipped)
        if not self.has_inequalities:
            return
        with undisturbed(self._device(weights)):
            for block, convex in self.pairs(weights):
                if isinstance(convex, ConvexKernel):
                    with naming_rules(self.plan, block):
                        if skipped is None:
                            convex.project_(weights)
                        else:
                            x = convex.read(weights)
                            convex.write(weights, torch.where(skipped != 0, x, convex.project(x)))

    def project_onto_equations_(
        self, weights: Mapping[str, Tensor], *, passes: int = 1, skipped: Tensor | None = None
    ) -> None:
        """As `project_`, for the blocks without inequalities."""
        if skipped is None:
            kernels = self._project_small(weights, weights, affine=True, passes=passes)
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
                    else:  # decided on the device, without waiting for it
                        kernel.write(weights, torch.where(skipped != 0, x, self._landed(kernel, x.clone())))

    def project_in_metric_(
        self, weights: Mapping[str, Tensor], metric: Mapping[str, Tensor], skipped: Tensor | None = None
    ) -> None:
        """Move weights to the feasible point nearest in `Σ D_i dw_i²`, in place; `metric` are the D_i > 0.

        Two passes: where the D_i differ by many orders of magnitude the first loses digits that the second recovers.
        """
        with undisturbed(self._device(weights)):
            for kernel in self.kernels(weights):
                if skipped is None and kernel.settle(weights, affine=True, metric=metric):
                    continue
                x, resistance = kernel.read(weights), kernel.read(metric)
                moved = kernel.land_in_metric(kernel.land_in_metric(x, resistance), resistance)
                kernel.write(weights, moved if skipped is None else torch.where(skipped != 0, x, moved))
            for convex in self.sets(weights):
                x = convex.read(weights)
                moved = convex.nearest(x, convex.read(metric))
                convex.write(weights, moved if skipped is None else torch.where(skipped != 0, x, moved))

    def project_gradients_(
        self,
        gradients: Tensors,
        weights: Mapping[str, Tensor],
        decay: Mapping[str, float],
        scale: Tensor | None = None,
    ) -> None:
        """`g ← P(g + λ w) − λ w`, in place, with rounding noise set to zero, for the blocks without inequalities.

        `decay` has the signed λ of the weight decay that the optimizer will add to each gradient, so that it uses
        `P(g + λ w)`. Missing gradients stay missing; their entries count as zero and have no decay.
        """
        decayed = Decay(decay, weights) if decay else None
        if scale is None:
            quiet = noise_floor(self._dtype(weights))
            kernels = self._project_small(gradients, weights, affine=False, quiet=quiet, decay=decayed)
        else:
            kernels = self.kernels(weights)
        if not kernels:
            return
        with undisturbed(self._device(weights)):
            for kernel in kernels:
                present = {name: gradients.get(name) for name in kernel.names}
                floor = _floor(present)
                in_place = scale is None or decayed is None  # a scaled decay can be added only after reading
                if floor > 0.0 and not (in_place and kernel.settle(present, affine=False, quiet=floor, decay=decayed)):
                    self._project_gradient(kernel, present, decayed, scale, floor)

    def forget(self) -> None:
        """Drop the states from previous steps.

        Law: the next projection does not depend on earlier projections, to the bit.
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
        tangent, state = kernel.tangent(x, states.get(kernel), floor=floor)
        if state is not None:
            states[kernel] = state
        return tangent

    def _project_gradient(
        self, kernel: Kernel, gradients: Tensors, decay: Decay | None, scale: Tensor | None, floor: float
    ) -> None:
        x = kernel.read(gradients)
        shift = None if decay is None else _decayed(kernel, gradients, decay)
        if shift is not None and scale is not None:
            shift = shift * scale
        projected = self._tangent(kernel, x if shift is None else x + shift, floor)
        kernel.write(gradients, projected if shift is None else projected - shift)

    def _weights_at(self, at: Mapping[str, Tensor] | torch.nn.Module | None, call: str) -> Mapping[str, Tensor]:
        """The weights at which tangents are taken; empty where they depend on none."""
        return self._checked_weights(at, call) if self.has_inequalities else {}

    def _weights_priced(self, at: Mapping[str, Tensor] | torch.nn.Module | None, call: str) -> Mapping[str, Tensor]:
        """The weights at which rules are priced; empty where all rules are linear equations.

        Inequalities that the plan drops, or holds as equations, have signs and slack all the same.
        """
        return self._checked_weights(at, call) if self.plan.system.kinds_at_weights else {}

    def _checked_weights(self, at: Mapping[str, Tensor] | torch.nn.Module | None, call: str) -> Mapping[str, Tensor]:
        if at is None:
            raise AttachError(
                f"some of the rules are {self.plan.system.kinds_at_weights}, and what they allow depends on the "
                f"weights. Give the weights too: {call}."
            )
        return weights_of(self.plan, at)

    def _flat(self, vectors: Mapping[str, Tensor]) -> np.ndarray:
        """All numbers of the vectors in the order of the plan's parameters, in float64."""
        flat = [gathered(vectors[name]).detach().to("cpu", torch.float64).reshape(-1).numpy() for name in self.names]
        return np.concatenate([np.zeros(0), *flat])

    def _check_bounds(self, weights: Mapping[str, Tensor]) -> None:
        """Raise AttachError, once per combination of dtypes, where weights cannot be within their bounds."""
        dtypes = tuple(weights[name].dtype for name in self.names)
        if self.has_inequalities and dtypes not in self._checked_dtypes:
            check_bounds(self.plan, {name: format_of(dtype) for name, dtype in zip(self.names, dtypes, strict=True)})
            self._checked_dtypes.add(dtypes)

    def _prices(self, gradient: np.ndarray, weights: Mapping[str, Tensor]) -> Prices:
        return prices(self.plan.system, gradient, numbers_of(self.plan, weights) if weights else {})

    def _device(self, tensors: Mapping[str, Tensor]) -> torch.device:
        """The device of all constrained tensors."""
        return tensors[self.names[0]].device if self.names else torch.device("cpu")

    def _dtype(self, tensors: Mapping[str, Tensor]) -> torch.dtype:
        """The dtype of the first constrained tensor, which all tensors in one compiled call share."""
        return tensors[self.names[0]].dtype if self.names else torch.float32

    def kernels(self, tensors: Mapping[str, Tensor]) -> tuple[Kernel, ...]:
        """The kernels for these devices and dtypes, one per block without inequalities."""
        return self._prepare(tensors).kernels

    def sets(self, tensors: Mapping[str, Tensor]) -> tuple[ConvexKernel, ...]:
        """The kernels for these devices and dtypes, one per block with inequalities."""
        return self._prepare(tensors).sets if self.has_inequalities else ()

    def unreached(self, weights: Mapping[str, Tensor]) -> list[AnyBlock]:
        """The blocks of nonlinear rules that weights, moved by `project_`, do not satisfy: no way was found."""
        if not any(is_curved(block.law()) for block in self.plan.blocks):
            return []
        pairs = [(block, kernel) for block, kernel in self.pairs(weights) if isinstance(kernel, ConvexKernel)]
        is_missed = [int(kernel.misses(weights)) for _, kernel in pairs]
        local_weights = [weights[name] for _, kernel in pairs if kernel.cells is not None for name in kernel.names]
        return [block for (block, _), misses in zip(pairs, united(is_missed, local_weights), strict=True) if misses]

    def not_found(self, blocks: Sequence[AnyBlock], weights: Mapping[str, Tensor]) -> InfeasibleError:
        """The error for blocks that were not reached from weights."""
        numbers = {name: gathered(weights[name]).detach().double().cpu().numpy() for name in self.names}
        return unreached(self.plan.system, blocks, self.violation(weights), numbers)

    def pairs(self, tensors: Mapping[str, Tensor]) -> list[tuple[AnyBlock, Kernel | ConvexKernel]]:
        """Each block and its kernel for these devices and dtypes."""
        return list(zip(self.plan.blocks, self._prepare(tensors).every, strict=True))

    def _project_small(
        self,
        tensors: Tensors,
        weights: Mapping[str, Tensor],
        *,
        affine: bool,
        quiet: float = 0.0,
        decay: Decay | None = None,
        passes: int = 1,
    ) -> tuple[Kernel, ...]:
        """Project all small blocks in one call where the tensors allow it; return the kernels that remain to run."""

        def projected(small: SmallBlocks | DividedBlocks | None) -> bool:
            return small is not None and small.settle(tensors, affine=affine, quiet=quiet, decay=decay, passes=passes)

        if self._latest is not None and projected(self._latest.small):
            return ()
        prepared = self._prepare(weights)
        return prepared.remaining if projected(prepared.small) else prepared.kernels

    def _prepare(self, tensors: Mapping[str, Tensor]) -> _Prepared:
        key = tuple(_kind(tensors[name]) for name in self.names)
        prepared = self._prepared.get(key)
        if prepared is None:
            devices = {device for device, _, _ in key}
            if len(devices) > 1:
                raise AttachError(
                    f"the constrained weights lie on several devices ({', '.join(sorted(map(str, devices)))}). "
                    f"Rules over one model need all of its constrained weights on one device."
                )
            prepared = _sorted(self.plan.blocks, [self._kernel(block, tensors) for block in self.plan.blocks], tensors)
            self._prepared[key] = prepared
        self._latest = prepared if not prepared.remaining else None
        return prepared

    def _kernel(self, block: AnyBlock, tensors: Mapping[str, Tensor]) -> Kernel | ConvexKernel:
        for kinds, kernel in self._before.get(id(block), ()):
            if all(_kind(tensors[name]) == kinds[name] for name in kernel.names):
                return kernel
        return prepare(block, tensors)

    def _by_block(self, blocks: Sequence[AnyBlock]) -> dict[int, list[tuple[Kinds, Kernel | ConvexKernel]]]:
        """Kernels of these blocks by the identity of the block, with the devices and dtypes of each kernel."""
        wanted = set(map(id, blocks))
        kernels: dict[int, list[tuple[Kinds, Kernel | ConvexKernel]]] = {}
        for key, prepared in self._prepared.items():
            for block, kernel in zip(self.plan.blocks, prepared.every, strict=True):
                if id(block) in wanted:
                    kernels.setdefault(id(block), []).append((dict(zip(self.names, key, strict=True)), kernel))
        return kernels


def _sorted(
    blocks: Sequence[AnyBlock], every: Sequence[Kernel | ConvexKernel], tensors: Mapping[str, Tensor]
) -> _Prepared:
    sets = tuple(kernel for kernel in every if isinstance(kernel, ConvexKernel))
    pairs = [(b, kernel) for b, kernel in zip(blocks, every, strict=True) if not isinstance(kernel, ConvexKernel)]
    kernels = tuple(kernel for _, kernel in pairs)
    if any_distributed(tensors.values()):
        parts = [divided(cast("AnyLinear", block), tensors, prepare) for block, _ in pairs]
        gathered_kernels = tuple(kernel for kernel, part in zip(kernels, parts, strict=True) if part is None)
        all_parts = [each for part in parts if part is not None for each in part]
        blocks_together = DividedBlocks(all_parts, tensors) if all_parts else None
        return _Prepared(tuple(every), kernels, blocks_together, gathered_kernels, sets)
    small, remaining = gather_small_blocks([block for block, _ in pairs], kernels, tensors)
    return _Prepared(tuple(every), kernels, small, remaining, sets)


def projector(plan: Plan, like: Any) -> Projector:
    """The projector of a plan for a torch.nn.Module, or for a mapping of names to tensors."""
    if isinstance(like, torch.nn.Module):
        like = parameters_of(like, [parameter.name for parameter in plan.parameters])
    if not isinstance(like, Mapping):
        raise AttachError(f"give a torch.nn.Module or a mapping of names to tensors, not {type(like).__name__}.")
    return Projector(plan, like)


def numbers_of(plan: Plan, source: Mapping[str, Tensor] | torch.nn.Module) -> dict[str, Weight]:
    """The weights of the rules as the numbers that rules are evaluated at."""
    weights = weights_of(plan, source)
    return {parameter.name: weight_of(gathered(weights[parameter.name])) for parameter in plan.parameters}


def weights_of(plan: Plan, source: Mapping[str, Tensor] | torch.nn.Module) -> Mapping[str, Tensor]:
    """The weights of a model, including computed weights, or the mapping itself; checked against the plan."""
    if isinstance(source, torch.nn.Module):
        source = present_weights(source, [parameter.name for parameter in plan.parameters])
    check(plan, source)
    return source


def check(plan: Plan, tensors: Mapping[str, Tensor]) -> None:
    """Raise unless every parameter of the plan has a tensor of its shape and of a real floating dtype."""
    check_tensors(plan.parameters, tensors)


def check_tensors(parameters: Iterable[Parameter], tensors: Mapping[str, Tensor]) -> None:
    """Raise unless each parameter has a tensor of its shape and of a real floating dtype."""
    if isinstance(tensors, torch.nn.Module):
        raise AttachError(
            f"give vectors, one for each weight, not a {type(tensors).__name__}: a mapping of names to "
            f"tensors; for gradients {{name: p.grad for name, p in model.named_parameters()}}."
        )
    if not isinstance(tensors, Mapping):
        raise AttachError(
            f"give a mapping of names to tensors, such as model.state_dict(), not {type(tensors).__name__}."
        )
    for parameter in parameters:
        tensor = tensors.get(parameter.name)
        if tensor is None:
            raise AttachError(
                f"the rules are about {parameter.name!r} and there is no such tensor; there are: "
                f"{', '.join(sorted(tensors)) or 'none'}."
            )
        if not isinstance(tensor, Tensor):
            raise AttachError(f"{parameter.name!r} is {type(tensor).__name__}, and must be a torch.Tensor.")
        if tuple(tensor.shape) != parameter.shape:
            raise AttachError(
                f"the rules are about {parameter.name!r} of shape {parameter.shape}, and it has shape "
                f"{tuple(tensor.shape)}. Make the rules from affinet.weights of this very model."
            )
        if not tensor.dtype.is_floating_point:
            raise UnsupportedWeightError(
                parameter.name, f"its dtype is {tensor.dtype}", "Rules need a real floating dtype."
            )


def _kind(tensor: Tensor) -> Kind:
    return tensor.device, tensor.dtype, placement_of(tensor)


def _floor(gradients: Tensors) -> float:
    """The floor of noise of the gradients that are present, 0 without any."""
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
