"""Find rules that nearly follow from one another, or nearly contradict one another, by their condition number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np

from affinet.analysis.findings.looking import Look
from affinet.analysis.lookup.entry_names import by_rules, named_columns
from affinet.analysis.lookup.incidence import Incidence
from affinet.analysis.lookup.singular import Component
from affinet.analysis.lookup.tracing import MOST_ENTRIES, nearby
from affinet.language.calculus.terms import Floats
from affinet.system import lapack
from affinet.system.tolerance import DOUBLE_EPSILON, Tolerance

LARGE = 1e4
"""Condition numbers below this are never reported, whatever the constants are."""
FAR = 1e3
"""Nearly contradictory: all equations hold more than this many times farther from zero than each by itself."""
CONCENTRATED = 8.0
"""The weakest combination must spread over at most this many equations to count as a few that nearly agree."""
WORSE_THAN_SINGLE = 1e2
"""The rules cause the bad condition jointly if it is this many times worse than that of the worst single rule."""

MOST_SLICES = 16
"""At most this many sets of large slices are checked, by one cell each."""


@dataclass(frozen=True)
class NearlyRedundant:
    """Equations whose weakest combination is `1 / condition` of their strongest: rounding decides its value."""

    where: str
    condition: float
    rules: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"nearly redundant: {by_rules(self.rules)} say{'s' * (len(self.rules) == 1)} almost the same twice about "
            f"{self.where} (condition number {self.condition:.1e}). Rounding of the weights grows by that much along "
            f"it. Drop one of the equations, or make them exactly equal."
        )


@dataclass(frozen=True)
class NearlyContradictory:
    """Equations that all hold only at `distance` from zero, though each by itself holds within `alone`."""

    where: str
    distance: float
    alone: float
    condition: float
    rules: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"nearly contradictory: {by_rules(self.rules)} hold{'s' * (len(self.rules) == 1)} for {self.where} only "
            f"far away, at a distance of {self.distance:.3g} from zero, where each equation alone holds within "
            f"{self.alone:.3g} (condition number {self.condition:.1e}). Attaching would move the weights that far. "
            f"Check the coefficients and right-hand sides that almost agree."
        )


def smallest_reported(tolerance: Tolerance) -> float:
    """The condition number from which rules are nearly redundant: `1 / √epsilon`, half the digits of the constants."""
    return max(LARGE, 1.0 / sqrt(tolerance.epsilon))


def nearly_dependent(look: Look) -> Iterator[NearlyRedundant | NearlyContradictory]:
    """Findings for factored components, by singular values, and for bordered blocks, by their Schur complement."""
    reported: set[tuple[int, ...]] = set()
    for component in (*look.components[0], *_slice_components(look)):
        if component.rank < 2:
            continue
        condition = float(component.sizes[0] / component.sizes[component.rank - 1])
        if condition < LARGE:
            continue
        finding = _judge_component(look, component, condition)
        if finding is not None and (rules := _weakest_rules(component)) not in reported:
            reported.add(rules)
            yield finding
    for block in look.blocks:
        condition = block.condition_of_extra()
        if condition >= smallest_reported(look.system.tolerance):
            yield NearlyRedundant("the entries they share", condition, look.names(block.rules))


def _slice_components(look: Look) -> Iterator[Component]:
    """The equations of one cell of each set of large slices: all cells have the same coefficients."""
    large = [block for group in look.groups if group.rows is None for block in group.blocks]
    incidence = Incidence(look.system)
    for block in [block for block in large if 0 < block.resolution().cell <= MOST_ENTRIES][:MOST_SLICES]:
        component = nearby(incidence, int(block.entries.columns(np.zeros(1, np.int64), look.system.layout)[0]))
        if component is not None:
            yield component


def _judge_component(
    look: Look, component: Component, condition: float
) -> NearlyRedundant | NearlyContradictory | None:
    rules = _weakest_rules(component)
    weakest = component.u[:, component.rank - 1]
    strong = np.abs(weakest) > 0.1 * np.abs(weakest).max()
    where = named_columns(look.system.layout, np.sort(component.columns[(component.matrix[strong] != 0).any(axis=0)]))
    distance, largest_rhs = _distance_from_zero(component), float(np.abs(component.rhs).max())
    few = 1.0 / float((weakest**4).sum()) <= CONCENTRATED or condition >= WORSE_THAN_SINGLE * _worst_single_rule(
        component, rules
    )
    if few and distance > FAR * largest_rhs > 0.0:
        return NearlyContradictory(where, distance, largest_rhs, condition, look.names(rules))
    if condition >= smallest_reported(look.system.tolerance):
        return NearlyRedundant(where, condition, look.names(rules))
    return None


def _distance_from_zero(component: Component) -> float:
    """Distance of the nearest solution from zero. Right-hand sides within rounding of a combination count as zero."""
    unit = float(np.abs(component.rhs).max())  # squares of 1e200 have no float64
    if not unit:
        return 0.0
    rhs = component.rhs / unit
    targets = component.u[:, : component.rank].T @ rhs
    targets[np.abs(targets) <= 8.0 * DOUBLE_EPSILON * np.linalg.norm(rhs)] = 0.0
    coordinates = targets / component.sizes[: component.rank]
    largest = float(np.abs(coordinates).max())
    return unit * largest * float(np.linalg.norm(coordinates / largest)) if largest else 0.0


def _weakest_rules(component: Component) -> tuple[int, ...]:
    """At most two rules: those with the largest share in the weakest combination within the rank."""
    share = component.u[:, component.rank - 1] ** 2
    by_rule = {rule: float(share[component.rule == rule].sum()) for rule in component.rules}
    first = sorted(by_rule, key=lambda rule: (-by_rule[rule], rule))[:2]
    return tuple(sorted(rule for rule in first if by_rule[rule] > 1e-2 * by_rule[first[0]]))


def _worst_single_rule(component: Component, rules: tuple[int, ...]) -> float:
    """The largest condition number of any single rule."""
    return max(_condition(component.matrix[component.rule == rule]) for rule in rules)


def _condition(matrix: Floats) -> float:
    sizes = lapack.singular_values(matrix)
    counted = sizes[sizes > 1e-13 * sizes[0]]
    return float(sizes[0] / counted[-1])
