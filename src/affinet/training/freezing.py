"""Which parameters are trained now: frozen ones are constants, also those that are frozen or thawed after attaching."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from affinet.errors import AttachError, UnsupportedWeightError
from affinet.kernels.torch.projector import Projector
from affinet.language.terms import Floats
from affinet.structure.plan import Plan
from affinet.training.attaching import Place

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

    Law: a parameter is a constant, at its value when this was first noticed, for as long as it does not require a
    gradient. A plan is made for each set of frozen parameters and kept until their values change, so that a training
    that freezes one part and then the other plans twice.
    """

    def __init__(self, plan: Plan, parameters: Mapping[str, torch.nn.Parameter], places: tuple[Place, ...]) -> None:
        self._plan = plan
        self._parameters = {p.name: parameters[p.name] for p in plan.parameters}
        self._places = places
        self._flags: list[bool] = []
        self._kept: dict[tuple[bool, ...], tuple[list[int], Trained]] = {}

    def changed(self) -> bool:
        """Whether a parameter was frozen or thawed since `trained` was last asked."""
        return [p.requires_grad for p in self._parameters.values()] != self._flags

    def trained(self, check: Check) -> Trained:
        """The rules with the parameters that are frozen now read as constants.

        Raises InfeasibleError where their values contradict a rule, AttachError where a value is not finite, and what
        `check` raises where the plan or its parameters cannot be trained; the next call tries again then.
        """
        flags = [p.requires_grad for p in self._parameters.values()]
        versions = [p._version for p in self._parameters.values() if not p.requires_grad]
        known, found = self._kept.get(tuple(flags), (None, None))
        if found is None or known != versions:
            found = self._planned(check)
            self._kept[tuple(flags)] = versions, found
        self._flags = flags
        return found

    def _planned(self, check: Check) -> Trained:
        _refuse_unfit(self._parameters)
        frozen = {name: p for name, p in self._parameters.items() if not p.requires_grad}
        values: dict[str, Floats] = {name: p.detach().to("cpu", torch.float64).numpy() for name, p in frozen.items()}
        epsilon = max((torch.finfo(p.dtype).eps for p in frozen.values()), default=0.0)
        left = self._plan.with_constants(values, epsilon)
        parameters = {p.name: self._parameters[p.name] for p in left.parameters}
        check(left, parameters)
        places = tuple(place for place in self._places if place.name in parameters)
        return Trained(Projector(left, parameters), parameters, places)


def _refuse_unfit(used: Mapping[str, torch.nn.Parameter]) -> None:
    for name, parameter in used.items():
        if parameter.is_meta:
            raise UnsupportedWeightError(
                name, "it is on the meta device and has no numbers", "Plan with it, and attach once it is materialised."
            )
        if parameter.layout != torch.strided:
            raise UnsupportedWeightError(name, f"its layout is {parameter.layout}", "Constrain dense parameters only.")
        bad = int((~torch.isfinite(parameter.detach())).sum())
        if bad:
            raise AttachError(
                f"{name} holds {bad} number{'s' * (bad != 1)} that are not finite (NaN or infinite); projecting would "
                f"spread them. Initialise or load the weights before attaching."
            )
