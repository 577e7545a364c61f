"""Equations by functions: `affinet.equations`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

import affinet
from affinet.errors import PlanFileError, RuleError, ShapeError
from tests.errors.case import case
from tests.errors.symbols import b


def law(weights: Tensor) -> Tensor:
    return weights.sum() - 1.0


@case(RuleError, "Something else than a function.", "Give a function of tensors.")
def equations_without_a_function() -> object:
    return affinet.equations("law", [b], count=1)  # type: ignore[arg-type]  # the mistake


@case(ShapeError, "The count of equations is no positive integer.", "Give the number of results.")
def a_count_of_no_equations() -> object:
    return affinet.equations(law, [b], count=0)


@case(ShapeError, "The function returns another number of results.", "Give their number as `count`.")
def a_function_with_other_results() -> object:
    return affinet.equations(lambda weights: weights * 2.0, [b], count=2)


@case(RuleError, "A function that draws random numbers.", "Take them out of it.", foreign=r"\[.*?\]")
def a_random_function() -> object:
    return affinet.equations(lambda weights: weights.sum() + torch.rand(()), [b], count=1)


@case(RuleError, "A function that leaves autograd.", "Write it in operations of torch.")
def a_function_without_derivatives() -> object:
    return affinet.equations(lambda weights: weights.detach().sum(), [b], count=1)


@case(RuleError, "A function that fails.", "Mend it: it takes tensors in float64.", foreign=r"TypeError: .*")
def a_failing_function() -> object:
    return affinet.equations(lambda: torch.zeros(()), [b], count=1)


@case(RuleError, "Two functions of one name in a plan that is saved.", "Name one of them by `name=`.")
def two_functions_of_one_name(folder: Path) -> None:
    rules = [affinet.equations(each, [b], count=1) for each in (lambda w: w.sum(), lambda w: w.prod() - 1.0)]
    affinet.plan(rules).save(folder / "plan.safetensors")


@case(PlanFileError, "A plan with functions is loaded without them.", "Give them to `Plan.load`.")
def a_plan_without_its_function(folder: Path) -> None:
    affinet.plan(affinet.equations(law, [b], count=1)).save(folder / "plan.safetensors")
    affinet.Plan.load(folder / "plan.safetensors")


@case(RuleError, "A plan without its function is used.", "Load it with the function.")
def a_call_of_a_missing_function() -> None:
    from affinet.language.opaque import MissingFunction

    MissingFunction("law", ((3,),), 1).linearized(None)
