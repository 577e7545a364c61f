"""Which parameters are trained now: frozen ones are constants, also those that are frozen or thawed after attaching."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import optim

from affinet.errors import AttachError, InfeasibleError, NothingTrainedWarning, UnsupportedWeightError, callers_line
from affinet.kernels.torch.measuring import Measure
from affinet.kernels.torch.projector import Projector
from affinet.language.calculus.terms import Floats
from affinet.plans.plan import Plan
from affinet.training.attaching import Place
from affinet.training.settling import all_finite

Parameters = dict[str, torch.nn.Parameter]
Check = Callable[[Plan, Parameters], None]


@dataclass(frozen=True, eq=False)
class Trained:
    """The rules over the constrained parameters that are trained at one time, and where the model keeps these."""

    projector: Projector
    parameters: Parameters
    places: tuple[Place, ...]


class Freezing:
    """Follows `requires_grad` of the constrained parameters.

    `plan` is that of all rules as they were written. Law: a parameter is a constant, at the value that it has, for as
    long as it does not require a gradient and no optimizer moves it by one that was left over. A plan is made for each
    set of frozen parameters and kept until their values change (a checkpoint is loaded), so that a training that
    freezes one part and then the other plans twice. New values move right-hand sides alone: what coefficients decided
    is taken from the plan before, and kernels of blocks that no value touches serve on.
    """

    def __init__(
        self,
        plan: Plan,
        parameters: Mapping[str, torch.nn.Parameter],
        places: tuple[Place, ...],
        earlier: Projector | None = None,
    ) -> None:
        """`earlier` is a projector whose kernels serve on for blocks that the plan holds too."""
        self.plan = plan
        self._earlier = earlier
        self._parameters = {p.name: parameters[p.name] for p in plan.parameters}
        self._places = places
        self._state: list[int] = []
        self._kept: dict[tuple[bool, ...], tuple[list[int], Trained]] = {}
        self._measure = Measure(plan)

    def changed(self, optimizers: Callable[[], Iterable[optim.Optimizer]]) -> bool:
        """Whether a parameter was frozen or thawed, or a frozen one written to, since `trained` was last asked.

        Asked at every step: nothing is built where all parameters are trained as before.
        """
        for parameter, known in zip(self._parameters.values(), self._state, strict=True):
            if not parameter.requires_grad or known >= 0:
                return self._now(optimizers()) != self._state
        return False

    def violation(self) -> dict[str, float]:
        """Rule name → largest absolute violation of all rules as they were said, frozen weights at their values."""
        return self._measure(self._parameters)

    def trained(self, optimizers: Iterable[optim.Optimizer], check: Check) -> Trained:
        """The rules with the parameters that are frozen now read as constants.

        Raises InfeasibleError where their values contradict a rule, AttachError where a value is not finite, and what
        `check` raises where the plan or its parameters cannot be trained; the next call tries again then.
        """
        state = self._now(optimizers)
        frozen = tuple(version >= 0 for version in state)
        known, found = self._kept.get(frozen, (None, None))
        if found is None or known != state:
            found = self._planned(frozen, check, found)
            self._kept[frozen] = state, found
        self._state = state
        return found

    def warn_of_idle(self, trained: Trained) -> None:
        """Warn (NothingTrainedWarning) of rules whose weights are all frozen: they do nothing, and nobody sees it."""
        pairs = zip(self.plan.system.rules, trained.projector.plan.system.rules, strict=True)
        idle = [said for said, left in pairs if said.expression.terms and not left.expression.terms]
        if idle:
            names = dict.fromkeys(term.parameter.name for rule in idle for term in rule.expression.terms)
            warnings.warn(NothingTrainedWarning([rule.name for rule in idle], [*names]), stacklevel=callers_line())

    def _now(self, optimizers: Iterable[optim.Optimizer]) -> list[int]:
        """The version of every frozen parameter, −1 for one that is trained."""
        state = [-1 if p.requires_grad else p._version for p in self._parameters.values()]
        if any(p.grad is not None for p, version in zip(self._parameters.values(), state, strict=True) if version >= 0):
            held = {id(p) for one in optimizers for group in one.param_groups for p in group["params"]}
            moved = [p.grad is not None and id(p) in held for p in self._parameters.values()]
            state = [-1 if moves else version for moves, version in zip(moved, state, strict=True)]
        return state

    def _planned(self, constant: tuple[bool, ...], check: Check, before: Trained | None) -> Trained:
        """The rules with some parameters as constants; `before` is the same with the values that they had."""
        _refuse_unfit(self._parameters)
        frozen = {name: p for (name, p), held in zip(self._parameters.items(), constant, strict=True) if held}
        values: dict[str, Floats] = {name: p.detach().to("cpu", torch.float64).numpy() for name, p in frozen.items()}
        epsilon = max((torch.finfo(p.dtype).eps for p in frozen.values()), default=0.0)
        try:
            left = self.plan.with_constants(values, epsilon, None if before is None else before.projector.plan)
        except InfeasibleError as wrong:
            raise wrong.with_frozen(sorted(frozen)) from None
        parameters = {p.name: self._parameters[p.name] for p in left.parameters}
        check(left, parameters)
        places = tuple(place for place in self._places if place.name in parameters)
        earlier = before.projector if before is not None else self._earlier
        self._earlier = None
        return Trained(Projector(left, parameters, before=earlier), parameters, places)


def _refuse_unfit(used: Mapping[str, torch.nn.Parameter]) -> None:
    for name, parameter in used.items():
        if parameter.is_meta:
            raise UnsupportedWeightError(
                name, "it is on the meta device and has no numbers", "Plan with it, and attach once it is materialised."
            )
        if parameter.layout != torch.strided:
            raise UnsupportedWeightError(name, f"its layout is {parameter.layout}", "Constrain dense parameters only.")
        if not all_finite(parameter):
            bad = int((~torch.isfinite(parameter.detach())).sum())
            raise AttachError(
                f"{name} holds {bad} number{'s' * (bad != 1)} that are not finite (NaN or infinite); projecting would "
                f"spread them. Initialise or load the weights before attaching."
            )
