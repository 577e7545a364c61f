"""Attach rules to a model and its optimizers by an augmented Lagrangian (`lagrange`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from numbers import Real
from typing import Any, TypeAlias

import torch
from torch import optim

from affinet.errors import AttachError, RuleError
from affinet.kernels.torch.projector import check_tensors
from affinet.language.constraint import Constraint
from affinet.language.expectations import Expectation, ExpectedRule
from affinet.language.modules import parameters_of
from affinet.language.nodes import is_curved
from affinet.plans.plan import Plan
from affinet.system.system import System
from affinet.training.attached import attach, check_no_shared_weights, check_unattached
from affinet.training.attaching import check_model, check_optimizers, listed_optimizers, places_of
from affinet.training.augmented.feasible import Feasible
from affinet.training.augmented.lagrange_handle import LagrangeHandle
from affinet.training.augmented.lagrangian import Lagrangian
from affinet.training.decay import Decay
from affinet.training.nesting import nest
from affinet.training.process_agreement import check_not_distributed

AnyRules: TypeAlias = Plan | Constraint | ExpectedRule | Iterable[Any]
"""A plan, a rule, or a collection of rules about weights and about expected values."""

PENALTY, DUAL_RATE = 30.0, 0.03
"""Measured on 216 starts of Hock and Schittkowski's problems with Adam: `python -m benchmarks.multipliers`."""


def lagrange(
    model: torch.nn.Module,
    optimizer: optim.Optimizer | Iterable[optim.Optimizer],
    rules: AnyRules,
    *,
    penalty: float = PENALTY,
    dual_rate: float = DUAL_RATE,
    feasible_start: bool = True,
    decay: Decay | None = None,
) -> LagrangeHandle:
    """Train towards rules by an augmented Lagrangian, without projections; the training loop does not change.

    For rules that need not, or cannot, hold exactly at each step: systems too large to factor,
    and expected values over the data (`affinet.expectation`, whose terms the loop adds: `loss + handle.terms(...)`).
    Its limit is that of `affinet.project`, the optimum of the constrained problem; on the way the rules are violated.

    Each step adds to the gradients those of `νᵀc + ½ Σ ρ_i c_i²`, and moves the multipliers by `dual_rate · ρ_i c_i`
    (an inequality's stay at least 0). `ρ_i = ρ / ‖J_i‖²`, with J_i the derivatives of an equation, and
    `ρ = penalty · ‖g‖ / max(1, ‖w‖)` from the largest gradient of the first ten steps (from the first gradient with
    expected values). The defaults are for Adam and its relatives; SGD
    wants a smaller penalty, such as 3. LBFGS minimises anew in each step, and moves the multipliers by ρ_i c_i.

    Training starts at the nearest point of the rules that a plan can hold (`feasible_start=False`: at the present
    weights), and `handle.finish()` returns there. `decay` is that of `affinet.project`.

    Raises AttachError (nothing changed) where model, optimizers and rules do not belong to each other or an optimizer
    is attached already; InfeasibleError where rules contradict each other.
    """
    check_model(model, "affinet.lagrange")
    _check_numbers(penalty=penalty, dual_rate=dual_rate)
    optimizers = listed_optimizers(optimizer)
    about_weights, expected = _separate(rules)
    if isinstance(about_weights, Plan):
        system = about_weights.system
    else:
        system = System.of(about_weights)
        about_weights = _with_names(about_weights, system)
    every = parameters_of(model, [parameter.name for parameter in system.layout.parameters])
    parameters = {parameter.name: every[parameter.name] for parameter in system.layout.parameters}
    check_tensors(system.layout.parameters, parameters)
    check_not_distributed(parameters, "affinet.lagrange")
    check_optimizers(optimizers, {name: p for name, p in parameters.items() if p.requires_grad})
    nests = tuple(nest(member, map(id, parameters.values())) for member in optimizers)
    with_wrappers = [member for nested in nests for member in nested.all]
    check_unattached(with_wrappers)
    check_no_shared_weights(with_wrappers, parameters, model)
    feasible = Feasible(model, about_weights)
    places = places_of(model, parameters)
    lagrangian = Lagrangian(
        system, parameters, expected, nests, places, penalty=float(penalty), dual_rate=float(dual_rate), decay=decay
    )
    moved = feasible.start() if feasible_start else {}
    _check_values(lagrangian)
    lagrangian.attach()
    attach(with_wrappers, parameters.values())
    return LagrangeHandle(lagrangian, feasible, dict.fromkeys(parameters, 0.0) | moved)


def _check_numbers(**numbers: object) -> None:
    """Raise AttachError for an option that is not a number above 0."""
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, Real) or not 0.0 < float(number) < float("inf"):
            raise AttachError(f"{name} is {number!r:.60}; give a number above 0.")


def _check_values(lagrangian: Lagrangian) -> None:
    """Raise AttachError for a rule without a finite value at the present weights, whose gradients would be nan."""
    violation = lagrangian.violation()
    valueless = [rule.name for rule in lagrangian.system.every if not isfinite(violation[rule.name])]
    if valueless:
        raise AttachError(
            f'at the present weights "{valueless[0]}" has no finite value: a logarithm or root of a negative number, a '
            f"division by zero, or a number that is too large. Start from other weights."
        )


def _separate(rules: AnyRules) -> tuple[Plan | list[Constraint], list[ExpectedRule]]:
    """The rules about weights, and those about expected values. Raises RuleError for anything else."""
    if isinstance(rules, Plan):
        return rules, []
    listed = list(_flattened(rules))
    expected = [rule for rule in listed if isinstance(rule, ExpectedRule)]
    repeated = {rule.name for rule in expected if sum(rule.name == other.name for other in listed) > 1}
    if repeated:
        raise RuleError(
            f"several rules have the name {min(repeated)!r}. Name the rules about expected values apart: "
            f'(affinet.expectation(f) <= 1).named("…").'
        )
    return [rule for rule in listed if not isinstance(rule, ExpectedRule)], expected


def _flattened(rules: Any) -> Iterator[Any]:
    if isinstance(rules, Expectation):
        raise RuleError("an expectation alone is not a rule. Compare it with a number by ==, <= or >=.")
    if isinstance(rules, Constraint | ExpectedRule | str | bytes | Mapping) or not isinstance(rules, Iterable):
        yield rules
    else:
        for rule in rules:
            yield from _flattened(rule)


def _with_names(rules: list[Constraint], system: System) -> list[Constraint]:
    """The rules under the names that the system gave them."""
    names = {curved: iter([r.name for r in system.every if r.curved is curved]) for curved in (True, False)}
    return [rule.named(next(names[is_curved(rule.expression.affine)])) for rule in rules]


__all__ = ["lagrange"]
