"""Follow which parameters are trained: frozen ones are constants, also if they are frozen or thawed after attaching."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import optim

from affinet.errors import (
    AttachError,
    InfeasibleError,
    NothingTrainedWarning,
    UnsupportedWeightError,
    callers_line,
    counted,
)
from affinet.kernels.torch.measuring import Measure
from affinet.kernels.torch.projector import Projector
from affinet.kernels.torch.shards.held_box import version_of
from affinet.language.calculus.terms import Floats
from affinet.language.dtensors import gathered, gathered_all
from affinet.language.nodes import weights_of
from affinet.plans.plan import Plan
from affinet.training.attaching import Place, check_places
from affinet.training.first_move import all_finite

Parameters = dict[str, torch.nn.Parameter]
Check = Callable[[Plan, Parameters], None]


@dataclass(frozen=True, eq=False)
class Trained:
    """The rules over the constrained parameters that are trained at one time, and their places in the model."""

    projector: Projector
    parameters: Parameters
    places: tuple[Place, ...]


class Freezing:
    """Follows `requires_grad` of the constrained parameters.

    `plan` is the plan of all rules as they were written. Law: a parameter is a constant, at its present value, for as
    long as it does not require a gradient and no optimizer moves it by an old gradient. A plan is made per set of
    frozen parameters and kept until their values change (a checkpoint is loaded), so that a training that freezes
    alternating parts plans twice. New values change only right-hand sides: results that depend on coefficients are
    taken from the previous plan, and kernels of blocks without a new value are reused.
    """

    def __init__(
        self,
        plan: Plan,
        parameters: Mapping[str, torch.nn.Parameter],
        places: tuple[Place, ...],
        earlier: Projector | None = None,
    ) -> None:
        """`earlier` is a projector whose kernels are reused for blocks that the plan contains too."""
        self.plan = plan
        self._earlier = earlier
        self._parameters = {p.name: parameters[p.name] for p in plan.parameters}
        self._places = places
        self._state: list[int] = []
        self._cache: dict[tuple[bool, ...], tuple[list[int], Trained]] = {}
        self._measure = Measure(plan.system)

    def changed(self, optimizers: Callable[[], Iterable[optim.Optimizer]]) -> bool:
        """Whether a parameter was frozen or thawed, or a frozen one written to, since the last call of `trained`.

        Called at every step: nothing is computed while all parameters are trained as before.
        """
        for parameter, version in zip(self._parameters.values(), self._state, strict=True):
            if not parameter.requires_grad or version >= 0:
                return self._versions(optimizers()) != self._state
        return False

    @property
    def every_parameter(self) -> dict[str, torch.nn.Parameter]:
        """All parameters that the rules are about, frozen ones included."""
        return dict(self._parameters)

    def violation(self) -> dict[str, float]:
        """Rule name → largest absolute violation of all rules as written, with frozen weights at their values.

        Raises AttachError where the model has replaced one of its parameters.
        """
        check_places(self._places, "Nothing was measured.")
        return self._measure(gathered_all(self._parameters))

    def trained(self, optimizers: Iterable[optim.Optimizer], check: Check) -> Trained:
        """The rules with the currently frozen parameters as constants.

        Raises InfeasibleError where their values contradict a rule, AttachError where a value is not finite, and the
        errors of `check` where the plan or its parameters cannot be trained; the next call tries again then.
        """
        versions = self._versions(optimizers)
        frozen = tuple(version >= 0 for version in versions)
        cached_versions, trained_rules = self._cache.get(frozen, (None, None))
        if trained_rules is None or cached_versions != versions:
            trained_rules = self._planned_with_constants(frozen, check, trained_rules)
            self._cache[frozen] = versions, trained_rules
        self._state = versions
        return trained_rules

    def warn_of_idle_rules(self, trained: Trained) -> None:
        """Warn (NothingTrainedWarning) of rules without effect, since all their weights are frozen."""
        remaining = {rule.name: rule for rule in trained.projector.plan.system.every}
        idle_rules = [
            rule
            for rule in self.plan.system.every
            if rule.expression.terms and not remaining[rule.name].expression.terms
        ]
        if idle_rules:
            rule_names = [rule.name for rule in idle_rules]
            names = dict.fromkeys(p.name for p in weights_of(rule.expression.affine for rule in idle_rules))
            warnings.warn(NothingTrainedWarning(rule_names, [*names]), stacklevel=callers_line())

    def _versions(self, optimizers: Iterable[optim.Optimizer]) -> list[int]:
        """The version of each frozen parameter, −1 for a trained one."""
        state = [-1 if p.requires_grad else version_of(p) for p in self._parameters.values()]
        if any(p.grad is not None for p, version in zip(self._parameters.values(), state, strict=True) if version >= 0):
            held_ids = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
            is_moved = [p.grad is not None and id(p) in held_ids for p in self._parameters.values()]
            state = [-1 if moves else version for moves, version in zip(is_moved, state, strict=True)]
        return state

    def _planned_with_constants(self, is_frozen: tuple[bool, ...], check: Check, previous: Trained | None) -> Trained:
        """The rules with some parameters as constants; `previous` is the same with the earlier values of these."""
        _refuse_unfit(self._parameters)
        frozen = {name: p for (name, p), constant in zip(self._parameters.items(), is_frozen, strict=True) if constant}
        values: dict[str, Floats] = {
            name: gathered(p).detach().to("cpu", torch.float64).numpy() for name, p in frozen.items()
        }
        epsilon = max((torch.finfo(p.dtype).eps for p in frozen.values()), default=0.0)
        try:
            plan = self.plan.with_constants(values, epsilon, None if previous is None else previous.projector.plan)
        except InfeasibleError as error:
            raise error.with_frozen(sorted(frozen)) from None
        parameters = {p.name: self._parameters[p.name] for p in plan.parameters}
        check(plan, parameters)
        places = tuple(place for place in self._places if place.name in parameters)
        earlier = previous.projector if previous is not None else self._earlier
        self._earlier = None
        return Trained(Projector(plan, parameters, before=earlier), parameters, places)


def _refuse_unfit(parameters: Mapping[str, torch.nn.Parameter]) -> None:
    for name, parameter in parameters.items():
        if parameter.is_meta:
            raise UnsupportedWeightError(
                name, "it is on the meta device and has no numbers", "Plan with it, and attach once it is materialised."
            )
        if parameter.layout != torch.strided:
            raise UnsupportedWeightError(name, f"its layout is {parameter.layout}", "Constrain dense parameters only.")
        if not all_finite(parameter):
            count = int((~torch.isfinite(gathered(parameter).detach())).sum())
            raise AttachError(
                f"{name} holds {counted(count, 'number that is', 'numbers that are')} not finite (NaN or infinite); "
                f"projecting would spread them. Initialise or load the weights before attaching."
            )
