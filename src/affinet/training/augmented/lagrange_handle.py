"""A handle on rules that an augmented Lagrangian trains towards: how well they hold, their prices, the final return."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, optim

from affinet.analysis.prices import PricedRules
from affinet.errors import AttachError, LeftOutWarning, TooLargeError, callers_line, named_violations
from affinet.kernels.torch.rounded_weights import weight_of
from affinet.plans.plan import Plan
from affinet.report.cost import CostReport, cost_report, write_page_of
from affinet.report.observation import Observation, Observer
from affinet.report.verification import verify
from affinet.training.attached import detach
from affinet.training.augmented.feasible import Feasible
from affinet.training.augmented.lagrange_watch import LagrangeWatch
from affinet.training.augmented.lagrangian import Lagrangian
from affinet.training.handle_page import HandleView


class LagrangeHandle:
    """Rules that one training approaches. Made by `affinet.lagrange`.

    `plan` is that of the rules which a plan can hold, None without any: training starts on it, and `finish` ends on it.
    `moved` is how far attaching moved each parameter (Euclidean distance, in the weights' units). Copies of the model
    or of the optimizer carry no rules: check with `handle.attached_to(optimizer)`.
    """

    def __init__(self, lagrangian: Lagrangian, feasible: Feasible, moved: Mapping[str, float]) -> None:
        self._lagrangian, self._feasible = lagrangian, feasible
        self.moved = dict(moved)

    @property
    def plan(self) -> Plan | None:
        """The plan of the rules that a plan can hold exactly."""
        return self._feasible.plan

    @property
    def started_feasible(self) -> bool:
        """Whether training starts at weights that satisfy the rules of `plan`, so far as it was asked to."""
        return self._feasible.found

    @property
    def penalty(self) -> float:
        """ρ, which the first gradients decide: a rule of derivatives J has the penalty `ρ / (2 ‖J‖²) c²`."""
        return self._lagrangian.penalty

    def terms(self, *batch: Any) -> Tensor:
        """The terms of the rules about expected values, for a batch: add them to the loss before its backward.

        The functions of these rules get the arguments. Averages are updated; under `torch.no_grad()` nothing is.
        Raises GradientError where a function returns something else than finite numbers per sample.
        """
        return self._lagrangian.terms(batch)

    def violation(self) -> dict[str, float]:
        """Rule name → largest absolute violation of the present weights; of an expected value, of its average.

        nan for an expected value before the first sample that counts.
        """
        return self._lagrangian.violation()

    def multipliers(self) -> dict[str, Tensor]:
        """Rule name → ν of the rule's shape, as learned so far.

        Law: at the optimum `∇f = Jᵀν`, with J the derivatives of the left sides, so that `ν = ∂f*/∂b` per unit added to
        the right-hand side as the user wrote it; under coupled decay, of `f + λ/2 ‖w‖²`. Of inequalities, `ν <= 0` for
        `<=`, `ν >= 0` for `>=`. Rules about weights that are maximized, and no others, have the reverse signs.
        """
        return self._lagrangian.multipliers()

    def capture(self) -> None:
        """Keep the gradients of the next step for `stationarity()` and `report()`; small models keep them always."""
        self._lagrangian.capture.request()

    def stationarity(self, loss_fn: Callable[[], Any] | None = None) -> float:
        """`‖∇f − Jᵀν‖ / ‖∇f‖` of the gradients of the last step that was captured, with the present multipliers.

        `loss_fn` computes the loss at the present weights and returns it, or calls its backward itself; gradients of
        the optimizers' parameters are restored afterwards. The coupled decay of an optimizer is added. Rules about
        expected values need their `terms` in this loss.
        """
        gradients = self._lagrangian.capture.total() if loss_fn is None else self._lagrangian.gradients_of(loss_fn)
        if gradients is None:
            raise AttachError(
                "no gradients were captured yet. Take a step first; for models of more than 65,536 constrained entries "
                "call handle.capture() before it, or give handle.stationarity(loss_fn) the loss."
            )
        residual, size = self._lagrangian.residual_gradient(gradients)
        return residual / size if size else 0.0

    def report(self) -> CostReport:
        """The cost of each rule: rules by |ν|, with the change of the loss if each were loosened by 0.01."""
        return cost_report(_Learned(self), {}, page_source=self._view().contents)

    def html(self, path: str | PathLike[str], *, history: Sequence[Observation] = ()) -> Path:
        """Write one HTML page about the rules and the present weights; return its path.

        With gradients that were captured it has the prices of the rules, as `report().html(path)`; without, it says how
        to get them. `history` are the observations of a watch. Raises ReportError where the page cannot be written.
        """
        prices = None if self._lagrangian.capture.total() is None else self.report()
        return write_page_of(self._view().contents, prices, path, history)

    def watch(
        self, *callbacks: Observer, every: int = 1, multipliers: bool = False, first_step: int = 0
    ) -> LagrangeWatch:
        """Observe every `every`-th step, including the first, and pass an `Observation` to each callback.

        Without a callback the result keeps observations in `.history`; `.stop()` ends it. Nothing is projected, so the
        distance of the projection is 0. Raises WatchError where there are no steps to observe.
        """
        return LagrangeWatch(self._lagrangian, callbacks, every=every, multipliers=multipliers, first_step=first_step)

    def finish(self, *, partial: bool = False) -> dict[str, float]:
        """Move the weights to the nearest point that satisfies the rules exactly; return the distance by weight.

        Training may go on from there. Raises AttachError, with nothing moved, where rules that a plan cannot hold would
        be violated there beyond rounding; `partial=True` moves all the same, and warns of them (LeftOutWarning). Raises
        InfeasibleError where no way to nonlinear equations is found.
        """
        parameters = self._lagrangian.parameters
        before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        moved = self._feasible.settle()
        unplanned = self.violated(self._feasible.left_out(self._names()))
        reason = self._feasible.reason.rstrip(".")
        if unplanned and partial:
            warnings.warn(LeftOutWarning(unplanned, reason), stacklevel=callers_line())
        elif unplanned:
            with torch.no_grad():
                for name, former in before.items():
                    parameters[name].copy_(former)
            raise AttachError(
                f"weights cannot be moved onto {named_violations(unplanned)}: they are rules about expected values, or "
                f"rules that no plan holds exactly{f' ({reason})' if reason else ''}. Train on until their violation "
                f"is small enough; handle.finish(partial=True) moves the weights onto the other rules."
            )
        return moved

    def violated(self, names: Collection[str] | None = None) -> dict[str, float]:
        """Rule name → violation, of the rules, or of those named, that are violated beyond rounding.

        Rules about expected values of which nothing is known yet count as violated, by nan.
        """
        names = self._names() if names is None else names
        violation = self.violation()
        doubtful = {name for name in names if not violation[name] <= 0.0}
        return {name: violation[name] for name in names if name in doubtful and not self._holds(name)}

    def _holds(self, name: str) -> bool:
        """Whether a rule about weights holds within rounding."""
        system, weights = self._lagrangian.system, self._lagrangian.every_parameter
        numbers = [k for k, rule in enumerate(system.every) if rule.name == name]
        try:
            verdicts = list(verify(system.only(numbers), lambda names: {n: weight_of(weights[n]) for n in names}))
        except TooLargeError:
            return False
        return bool(verdicts) and all(verdict.holds for verdict in verdicts)

    def forget(self) -> None:
        """Drop what solvers keep from an earlier `finish`; for checkpoints from which a training resumes bit by bit."""
        self._feasible.forget()

    def attached_to(self, optimizer: optim.Optimizer) -> bool:
        """Whether the steps of this optimizer get the terms of these rules; those of a copy do not."""
        return self._lagrangian.hooked.holds(optimizer)

    def remove(self) -> None:
        """Remove all hooks; the weights do not change. Removing twice does nothing more."""
        detach(self._lagrangian.hooked.detach())

    def state_dict(self) -> dict[str, Any]:
        """The names of the rules, the multipliers and averages: from these a training resumes bit by bit."""
        return {"rules": self._names(), **self._lagrangian.state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Carry on from a saved state; check that it had the same rules.

        Weights are not part of it: load those of the model after attaching, or attach with `feasible_start=False`.
        Raises AttachError, naming the rules that differ.
        """
        saved_names = state.get("rules") if isinstance(state, Mapping) else None
        keys = {"penalty", "size", "measured", "seen", "largest_rates", "weights", "expectations"}
        if not isinstance(saved_names, list) or not keys <= state.keys():
            raise AttachError(
                f"{state!r:.60} ({type(state).__name__}) is not the state of a handle of affinet.lagrange. Give the "
                f"result of handle.state_dict()."
            )
        present, saved = set(self._names()), set(saved_names)
        if present != saved:
            raise AttachError(
                f"the saved training had other rules: only in the saved state {sorted(saved - present)}, only in this "
                f"handle {sorted(present - saved)}. Attach the same rules, or leave the handle's state out."
            )
        self._lagrangian.load_state(state)

    def __reduce__(self) -> NoReturn:
        raise AttachError(
            "a handle belongs to its optimizer in this process, and cannot be copied or pickled. Copy the model and "
            "the optimizer, attach the rules again with affinet.lagrange, and load handle.state_dict()."
        )

    def __repr__(self) -> str:
        unplanned = self._feasible.left_out(self._names())
        state = "attached" if self._lagrangian.hooked.attached else "removed"
        exact = "finish() makes all exact" if not unplanned else f"finish() cannot make {len(unplanned)} of them exact"
        return f"<LagrangeHandle ({state}): {len(self._names())} rules, {exact}>"

    def _view(self) -> HandleView:
        """What a page shows of the rules about weights."""
        system, weights = self._lagrangian.system, self._lagrangian.every_parameter
        plan = self.plan if self.plan is not None and len(self.plan.system.every) == len(system.every) else None
        return HandleView("a model", system, plan, lambda _: weights, self.violation, self.moved)

    def _names(self) -> list[str]:
        system, expected = self._lagrangian.system, self._lagrangian.expected_terms
        return [*(rule.name for rule in system.every), *expected.names]


class _Learned:
    """The learned multipliers as a report reads them."""

    def __init__(self, handle: LagrangeHandle) -> None:
        self._handle = handle

    def priced(self, gradients: Mapping[str, Any], at: Any = None) -> PricedRules:
        return PricedRules(self._handle.multipliers(), {})

    def stationarity(self, gradients: Mapping[str, Any], at: Any = None) -> float:
        return self._handle.stationarity()


__all__: Sequence[str] = ["LagrangeHandle"]
