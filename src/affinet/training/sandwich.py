"""Register the hooks around optimizer steps: project the gradients before a step, and the weights after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal
from weakref import WeakSet, ref

import torch
from torch import Tensor, optim

from affinet.errors import AttachError, GradientError
from affinet.kernels.torch.projector import Projector
from affinet.kernels.torch.shards.held_box import place_gradient, version_of
from affinet.plans.plan import Plan
from affinet.training.attaching import (
    check_finite_gradients,
    check_gradients,
    check_optimizers,
    check_places,
    check_stepped_alone,
    check_still_held,
)
from affinet.training.capture import Capture
from affinet.training.decay import Decay, decay_kind, signed_rates
from affinet.training.directions import Directions, maximized_rules, negated
from affinet.training.freezing import Freezing, Trained
from affinet.training.gradient_terms import Added
from affinet.training.hooked_optimizers import HookedOptimizers, run_first
from affinet.training.learning import Learning
from affinet.training.metric import check_metric, has_entrywise_steps, metric_of
from affinet.training.missing import Couplings, StandIns
from affinet.training.mode_changes import ModeChanges
from affinet.training.nesting import Nest, parameter_ids
from affinet.training.objective import Objective, objective_of
from affinet.training.other_processes import OtherProcesses
from affinet.training.scaling import unscale
from affinet.training.state_weights import StateWeights
from affinet.training.step_start import StepStart, forget_curvature, undone_if_refused
from affinet.training.stillness import Snapshot

Metric = Literal["euclidean", "optimizer"]

Marks = dict[str, tuple[ref[Tensor], int]]
"""Name → gradient and its version, which every write raises."""


class Sandwich:
    """The hooks of one or several optimizers.

    `param_groups` are never written to, and a step that raises leaves no state behind: between hooks the sandwich
    remembers only which gradients are projected already, by their version.

    Several optimizers: the first to step projects all gradients, since rules may couple them; the others find theirs
    projected. So does the second call of hooks that are called twice (a subclass whose `step` calls `super().step()`).
    Where an optimizer contains another, hooks are on the inner one, and moves of the weights by the outer one are
    projected too.
    """

    def __init__(
        self,
        freezing: Freezing,
        nests: tuple[Nest, ...],
        state_weights: StateWeights,
        metric: Metric,
        decay: Decay | None,
        check_finite: bool,
    ) -> None:
        self._freezing = freezing
        optimizers = tuple(nested.stepper for nested in nests)
        self.hooked = HookedOptimizers(nests)
        self._moving_wrappers = [
            (position, ref(wrapper)) for position, nested in enumerate(nests) for wrapper in nested.moving
        ]
        self._state_weights = state_weights
        self._metric = metric
        self._check_finite = check_finite
        self._projected: Marks = {}
        self._projected_early: Marks = {}
        self._pending: set[int] = set()
        self._stand_ins = StandIns()
        self._snapshot: Snapshot | None = None
        self._mode_changes = ModeChanges(lambda: self._learning)
        self._searching = WeakSet(nested.stepper for nested in nests if isinstance(nested.core, optim.LBFGS))
        self._use(freezing.trained(optimizers, self._check), None)
        self._steppers = frozenset(map(id, optimizers))
        self._directions = Directions(nests, self.parameters)
        self._coupled = [decay_kind(nested.core, decay) == "coupled" for nested in nests]

    @property
    def projector(self) -> Projector:
        """The projector over the parameters that are currently trained."""
        return self._trained.projector

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """The constrained parameters that are currently trained."""
        return self._trained.parameters

    @property
    def every_parameter(self) -> dict[str, torch.nn.Parameter]:
        """All parameters that the rules are about, frozen ones included."""
        return self._freezing.every_parameter

    @property
    def trained(self) -> Trained:
        """The rules over the parameters that are currently trained."""
        return self._trained

    @property
    def plan(self) -> Plan:
        """The plan of all rules, including rules about frozen weights."""
        return self._freezing.plan

    @property
    def in_metric(self) -> bool:
        """Whether weights are projected in the optimizer's metric, and gradients are not projected."""
        return self._metric == "optimizer"

    def violation(self) -> dict[str, float]:
        """Rule name → largest absolute violation of all rules, frozen weights at their values."""
        return self._freezing.violation()

    def decayed(self, name: str) -> float:
        """λ that the optimizer adds to the gradient of a parameter, negative where it maximizes."""
        return self._rates().get(name, 0.0)

    @property
    def maximized(self) -> frozenset[str]:
        """The names of the trained weights whose optimizer maximizes."""
        return self._directions.maximized(self.hooked.live(), self._names)

    def objective(self, model: torch.nn.Module | None) -> Objective:
        """What the optimizers minimize, over all weights that they train, whether rules are about them or not.

        Raises AttachError where an optimizer does not exist any more.
        """
        optimizers = self.hooked.live()
        if len(optimizers) < len(self.hooked):
            raise AttachError(
                "an optimizer of this training does not exist any more, so that it is not known which weights it "
                "trained. Call handle.certificate(loss_fn) while the optimizer exists."
            )
        return objective_of(self.projector.plan, self.parameters, model, optimizers, self._coupled, self._directions)

    def minimized(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The gradients of what the optimizers minimize: the negative ones where they maximize."""
        return negated(gradients, self.maximized)

    def maximized_rules(self) -> frozenset[str]:
        """The names of the rules about maximized weights alone."""
        return maximized_rules(self.projector.plan, self.maximized)

    def attach(self) -> None:
        """Register the hooks on every optimizer."""
        self._learning.mark()
        self.hooked.attach(self._before, self._after)
        for optimizer in self.hooked.nested():
            for remove in self._mode_changes.attach(optimizer):
                self.hooked.add(remove)
        for position, reference in self._moving_wrappers:
            if (wrapper := reference()) is not None:
                hook = torch.compiler.disable(partial(self._after_wrapper, position))
                self.hooked.add(run_first(wrapper.register_step_post_hook(hook)).remove)

    def replace(self, freezing: Freezing) -> Freezing:
        """Keep other rules from the next step on; return the `Freezing` of the earlier rules.

        Raises the errors of `project` for such rules, and keeps the earlier rules then.
        """
        trained = freezing.trained(self.hooked.live(), self._check)
        earlier, self._freezing = self._freezing, freezing
        self._stand_ins.close()
        self._pending.clear()
        self._use(trained, self._learning)
        return earlier

    @property
    def learning(self) -> Learning:
        """What the training has learned about its inequalities."""
        return self._learning

    def settle_state_weights(self) -> None:
        """Move weights in the state of optimizers to the nearest feasible points."""
        self._state_weights.project_(self.projector, self.parameters)

    def project_gradients(self) -> None:
        """`g ← P g` for all constrained parameters, without weight decay; a step repeats it if they were changed."""
        if self.in_metric:
            return
        self._update_trained()
        gradients = self._gradients()
        if _are_unchanged(self._projected_early, gradients):
            return
        gradients = self._fill_missing(self._with_parts_elsewhere(gradients, self._projected_early), None)
        rates = self._rates()
        if not _are_same_tensors(self._projected_early, gradients):
            self.capture.take(gradients, rates, None, wanted=self.hooked.gradients_wanted())
        self._project_gradients(gradients, {}, None)
        if self._learning:
            added = Added(rates, self.maximized)
            self._learning.prepare_(gradients, added, learn=True, feed_decay=False)
        self._projected_early = _marks(gradients)

    def _before(
        self, optimizer: optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Project the gradients, or let the closure do so each time it has computed them."""
        self._update_trained()
        for observer in self.hooked.observers:
            observer.before_step(self.hooked.position(optimizer))
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            self._prepare(optimizer)
            self._snapshot = Snapshot(optimizer, self.parameters)
            return None
        self._snapshot = None
        projecting_closure = self._with_projection(optimizer, closure)
        if "closure" in kwargs:
            return args, {**kwargs, "closure": projecting_closure}
        return (args[0], projecting_closure, *args[2:]), kwargs

    def _with_projection(self, optimizer: optim.Optimizer, closure: Callable[[], Any]) -> Callable[[], Any]:
        """The closure with projected gradients; of inequalities, every point after the first is moved onto the set."""
        evaluations = 0
        start = StepStart(optimizer) if optimizer in self._searching else None

        def projecting_closure() -> Any:
            nonlocal evaluations
            evaluations += 1
            with undone_if_refused(start):
                if evaluations > 1 and self._learning and not self.in_metric:
                    self._searching.add(optimizer)
                    self._learning.land_inside_()
                loss = closure()
                self._projected = {}  # these are new gradients, whatever their versions
                self._prepare(optimizer, evaluations)
            return loss

        return projecting_closure

    def _prepare(self, optimizer: optim.Optimizer, evaluation: int = 1) -> None:
        """Project the gradients, which belong to this evaluation of a closure."""
        gradients = self._gradients()
        projected_early, self._projected_early = self._projected_early, {}
        are_projected = _are_unchanged(self._projected, gradients)
        if not are_projected:
            gradients = self._with_parts_elsewhere(gradients, projected_early)
        # A fused optimizer under a GradScaler decides on the device whether the step is taken.
        if self._check_finite and getattr(optimizer, "found_inf", None) is None:
            check_finite_gradients(gradients)
        if are_projected:
            return
        scale = self._scale(optimizer)
        if len(self.hooked) > 1 and unscale(other for other in self.hooked.live() if other is not optimizer):
            # With several optimizers a GradScaler skips the steps of those with an overflow, but not the other steps.
            check_finite_gradients(gradients)
        if not self.in_metric:
            gradients = self._fill_missing(gradients, optimizer)
        rates = self._rates()
        # Gradients that were projected before clipping were captured at that time.
        is_new = not _are_same_tensors(projected_early, gradients)
        if is_new:
            self.capture.take(gradients, rates, scale, wanted=self.hooked.gradients_wanted())
        if not self.in_metric:
            self._project_gradients(gradients, rates, scale)
            if self._learning:
                self._learning.prepare_(
                    gradients,
                    Added(rates, self.maximized, scale),
                    learn=is_new and evaluation == 1,
                    search=evaluation == 1 and optimizer in self._searching,
                    skipped=getattr(optimizer, "found_inf", None),
                )
                if self._learning.face_moved:
                    forget_curvature(optimizer)
            self._projected, self._pending = _marks(gradients), set(self._steppers)

    @torch.no_grad()
    def _project_gradients(
        self, gradients: dict[str, Tensor | None], rates: Mapping[str, float], scale: Tensor | None
    ) -> None:
        """Project gradients along the equations, as those of what is minimized.

        The projection is linear: signs make a difference where some weights are maximized and others minimized.
        """
        maximized = self.maximized
        opposite = [g for name, g in gradients.items() if g is not None and name in maximized]
        if len(maximized) == len(self.parameters):
            opposite = []
        for g in opposite:
            g.neg_()
        self.projector.project_gradients_(
            gradients, self.parameters, negated(rates, maximized) if opposite else rates, scale
        )
        for g in opposite:
            g.neg_()

    def _with_parts_elsewhere(
        self, gradients: dict[str, Tensor | None], projected_early: Marks
    ) -> dict[str, Tensor | None]:
        """The gradients, with zeros for this process' part of those that only other processes have parts of."""
        if self._stand_ins and not _are_same_tensors(projected_early, gradients):
            self._stand_ins.remove()
            gradients = self._gradients()
        names = self._others.parts_elsewhere(gradients)
        return {**gradients, **{name: self._stand_ins.put(name, self.parameters[name]) for name in names}}

    def _fill_missing(
        self, gradients: dict[str, Tensor | None], optimizer: optim.Optimizer | None
    ) -> dict[str, Tensor | None]:
        """The gradients, with zeros for missing ones that rules couple to others: the projection fills in their part.

        Raises GradientError where `optimizer` steps before coupled gradients of other optimizers are computed.
        """
        if optimizer is not None and len(self.hooked) > 1 and _in_backward():
            other_names = self.parameters.keys() - self._parameters_of(optimizer)
            check_stepped_alone(optimizer, self._couplings.of(other_names), in_backward=True)
        missing = [name for name, gradient in gradients.items() if gradient is None]
        if not missing or len(missing) == len(gradients):
            return gradients
        coupled = self._couplings.of(missing)
        if optimizer is not None and coupled:
            backward = _in_backward()
            late_names = coupled.keys() if backward else coupled.keys() - self._parameters_of(optimizer)
            check_stepped_alone(optimizer, late_names, in_backward=backward)
        stand_ins = {name: self._stand_ins.put(name, self.parameters[name], mask) for name, mask in coupled.items()}
        return {**gradients, **stand_ins}

    def _after(self, optimizer: optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        parameters = self._parameters_of(optimizer) if self._stand_ins else {}
        self._stand_ins.reset_uncoupled(parameters)
        skipped = getattr(optimizer, "found_inf", None)
        observers = self.hooked.observers
        for observer in observers:
            observer.before_projection(self.hooked.position(optimizer))
        self._mode_changes.forget()
        snapshot, self._snapshot = self._snapshot, None
        unchanged = frozenset() if snapshot is None else self._others.everywhere(snapshot.unchanged())
        if not unchanged.issuperset(self.parameters):
            self._project_weights(skipped)
        if self._learning and not self.in_metric:
            self._learning.land_(self._parameters_of(optimizer), skipped)
            if self._learning.face_moved:
                forget_curvature(optimizer)
        # In a metric, the coupled entries change with the metric.
        if snapshot is not None and unchanged and not self.in_metric:
            snapshot.restore(unchanged, self._couplings)
        self._stand_ins.reset_uncoupled(parameters)
        for observer in observers:
            observer.after_projection(self.hooked.position(optimizer), skipped)
        # Gradients count as projected until all optimizers have stepped: afterwards new gradients may be written in a
        # way that no version shows (`.data`, arrays that share their memory).
        if self._learning:
            self._learning.mark()
        self._pending.discard(id(optimizer))
        if not self._pending:
            self._projected = {}
            self._stand_ins.close()

    def _after_wrapper(
        self, position: int, wrapper: optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Project the weights after a wrapper has moved them, which it does after the step inside it."""
        self._project_weights(None)
        if self._learning and not self.in_metric:
            self._learning.land_(self.parameters, None)
        for observer in self.hooked.observers:
            observer.after_projection(position, None)

    def _project_weights(self, skipped: Tensor | None) -> None:
        """Move the weights, and weights in the state of optimizers, to the nearest feasible point."""
        if self.in_metric:
            self.projector.project_in_metric_(self.parameters, metric_of(self.hooked.live(), self.parameters), skipped)
        else:
            self.projector.project_onto_equations_(self.parameters, skipped=skipped)
        if self._state_weights:
            self._state_weights.project_(self.projector, self.parameters, skipped)

    def _update_trained(self) -> None:
        """Check whether parameters were replaced, frozen or thawed since the last step."""
        if self._freezing.changed(self.hooked.live):
            self._use(self._freezing.trained(self.hooked.live(), self._check), self._learning)
        check_places(self._trained.places)
        check_still_held(self.hooked.listed(), self.parameters)

    def _use(self, trained: Trained, former: Learning | None) -> None:
        """Keep rules over other parameters; `former` is what was learned so far."""
        self._trained = trained
        self._names = {id(parameter): name for name, parameter in trained.parameters.items()}
        self.capture = Capture(trained.parameters)
        self._others = OtherProcesses(trained.projector.plan, trained.parameters)
        self._couplings = Couplings(trained.projector, trained.parameters, in_step=bool(self._others))
        self._learning = Learning(trained.projector, trained.parameters, self._entrywise_names(), former)
        self._projected, self._projected_early = {}, {}

    def _entrywise_names(self) -> frozenset[str]:
        """The parameters that are moved entry by entry."""
        entrywise = [optimizer for optimizer in self.hooked.live() if has_entrywise_steps(optimizer)]
        ids = set().union(*(parameter_ids(optimizer) for optimizer in entrywise))
        return frozenset(name for name, parameter in self.parameters.items() if id(parameter) in ids)

    def _check(self, plan: Plan, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        optimizers = self.hooked.live()
        check_optimizers(optimizers, parameters)
        if self._metric != "euclidean":
            check_metric(self._metric, optimizers, plan)

    def _parameters_of(self, optimizer: optim.Optimizer) -> dict[str, torch.nn.Parameter]:
        """The constrained parameters of one of the optimizers."""
        ids = parameter_ids(optimizer)
        return {name: parameter for name, parameter in self.parameters.items() if id(parameter) in ids}

    def _gradients(self) -> dict[str, Tensor | None]:
        for parameter in self.parameters.values():
            place_gradient(parameter)
        gradients: dict[str, Tensor | None] = {name: p.grad for name, p in self.parameters.items()}
        check_gradients(gradients)
        return gradients

    def _rates(self) -> dict[str, float]:
        rates: dict[str, float] = {}
        maximized = self.maximized
        for optimizer, coupled in zip(self.hooked.listed(), self._coupled, strict=True):
            if coupled and optimizer is not None:
                rates.update(signed_rates(optimizer, self._names, maximized))
        return rates

    def _scale(self, optimizer: optim.Optimizer) -> Tensor | None:
        """The scale of a fused optimizer's gradients (torch.amp.GradScaler); None if they are not scaled."""
        scale = getattr(optimizer, "grad_scale", None)
        if scale is not None and len(self.hooked) > 1:
            raise GradientError(
                "the gradients of one of several optimizers are still scaled by a GradScaler, and rules may couple "
                "them with gradients that are not. Call scaler.unscale_(optimizer) for every optimizer before the "
                "first scaler.step; the step was not taken."
            )
        return scale if isinstance(scale, Tensor) else None


def _marks(gradients: Mapping[str, Tensor | None]) -> Marks:
    return {name: (ref(g), version_of(g)) for name, g in gradients.items() if g is not None}


def _are_same_tensors(marks: Marks, gradients: Mapping[str, Tensor | None]) -> bool:
    """Whether the marks are of the same gradient tensors, written to since or not."""
    present = {name: gradient for name, gradient in gradients.items() if gradient is not None}
    if not present or present.keys() != marks.keys():
        return False
    return all(marks[name][0]() is gradient for name, gradient in present.items())


def _are_unchanged(marks: Marks, gradients: Mapping[str, Tensor | None]) -> bool:
    """Whether all present gradients were marked and have not been written to since.

    Other gradients may be missing: a loop may clear those of an optimizer that has stepped before the next one steps.
    """
    present = {name: g for name, g in gradients.items() if g is not None}
    return bool(present) and all(
        name in marks and marks[name][0]() is g and marks[name][1] == version_of(g) for name, g in present.items()
    )


def _in_backward() -> bool:
    """Whether the backward pass is running; torch's module tracker uses the same test."""
    return bool(torch._C._current_graph_task_id() != -1)
