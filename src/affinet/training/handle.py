"""A handle on attached rules: it reports how well they hold and what they cost, replaces them, and removes them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn
from weakref import ref

import torch
from torch import Tensor, optim

from affinet.analysis.active import ActiveBounds
from affinet.analysis.lookup.entry_names import counted
from affinet.analysis.one_sided import OneSided
from affinet.analysis.ranks_here import ranks_here
from affinet.errors import AttachError
from affinet.kernels.torch.projector import Projector, numbers_of
from affinet.plans.plan import Plan
from affinet.report.certificate import Certificate
from affinet.report.cost import CostReport, cost_report, write_page_of
from affinet.report.observation import Observation, Observer
from affinet.training.attached import attach, check_no_shared_weights, detach
from affinet.training.capture import SMALL
from affinet.training.certifying import certify
from affinet.training.directions import negated
from affinet.training.first_move import settle
from affinet.training.handle_page import HandleView
from affinet.training.losses import gradients_of
from affinet.training.matching import Rules, follow_freezing, match_rules
from affinet.training.process_meeting import await_call
from affinet.training.sandwich import Sandwich
from affinet.training.watching import Watch
from affinet.training.whole_weights import reshard


class Handle:
    """Rules attached to one training. Made by `affinet.project`.

    `plan` is the plan of the user's rules; frozen parameters are constants in the projection. `moved` is how far
    attaching moved each parameter (Euclidean distance, in the weights' units). Copies of the model or of the
    optimizer carry no rules: check with `handle.attached_to(optimizer)`.
    """

    def __init__(self, model: torch.nn.Module, plan: Plan, sandwich: Sandwich, moved: Mapping[str, float]) -> None:
        self._model = ref(model)
        self.plan = plan
        self.moved = dict(moved)
        self._sandwich = sandwich

    @property
    def projector(self) -> Projector:
        """The projector of the rules over the trained parameters."""
        return self._sandwich.projector

    def violation(self) -> dict[str, float]:
        """Rule name → largest absolute violation of the present weights, including frozen ones.

        Raises AttachError where the model has replaced one of these parameters, as `fully_shard` does.
        """
        self._await("handle.violation()")
        return self._sandwich.violation()

    def project_gradients(self) -> None:
        """Project the gradients now, before clipping; the step then uses them as they are.

        Clip after it, not before: `clip_grad_norm_` would spend its budget on the part that the projection removes, and
        `clip_grad_value_` would change the direction of the remaining part. Call it when the gradients are complete:
        multipliers are computed from the gradients at this call.
        """
        self._sandwich.project_gradients()

    def capture(self) -> None:
        """Keep the gradients of the next step for `multipliers()`, `stationarity()` and `report()`.

        Models of up to 65,536 constrained entries keep them at every step.
        """
        self._sandwich.capture.request()

    def multipliers(self) -> dict[str, Tensor]:
        """Rule name → ν of the rule's shape, from the gradients of the last step that was captured.

        Law: at the optimum `∇f = Aᵀν` for `L = f − νᵀ(lhs − rhs)`, so that `ν = ∂f*/∂b` per unit added to the
        right-hand side as the user wrote it; under coupled decay, of `f + λ/2 ‖w‖²`. Where equations are redundant the
        ν of smallest norm is given, and only sums over them are meaningful. Raises AttachError if nothing was captured.

        Of inequalities, `ν <= 0` for `<=`, `ν >= 0` for `>=`, and 0 where they are not at their bound. Rules about
        weights that are maximized, and no others, are priced by what is maximized, with the reverse signs. Rules that
        share entries with inequalities are priced by the gradients averaged over steps, once there were steps, and the
        others by the last ones.
        """
        self._await("handle.multipliers()")
        priced = self._sandwich.learning.averaged(self._sandwich.minimized(self._captured()))
        multipliers = self.projector.multipliers(priced, at=self._sandwich.parameters)
        return negated(multipliers, self._sandwich.maximized_rules())

    def one_sided_multipliers(self, rules: Collection[str] | None = None) -> dict[str, OneSided]:
        """Rule name → ν where right-hand sides are lowered, and where they are raised; of all rules or the named ones.

        As `multipliers()`, for rows that depend on other active rows, whose prices are not unique: at a corner where
        more bounds meet than needed, raising one of them may cost something and lowering it gain nothing. Each such row
        takes two linear programs. Raises RuleError for a name of no rule, and for more than 1,000 such rows.
        """
        self._await("handle.one_sided_multipliers()")
        priced = self._sandwich.learning.averaged(self._sandwich.minimized(self._captured()))
        sides = self.projector.one_sided_multipliers(priced, self._sandwich.parameters, rules)
        return negated(sides, self._sandwich.maximized_rules())

    def active(self) -> dict[str, ActiveBounds]:
        """Rule name → which of its inequalities are at their bound at the present weights: `.count` and `.places`.

        Frozen weights count at their values; rules that are equations are left out.
        """
        self._await("handle.active()")
        return self.projector.active(self._sandwich.parameters)

    def stationarity(self, loss_fn: Callable[[], Any] | None = None) -> float:
        """`‖P g‖ / ‖g‖` of the captured gradients: 0 at an optimum of the constrained problem.

        With `loss_fn`, of the gradients of that loss at the present weights, as in `report`. With inequalities `P g` is
        the distance of −g from the normal cone at the present weights.
        """
        self._await("handle.stationarity()")
        gradients = self._captured() if loss_fn is None else self._gradients_of(loss_fn)
        return self.projector.stationarity(self._sandwich.minimized(gradients), at=self._sandwich.parameters)

    def report(self, loss_fn: Callable[[], Any] | None = None) -> CostReport:
        """The cost of each rule: rules by |ν|, with the change of the loss if each were loosened by 0.01.

        `loss_fn` computes the loss at the present weights and returns it, or calls its backward itself; gradients of
        the model are restored afterwards. The coupled decay of an optimizer is added. Without `loss_fn` the captured
        gradients are used. Under `maximize=True` loosening raises the objective. Of nonlinear rules it counts the steps
        that were shortened, refused, or returned from slowly since they were attached, and compares their rank at the
        weights with that at almost all points.
        """
        self._await("handle.report()")
        gradients = self._captured() if loss_fn is None else self._gradients_of(loss_fn)
        gradients, maximized = self._sandwich.minimized(gradients), self._sandwich.maximized_rules()
        plan, weights = self.projector.plan, self._sandwich.parameters
        ranks = ranks_here(plan.system, plan.blocks, numbers_of(plan, weights)) if plan.size <= SMALL else (None, None)
        returns = self._sandwich.learning.returns()
        known: dict[str, Any] = {"at": weights, "maximized": maximized, "returns": returns, "ranks": ranks}
        return cost_report(self.projector, gradients, page_source=self._view().contents, **known)

    def html(self, path: str | PathLike[str], *, history: Sequence[Observation] = ()) -> Path:
        """Write one HTML page about the rules and the present weights; return its path.

        With gradients that were captured it has the prices of the rules, as `report().html(path)`; without, it says how
        to get them. Rules whose prices take minutes, with 134 million pairs of a row and an entry or 4 million that are
        solved for together, have them only by `report().html(path)`.
        `history` are the observations of a watch: `watch.history`. Raises ReportError where the page cannot be written.
        """
        self._await("handle.html()")
        view = self._view()
        prices = self.report() if view.quickly_priced and self._sandwich.capture.total() is not None else None
        return write_page_of(view.contents, prices, path, history)

    def certificate(self, loss_fn: Callable[[], Any], *, tolerance: float = 1e-4) -> Certificate:
        """Whether the present weights are a local minimum of the loss on the rules, by second derivatives.

        `loss_fn` takes no arguments and returns the loss of all data as a tensor, without calling backward: batches and
        dropout make another function of it. Coupled decay is added. Products with the Hessian of `f − νᵀc` are taken in
        the dtype of the weights, with one evaluation of the loss, and everything else in float64. All weights that the
        optimizers train count, not only those in rules. Weights are at rest where `‖P g‖ <= tolerance · ‖g‖`, or where
        the next stationary point is closer than `tolerance · ‖w‖`; multipliers below that share of the gradient are
        zero. `print` shows the figures and the verdict: "local minimum", "local maximum", "saddle", or "cannot tell,
        because …". Nothing is changed: weights, gradients, buffers and random numbers are as before.

        Where several processes hold the weights, each has all of them in memory meanwhile, and the loss is the mean of
        those of all processes. Raises AttachError for a `loss_fn` that returns no loss or calls backward,
        UnsupportedWeightError for weights that several processes hold and that are not in the model, and TooLargeError
        for more than some 90 million weights, whose vectors need more than 16 GiB.
        """
        self._await("handle.certificate()")
        model = self._model()
        reshard(model)
        return certify(self.projector.plan, self._sandwich.objective(model), model, loss_fn, tolerance)

    def watch(self, *callbacks: Observer, every: int = 1, multipliers: bool = False, first_step: int = 0) -> Watch:
        """Observe every `every`-th step, including the first, and pass an `Observation` to each callback.

        Without a callback the result keeps observations in `.history`; `.stop()` ends it. Warns once of each kind:
        weights that were written to between steps and violate the rules, steps that the projection undoes, gradients or
        weights that are not finite, and with `multipliers=True` multipliers that diverge. `first_step` is the number of
        the first step of a resumed training. The training keeps the same bits. Raises WatchError where there are no
        steps to observe.
        """
        self._await("handle.watch()")
        return Watch(self._sandwich, callbacks, every=every, multipliers=multipliers, first_step=first_step)

    def attached_to(self, optimizer: optim.Optimizer) -> bool:
        """Whether this optimizer keeps these rules; a copy (deepcopy, pickle) does not."""
        return self._sandwich.hooked.holds(optimizer)

    def forget(self) -> None:
        """Drop what solvers keep from earlier steps: the next step then depends only on weights, gradients and state.

        For checkpoints from which a training resumes with the same bits: call it when writing and when reading one.
        """
        self.projector.forget()

    def update(self, rules: Rules) -> None:
        """Keep other rules from now on; the training continues with the state of its optimizers.

        Moves the weights, and weights in the state of optimizers, to the nearest points that satisfy the new rules, and
        sets `moved` and `plan`. Raises the errors of `affinet.project` for such rules, and AttachError where the rules
        were removed or the model does not exist any more; the old rules stay then, and no weight has moved.
        """
        model = self._model()
        if model is None or not self._sandwich.hooked.attached:
            raise AttachError(
                "there is no training whose rules could be replaced: the rules were removed (handle.remove()), or "
                "the model does not exist any more. Attach the new rules: affinet.project(model, optimizer, rules)."
            )
        match = match_rules(model, rules, earlier=self.plan)
        plan, parameters = match
        optimizers = self._sandwich.hooked.nested()
        check_no_shared_weights(optimizers, parameters, model)
        earlier = self._sandwich.replace(follow_freezing(model, match, earlier=self.projector))
        try:
            moved = settle(self._sandwich.projector, self._sandwich.parameters)
        except AttachError:
            self._sandwich.replace(earlier)
            raise
        self.plan, self.moved = plan, moved
        self._sandwich.settle_state_weights()
        attach(optimizers, parameters.values())

    def remove(self) -> None:
        """Remove all hooks; the weights do not change. Removing twice does nothing more."""
        detach(self._sandwich.hooked.detach())

    def state_dict(self) -> dict[str, Any]:
        """The names of the rules; and what was learned about inequalities, from which a training resumes bit by bit.

        Everything else that a step depends on is in the model and the optimizer.
        """
        names = [rule.name for rule in self.plan.system.every]
        learning = self._sandwich.learning
        return {"rules": names, "inequalities": learning.state()} if learning else {"rules": names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Carry on with what a saved handle has learned about inequalities; check that it had the same rules.

        Raises AttachError, naming the rules that differ.
        """
        saved_names = state.get("rules") if isinstance(state, Mapping) else None
        if not isinstance(saved_names, list) or not all(isinstance(name, str) for name in saved_names):
            raise AttachError(
                f"{state!r:.60} ({type(state).__name__}) is not the state of a handle. Give the result of "
                f"handle.state_dict()."
            )
        present, saved = {rule.name for rule in self.plan.system.every}, set(saved_names)
        if present != saved:
            raise AttachError(
                f"the saved training had other rules: only in the saved state {sorted(saved - present)}, only in this "
                f"handle {sorted(present - saved)}. Attach the same rules, or leave the handle's state out."
            )
        if self._sandwich.learning and "inequalities" in state:
            self._sandwich.learning.load_state(state["inequalities"])

    def __reduce__(self) -> NoReturn:
        raise AttachError(
            "a handle belongs to its optimizer in this process, and cannot be copied or pickled. Copy the model "
            "and the optimizer, and attach the rules again: affinet.project(model, optimizer, handle.plan)."
        )

    def __repr__(self) -> str:
        distances = {name: distance for name, distance in self.moved.items() if distance > 0.0}
        moved = ", ".join(f"{name} by {distance:.3g}" for name, distance in distances.items()) or "nothing"
        equations = counted(self.plan.rows, "equation")
        state = "attached" if self._sandwich.hooked.attached else "removed"
        return f"<Handle ({state}): {equations}, {self.plan.free} free; attaching moved {moved}>"

    def _await(self, call: str) -> None:
        """Wait until all processes that hold the weights together make this call; see `await_call`."""
        await_call(call, self._sandwich.every_parameter)

    def _view(self) -> HandleView:
        """What a page shows of these rules."""
        model, parameters = self._model(), self._sandwich.every_parameter
        name = "a model" if model is None else type(model).__name__
        return HandleView(name, self.plan.system, self.plan, lambda _: parameters, self.violation, self.moved)

    def _captured(self) -> dict[str, Tensor]:
        gradients = self._sandwich.capture.total()
        if gradients is None:
            raise AttachError(
                "no gradients were captured yet. Take a step first; for models of more than 65,536 constrained entries "
                "call handle.capture() before it, or give handle.report(loss_fn) the loss."
            )
        return gradients

    def _gradients_of(self, loss_fn: Callable[[], Any]) -> dict[str, Tensor]:
        model = self._model()
        of_model = () if model is None else model.parameters()
        return gradients_of(loss_fn, self._sandwich.parameters, of_model, self._sandwich.decayed)
