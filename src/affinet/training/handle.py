"""What `project` returns: how well the rules hold, what they cost, what attaching moved, and the way off again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn
from weakref import ref

import torch
from torch import Tensor, optim

from affinet.analysis.lookup.naming import counted
from affinet.errors import AttachError
from affinet.kernels.torch.projector import Projector
from affinet.plans.plan import Plan
from affinet.report.cost import CostReport, cost_report
from affinet.report.observation import Observer
from affinet.training.attached import attach, check_apart, detach
from affinet.training.losses import check_callable, differentiable, gradients_apart
from affinet.training.matching import Rules, followed, matched
from affinet.training.sandwich import Sandwich
from affinet.training.settling import settle
from affinet.training.watching import Watch


class Handle:
    """Rules attached to one training. Made by `affinet.project`.

    `plan` is what the user asked for; frozen parameters are constants in what is projected. `moved` says how far
    attaching moved each parameter (Euclidean distance, in the weights' units). Copies of the model or of the
    optimizer carry no rules: ask `handle.attached_to(optimizer)`.
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
        """Rule name → largest absolute violation of the weights as they are now, frozen ones included."""
        return self._sandwich.violation()

    def project_gradients(self) -> None:
        """Project the gradients now, before clipping; the step finds them projected.

        Clip after it, not before: `clip_grad_norm_` would spend its budget on the part that the projection takes away,
        and `clip_grad_value_` would bend the rest. Call it when all of the gradient is there: multipliers are those of
        the gradients that it was called with.
        """
        self._sandwich.project_gradients()

    def capture(self) -> None:
        """Keep the gradients of the next step for `multipliers()`, `stationarity()` and `report()`.

        Models of up to 65,536 constrained entries keep them at every step.
        """
        self._sandwich.capture.ask()

    def multipliers(self) -> dict[str, Tensor]:
        """Rule name → ν of the rule's shape, from the gradients of the last step that was captured.

        Law: at the optimum `∇f = Aᵀν` for `L = f − νᵀ(lhs − rhs)`, so that `ν = ∂f*/∂b` per unit added to the
        right-hand side as the user wrote it; under coupled decay, of `f + λ/2 ‖w‖²`. Where equations are redundant the
        ν of smallest norm is given, and only sums over them are meaningful. Raises AttachError if nothing was captured.
        """
        return self.projector.multipliers(self._captured())

    def stationarity(self) -> float:
        """`‖P g‖ / ‖g‖` of the captured gradients: 0 at an optimum of the constrained problem."""
        return self.projector.stationarity(self._captured())

    def report(self, loss_fn: Callable[[], Any] | None = None) -> CostReport:
        """What each rule costs: rules by |ν|, with what loosening each by 0.01 would change in the loss.

        `loss_fn` computes the loss at the present weights and returns it, or calls its backward itself; gradients of
        the model are afterwards what they were. The coupled decay that an optimizer adds is added. Without `loss_fn`
        the captured gradients are used. Under `maximize=True` loosening raises the objective.
        """
        gradients = self._captured() if loss_fn is None else self._gradients_of(loss_fn)
        return cost_report(self.projector, gradients, maximized=self._sandwich.maximizes)

    def watch(self, *callbacks: Observer, every: int = 1, multipliers: bool = False, first_step: int = 0) -> Watch:
        """Look at every `every`-th step, the first included, and hand an `Observation` to each callback.

        Without a callback observations are kept in `.history`; `.stop()` ends it. Warns, once of each kind: weights
        that somebody wrote to between steps and left off the rules, steps that the projection takes back, gradients or
        weights that are not finite, and with `multipliers=True` multipliers that diverge. `first_step` is the number of
        the first step of a training that is resumed. No bit of the training changes. Raises WatchError where there is
        nothing to watch.
        """
        return Watch(self._sandwich, callbacks, every=every, multipliers=multipliers, first_step=first_step)

    def attached_to(self, optimizer: optim.Optimizer) -> bool:
        """Whether this very optimizer keeps these rules; a copy (deepcopy, pickle) does not."""
        return self._sandwich.holds(optimizer)

    def forget(self) -> None:
        """Drop what solvers keep from the steps before: the next step depends on weights, gradients and state alone.

        For checkpoints that a training goes on from to the same bits: call it when one is written and when one is read.
        """
        self.projector.forget()

    def update(self, rules: Rules) -> None:
        """Keep other rules from now on: the training goes on, with the state of its optimizers as it is.

        Moves the weights, and those that optimizers keep, to the nearest points that satisfy the new rules; `moved` and
        `plan` are those of the new rules then. Raises what `affinet.project` raises for such rules, AttachError where
        they were taken off or the model is gone; the old rules hold on then, and nothing has moved.
        """
        model = self._model()
        if model is None or not self._sandwich.attached:
            raise AttachError(
                "there is no training whose rules could be replaced: the rules were taken off (handle.remove()), or "
                "the model is gone. Attach the new rules: affinet.project(model, optimizer, rules)."
            )
        found = matched(model, rules, earlier=self.plan)
        compiled, used = found
        optimizers = self._sandwich.nested()
        check_apart(optimizers, used, model)
        earlier = self._sandwich.replace(followed(model, found, earlier=self.projector))
        try:
            moved = settle(self._sandwich.projector, self._sandwich.parameters)
        except AttachError:
            self._sandwich.replace(earlier)
            raise
        self.plan, self.moved = compiled, moved
        self._sandwich.settle_kept()
        attach(optimizers, used.values())

    def remove(self) -> None:
        """Take every hook away; the weights stay where they are. Removing twice is no error."""
        detach(self._sandwich.detach())

    def state_dict(self) -> dict[str, Any]:
        """Nothing but the names of the rules: all that a step depends on is in the model and the optimizer."""
        return {"rules": [rule.name for rule in self.plan.system.rules]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Check that a saved handle kept the same rules. Raises AttachError naming those that differ."""
        said = state.get("rules") if isinstance(state, Mapping) else None
        if not isinstance(said, list) or not all(isinstance(name, str) for name in said):
            raise AttachError(
                f"{state!r:.60} ({type(state).__name__}) is no state of a handle. Give what "
                f"handle.state_dict() returned."
            )
        mine, theirs = {rule.name for rule in self.plan.system.rules}, set(said)
        if mine != theirs:
            raise AttachError(
                f"the saved training kept other rules: only there {sorted(theirs - mine)}, only here "
                f"{sorted(mine - theirs)}. Attach the same rules, or leave the handle's state out."
            )

    def __reduce__(self) -> NoReturn:
        raise AttachError(
            "a handle belongs to its optimizer in this process, and cannot be copied or pickled. Copy the model "
            "and the optimizer, and attach the rules again: affinet.project(model, optimizer, handle.plan)."
        )

    def __repr__(self) -> str:
        far = {name: distance for name, distance in self.moved.items() if distance > 0.0}
        moved = ", ".join(f"{name} by {distance:.3g}" for name, distance in far.items()) or "nothing"
        equations = counted(self.plan.rows, "equation")
        state = "attached" if self._sandwich.attached else "removed"
        return f"<Handle ({state}): {equations}, {self.plan.free} free; attaching moved {moved}>"

    def _captured(self) -> dict[str, Tensor]:
        total = self._sandwich.capture.total()
        if total is None:
            raise AttachError(
                "no gradients were captured yet. Take a step first; for models of more than 65,536 constrained entries "
                "call handle.capture() before it, or give handle.report(loss_fn) the loss."
            )
        return total

    def _gradients_of(self, loss_fn: Callable[[], Any]) -> dict[str, Tensor]:
        check_callable(loss_fn)
        constrained, model = self._sandwich.parameters, self._model()
        others = () if model is None else model.parameters()
        with gradients_apart([*constrained.values(), *others]) as parameters, torch.enable_grad():
            loss = loss_fn()
            if all(parameter.grad is None for parameter in parameters):
                differentiable(loss).backward()
            return {
                name: (0.0 if p.grad is None else p.grad.detach().double())
                + self._sandwich.decayed(name) * p.detach().double()
                for name, p in constrained.items()
            }
