"""The sandwich: project the gradients before the optimizer sees them, let it step, project the weights after."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, Protocol
from weakref import ref

import torch
from torch import Tensor, optim
from torch.utils.hooks import RemovableHandle

from affinet.errors import GradientError
from affinet.kernels.torch.projector import Projector
from affinet.plans.plan import Plan
from affinet.training.attaching import (
    check_finite_gradients,
    check_gradients,
    check_optimizers,
    check_places,
    check_stepped_alone,
)
from affinet.training.capture import Capture
from affinet.training.decay import Decay, decay_kind, signed_rates
from affinet.training.freezing import Freezing, Trained
from affinet.training.metric import check_metric, metric_of
from affinet.training.missing import Couplings, StandIns
from affinet.training.nesting import Nest, held_by
from affinet.training.own_weights import KeptWeights
from affinet.training.scaling import unscale
from affinet.training.stillness import Snapshot

Metric = Literal["euclidean", "optimizer"]

Marks = dict[str, tuple[ref[Tensor], int]]
"""Gradients as they were left: the tensor and its version, which grows with every write."""


class Onlooker(Protocol):
    """Sees the steps of a sandwich and writes to nothing; `optimizer` is a place in the list of optimizers."""

    def wants_gradients(self) -> bool:
        """Whether the gradients of the step that comes are to be kept."""

    def opens(self, optimizer: int) -> None:
        """Before a step: gradients and weights are as the training left them."""

    def stepped(self, optimizer: int) -> None:
        """The optimizer has moved the weights, and they are not projected yet."""

    def closes(self, optimizer: int, skipped: Tensor | None) -> None:
        """After the projection; `skipped` is not zero where a GradScaler skipped the step."""


class Sandwich:
    """The hooks of one or several optimizers.

    `param_groups` are never written to, and a step that raises leaves nothing behind: what is remembered between hooks
    is only which gradients are projected already, by their version.

    Several optimizers: the first to step projects all gradients, since rules may couple them; the others find theirs
    projected. Hooks that fire twice (a subclass whose `step` calls `super().step()`) find the same. Of an optimizer
    inside another the inner one is followed, and what the outer one does to the weights after it is projected too.
    """

    def __init__(
        self,
        freezing: Freezing,
        nests: tuple[Nest, ...],
        kept: KeptWeights,
        metric: Metric,
        decay: Decay | None,
        check_finite: bool,
    ) -> None:
        self._freezing = freezing
        optimizers = tuple(one.stepper for one in nests)
        self._optimizers = [ref(optimizer) for optimizer in optimizers]
        self._wrappers = [[ref(wrapper) for wrapper in one.wrappers] for one in nests]
        self._moving = [(place, ref(wrapper)) for place, one in enumerate(nests) for wrapper in one.moving]
        self._kept = kept
        self._metric = metric
        self._check_finite = check_finite
        self._removers: list[Callable[[], None]] = []
        self._projected: Marks = {}
        self._early: Marks = {}
        self._waiting: set[int] = set()
        self._stand_ins = StandIns()
        self._snapshot: Snapshot | None = None
        self._onlookers: tuple[Onlooker, ...] = ()
        self._take(freezing.trained(optimizers, self._check))
        self._steppers = frozenset(map(id, optimizers))
        self._coupled = [decay_kind(one.core, decay) == "coupled" for one in nests]

    @property
    def projector(self) -> Projector:
        """The projector over the parameters that are trained now."""
        return self._trained.projector

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """The constrained parameters that are trained now."""
        return self._trained.parameters

    @property
    def trained(self) -> Trained:
        """The rules over the parameters that are trained now."""
        return self._trained

    @property
    def plan(self) -> Plan:
        """The plan of all rules, those about frozen weights included."""
        return self._freezing.plan

    @property
    def optimizers(self) -> int:
        """How many optimizers were attached."""
        return len(self._optimizers)

    @property
    def in_metric(self) -> bool:
        """Whether weights are projected in the metric of the optimizer, and gradients are not."""
        return self._metric == "optimizer"

    @property
    def attached(self) -> bool:
        """Whether the hooks are on."""
        return bool(self._removers)

    def violation(self) -> dict[str, float]:
        """Rule name → largest absolute violation of all rules, frozen weights at their values."""
        return self._freezing.violation()

    def decayed(self, name: str) -> float:
        """λ that the optimizer adds to the gradient of a parameter, negative where it maximizes."""
        return self._rates().get(name, 0.0)

    @property
    def maximizes(self) -> bool:
        """Whether the optimizers go up."""
        return any(group.get("maximize") for one in self._living() for group in one.param_groups)

    def holds(self, optimizer: optim.Optimizer) -> bool:
        """Whether the rules are kept through the steps of this very optimizer."""
        return self.attached and any(one is optimizer for one in self.nested())

    def attach(self) -> None:
        """Register the hooks on every optimizer."""
        # A compiled step runs the hooks as they are: traced, they would break into a graph for every block.
        for optimizer in self._living():
            self._removers.append(optimizer.register_step_pre_hook(torch.compiler.disable(self._before)).remove)
            self._removers.append(_first(optimizer.register_step_post_hook(torch.compiler.disable(self._after))).remove)
        for place, found in self._moving:
            if (wrapper := found()) is not None:
                settle = torch.compiler.disable(partial(self._after_wrapper, place))
                self._removers.append(_first(wrapper.register_step_post_hook(settle)).remove)

    def detach(self) -> list[optim.Optimizer]:
        """Take all hooks away; the optimizers that kept the rules, none the second time."""
        if not self._removers:
            return []
        for remove in self._removers:
            remove()
        self._removers.clear()
        return self.nested()

    def nested(self) -> list[optim.Optimizer]:
        """The optimizers with those around them."""
        found = [*self._optimizers, *(wrapper for wrappers in self._wrappers for wrapper in wrappers)]
        return [optimizer for one in found if (optimizer := one()) is not None]

    def replace(self, freezing: Freezing) -> Freezing:
        """Keep other rules from the next step on; returns what followed the earlier ones.

        Raises what `project` raises for such rules, and keeps the earlier ones then.
        """
        trained = freezing.trained(self._living(), self._check)
        earlier, self._freezing = self._freezing, freezing
        self._stand_ins.close()
        self._waiting.clear()
        self._take(trained)
        return earlier

    def settle_kept(self) -> None:
        """Move the weights that optimizers keep in their state to the nearest feasible points."""
        self._kept.project_(self.projector, self.parameters)

    def show(self, onlooker: Onlooker) -> None:
        """Let somebody see every step from now on."""
        self._onlookers = (*self._onlookers, onlooker)

    def hide(self, onlooker: Onlooker) -> None:
        """Let somebody see no step any more; one who saw none is no error."""
        self._onlookers = tuple(one for one in self._onlookers if one is not onlooker)

    def shows(self, onlooker: Onlooker) -> bool:
        """Whether somebody sees the steps."""
        return any(one is onlooker for one in self._onlookers)

    def project_gradients(self) -> None:
        """`g ← P g` of all constrained parameters, weight decay left out; a step projects again what was changed."""
        if self.in_metric:
            return
        self._follow()
        gradients = self._gradients()
        if _unwritten(self._early, gradients):
            return
        gradients = self._complete(gradients, self._early, None)
        rates = self._rates()
        if not _same(self._early, gradients):
            self.capture.take(gradients, rates, None, wanted=self._wanted())
        self.projector.project_gradients_(gradients, self.parameters, {})
        self._early = _marks(gradients)

    def _before(
        self, optimizer: optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Project the gradients, or have the closure do it each time it has computed them."""
        self._follow()
        for onlooker in self._onlookers:
            onlooker.opens(self._place(optimizer))
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            self._prepare(optimizer)
            self._snapshot = Snapshot(optimizer, self.parameters)
            return None
        self._snapshot = None
        wrapped = self._wrapped(optimizer, closure)
        if "closure" in kwargs:
            return args, {**kwargs, "closure": wrapped}
        return (args[0], wrapped, *args[2:]), kwargs

    def _wrapped(self, optimizer: optim.Optimizer, closure: Callable[[], Any]) -> Callable[[], Any]:
        def projected() -> Any:
            loss = closure()
            self._projected = {}  # whatever the versions say, these are new
            self._prepare(optimizer)
            return loss

        return projected

    def _prepare(self, optimizer: optim.Optimizer) -> None:
        gradients = self._gradients()
        # A fused optimizer under a GradScaler decides on the device whether the step is taken.
        if self._check_finite and getattr(optimizer, "found_inf", None) is None:
            check_finite_gradients(gradients)
        early, self._early = self._early, {}
        if _unwritten(self._projected, gradients):
            return
        scale = self._scale(optimizer)
        if len(self._optimizers) > 1 and unscale(one for one in self._living() if one is not optimizer):
            # Of several optimizers a GradScaler leaves out the steps of those with an overflow, not of the others.
            check_finite_gradients(gradients)
        if not self.in_metric:
            gradients = self._complete(gradients, early, optimizer)
        rates = self._rates()
        # What was projected before clipping was captured then, as it was.
        if not _same(early, gradients):
            self.capture.take(gradients, rates, scale, wanted=self._wanted())
        if not self.in_metric:
            self.projector.project_gradients_(gradients, self.parameters, rates, scale)
            self._projected, self._waiting = _marks(gradients), set(self._steppers)

    def _complete(
        self, gradients: dict[str, Tensor | None], early: Marks, optimizer: optim.Optimizer | None
    ) -> dict[str, Tensor | None]:
        """The gradients with zeros for missing ones that rules couple to others: the projection gives them their part.

        Raises GradientError where `optimizer` steps and the gradient will come later, for another one.
        """
        if self._stand_ins and not _same(early, gradients):
            self._stand_ins.take_away()
            gradients = self._gradients()
        if optimizer is not None and len(self._optimizers) > 1 and _in_backward():
            others = self.parameters.keys() - self._held(optimizer)
            check_stepped_alone(optimizer, self._couplings.of(others), in_backward=True)
        missing = [name for name, gradient in gradients.items() if gradient is None]
        if not missing or len(missing) == len(gradients):
            return gradients
        coupled = self._couplings.of(missing)
        if optimizer is not None and coupled:
            backward = _in_backward()
            late = coupled.keys() if backward else coupled.keys() - self._held(optimizer)
            check_stepped_alone(optimizer, late, in_backward=backward)
        put = {name: self._stand_ins.put(name, self.parameters[name], mask) for name, mask in coupled.items()}
        return {**gradients, **put}

    def _after(self, optimizer: optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ours = self._held(optimizer) if self._stand_ins else {}
        self._stand_ins.put_back(ours)
        skipped = getattr(optimizer, "found_inf", None)
        onlookers = self._onlookers
        for onlooker in onlookers:
            onlooker.stepped(self._place(optimizer))
        snapshot, self._snapshot = self._snapshot, None
        left = frozenset() if snapshot is None else snapshot.left()
        if not left.issuperset(self.parameters):
            self._settle(skipped)
        if snapshot is not None and left and not self.in_metric:  # what is coupled in a metric changes with it
            snapshot.put_back(left, self._couplings)
        self._stand_ins.put_back(ours)
        for onlooker in onlookers:
            onlooker.closes(self._place(optimizer), skipped)
        # What was projected counts as such until all have stepped: then anybody may write new gradients, also where no
        # version tells (`.data`, arrays that share their memory).
        self._waiting.discard(id(optimizer))
        if not self._waiting:
            self._projected = {}
            self._stand_ins.close()

    def _after_wrapper(
        self, place: int, wrapper: optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """What a wrapper made of the weights after the step inside it is projected too."""
        self._settle(None)
        for onlooker in self._onlookers:
            onlooker.closes(place, None)

    def _settle(self, skipped: Tensor | None) -> None:
        """Weights, and those that optimizers keep, go to the nearest feasible point."""
        if self.in_metric:
            self.projector.project_in_metric_(self.parameters, metric_of(self._living(), self.parameters), skipped)
        else:
            self.projector.project_(self.parameters, skipped=skipped)
        if self._kept:
            self._kept.project_(self.projector, self.parameters, skipped)

    def _follow(self) -> None:
        """Look whether parameters were replaced, frozen or thawed since the last step."""
        if self._freezing.changed(self._living):
            self._take(self._freezing.trained(self._living(), self._check))
        check_places(self._trained.places)

    def _take(self, trained: Trained) -> None:
        self._trained = trained
        self._names = {id(parameter): name for name, parameter in trained.parameters.items()}
        self.capture = Capture(trained.parameters)
        self._couplings = Couplings(trained.projector, trained.parameters)
        self._projected, self._early = {}, {}

    def _check(self, plan: Plan, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        optimizers = self._living()
        check_optimizers(optimizers, parameters)
        if self._metric != "euclidean":
            check_metric(self._metric, optimizers, plan)

    def _living(self) -> tuple[optim.Optimizer, ...]:
        return tuple(one for found in self._optimizers if (one := found()) is not None)

    def _held(self, optimizer: optim.Optimizer) -> dict[str, torch.nn.Parameter]:
        """The constrained parameters that one of the optimizers holds."""
        held = held_by(optimizer)
        return {name: parameter for name, parameter in self.parameters.items() if id(parameter) in held}

    def _wanted(self) -> bool:
        return any(onlooker.wants_gradients() for onlooker in self._onlookers)

    def _place(self, optimizer: optim.Optimizer) -> int:
        return next(place for place, found in enumerate(self._optimizers) if found() is optimizer)

    def _gradients(self) -> dict[str, Tensor | None]:
        gradients: dict[str, Tensor | None] = {name: p.grad for name, p in self.parameters.items()}
        check_gradients(gradients)
        return gradients

    def _rates(self) -> dict[str, float]:
        rates: dict[str, float] = {}
        for found, coupled in zip(self._optimizers, self._coupled, strict=True):
            optimizer = found()
            if coupled and optimizer is not None:
                rates.update(signed_rates(optimizer, self._names))
        return rates

    def _scale(self, optimizer: optim.Optimizer) -> Tensor | None:
        """By how much a fused optimizer's gradients are still scaled (torch.amp.GradScaler); None if they are not."""
        scale = getattr(optimizer, "grad_scale", None)
        if scale is not None and len(self._optimizers) > 1:
            raise GradientError(
                "the gradients of one of several optimizers are still scaled by a GradScaler, and rules may couple "
                "them with gradients that are not. Call scaler.unscale_(optimizer) for every optimizer before the "
                "first scaler.step; the step was not taken."
            )
        return scale if isinstance(scale, Tensor) else None


def _marks(gradients: Mapping[str, Tensor | None]) -> Marks:
    return {name: (ref(g), g._version) for name, g in gradients.items() if g is not None}


def _same(marks: Marks, gradients: Mapping[str, Tensor | None]) -> bool:
    """Whether these very gradients were marked, written to since or not."""
    present = {name: g for name, g in gradients.items() if g is not None}
    if not present or present.keys() != marks.keys():
        return False
    return all(marks[name][0]() is g for name, g in present.items())


def _unwritten(marks: Marks, gradients: Mapping[str, Tensor | None]) -> bool:
    """Whether the gradients that are there were all marked and nobody has written to them since.

    Others may be missing now: a loop may clear those of an optimizer that has stepped before the next one steps.
    """
    present = {name: g for name, g in gradients.items() if g is not None}
    return bool(present) and all(
        name in marks and marks[name][0]() is g and marks[name][1] == g._version for name, g in present.items()
    )


def _first(handle: RemovableHandle) -> RemovableHandle:
    """Run a hook before those that were registered earlier: they are to see weights on the rules."""
    hooks = handle.hooks_dict_ref()
    if isinstance(hooks, OrderedDict):
        hooks.move_to_end(handle.id, last=False)
    return handle


def _in_backward() -> bool:
    """Whether the backward pass is running: what torch's own module tracker asks."""
    return bool(torch._C._current_graph_task_id() != -1)
