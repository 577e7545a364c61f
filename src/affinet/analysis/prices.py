"""Compute prices of rules: the combination of equations and of inequalities at their bounds nearest to a gradient."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from affinet.analysis.independent_parts import Part, parts_of
from affinet.analysis.matrix_prices import price_matrix
from affinet.analysis.multipliers import fixing_multipliers, separate_fixings, sharing
from affinet.analysis.normal_cones import solve_rows
from affinet.analysis.rule_values import Weight, at_bound, coarsest_spacing, most_roundings
from affinet.analysis.signed_multipliers import signed_multipliers
from affinet.blocks.entry_sets import positions_of
from affinet.language.calculus.terms import Floats, Integers, lower
from affinet.language.evaluation import evaluate
from affinet.language.expression import Expression
from affinet.language.sense import Spectrum
from affinet.planning.curved.joined_balls import joined_balls
from affinet.planning.curved.linearizing import linearized
from affinet.planning.reading.fixings import read_fixings
from affinet.system.distinct import ranked
from affinet.system.magnitudes import without_zeros
from affinet.system.rows import Rows, concatenate
from affinet.system.system import Rule, System

SIGNS = {"==": 0, "<=": -1, ">=": 1}
"""The signs of prices: raising the bound of `<=` can only lower the least loss, raising that of `>=` only raise it."""

MOST_PRICED = 2**27
"""(Equation, entry) pairs of rules that are priced without being asked for: some ten seconds, at 0.1 to 0.3 µs each."""
MOST_AT_ONCE = 2**22
"""The same of rules that are not parted: up to 1 µs each, and 1 GB for a moment."""


@dataclass(frozen=True, eq=False)
class Prices:
    """`values` (rows,): `∂f*/∂rhs` per row of the rules as written, one rule after the other; 0 off the bound.

    `active` marks equations, and inequalities at their bound. `shared` marks rows that depend on other active rows:
    their prices are not unique, and where an inequality is among these they hold in one direction of change only.
    `residual` (entries,) is what the rows leave of the gradient. `system` has the linear parts of nonlinear rules.
    """

    system: System
    values: Floats
    active: np.ndarray
    shared: np.ndarray
    residual: Floats

    def of_rules(self, rows: np.ndarray) -> list[np.ndarray]:
        """Numbers or marks of all rows as views by rule, each in its shape."""
        return _by_rule(self.system, rows)


class PricedRules(NamedTuple):
    """Rule name → its prices in its shape, and rule name → the other rules on which its active rows depend."""

    multipliers: Mapping[str, Any]
    shared_with: Mapping[str, tuple[str, ...]]


def prices(system: System, gradient: Floats, weights: Mapping[str, Weight]) -> Prices:
    """The prices at weights that satisfy the rules: signs are those of `SIGNS`, whatever the gradient is.

    `gradient` has one number per column of the layout. At an optimum the residual is zero; elsewhere prices are those
    of the point of the cone of the rows that is nearest to the gradient. Where prices are not unique, those of smallest
    norm, inequalities counted as if their rows had length one. Nonlinear rules have the prices of their linear parts at
    the weights. Where all rules are linear equations, no weights are read.
    """
    active = _active(system, weights)
    system = at_weights(system, weights)
    first = np.cumsum([0, *(rule.equations for rule in system.rules)])
    marks = np.concatenate([np.zeros(0, bool), *(active_of_rule.ravel() for active_of_rule in active)])
    solved = Prices(system, np.zeros(first[-1]), marks, np.zeros(first[-1], bool), gradient.astype(np.float64))
    direct = separate_fixings(system)
    for number, fixing in direct.items():
        solved.values[first[number] : first[number + 1]] = fixing_multipliers(fixing, system, gradient)
        block = fixing[0].block
        solved.residual[system.layout.start(block.parameter) + positions_of(block.places)] = 0.0
    for number, rule in enumerate(system.rules):
        if rule.norm is not None:
            span = slice(first[number], first[number + 1])
            bounded = marks[span]
            solved.values[span] = _price_ball(rule, system, gradient, bounded, weights, solved.residual)
    for part in _coupled_parts(system, direct):
        _solve_part(part, gradient, solved)
    return solved


def quickly_priced(system: System, times: int = 1) -> bool:
    """Whether `prices` takes seconds and little memory: rules fall into parts, or are not large.

    `times` is how often they are computed at once, by as many processes.
    """
    if sum(rule.nonzeros for rule in system.every) * times > MOST_PRICED:
        return False
    undivided = [rule for rule in system.every if rule.curved or rule.norm is not None]
    if sum(rule.nonzeros for rule in undivided) * times > MOST_AT_ONCE:
        return False
    parts = _coupled_parts(system, separate_fixings(system))
    return all(sum(rule.nonzeros for rule in part.system.rules) * times <= MOST_AT_ONCE for part in parts)


def at_weights(system: System, weights: Mapping[str, Weight]) -> System:
    """The system with each nonlinear rule replaced by its linear part at the weights, which prices are about."""
    joined = joined_balls(system)
    if not joined and not system.curved:
        return system
    numbers = {p.name: np.asarray(weights[p.name].numbers).reshape(p.shape) for p in system.layout.parameters}
    rules = (_length_at(rule, numbers) if k in joined else rule for k, rule in enumerate(system.rules))
    return linearized(replace(system, rules=tuple(rules)) if joined else system, numbers)


def active_rows(solved: Prices) -> tuple[Rows, Floats]:
    """The rows that prices belong to, equations and inequalities at their bounds, and their prices; balls excepted."""
    system = solved.system
    first = np.cumsum([0, *(rule.equations for rule in system.rules)])
    linear = [k for k, rule in enumerate(system.rules) if rule.norm is None]
    rows = _rows_at_bounds(system, linear, solved.of_rules(solved.active))
    return rows, solved.values[first[rows.rule] + rows.index]


def parts_by_rule(solved: Prices) -> dict[str, Floats]:
    """Rule name → its prices, in the rule's shape."""
    values = solved.of_rules(solved.values)
    return {rule.name: part.copy() for rule, part in zip(solved.system.rules, values, strict=True)}


def rules_that_share(solved: Prices) -> dict[str, tuple[str, ...]]:
    """Rule name → the other rules whose active rows its own depend on; rules with unique prices are left out."""
    rules, marks = solved.system.rules, solved.of_rules(solved.shared)
    partners: dict[int, set[int]] = {}
    if not solved.shared.any():
        return {}
    for part in _coupled_parts(solved.system, separate_fixings(solved.system)):
        chosen = [marks[number][box] for number, box in zip(part.numbers, part.boxes, strict=True)]
        dependent = [k for k, mark in enumerate(chosen) if mark.any()]
        rows = _rows_at_bounds(part.system, dependent, chosen)
        first = np.cumsum([0, *(mark.size for mark in chosen)])
        marked = np.concatenate([np.zeros(0, bool), *(mark.ravel() for mark in chosen)])
        for rule, connected in sharing(rows, marked[first[rows.rule] + rows.index]).items():
            partners.setdefault(part.numbers[rule], set()).update(part.numbers[k] for k in connected)
    return {rules[rule].name: tuple(rules[k].name for k in sorted(partners[rule])) for rule in sorted(partners)}


def _active(system: System, weights: Mapping[str, Weight]) -> list[np.ndarray]:
    """For each rule, which of its rows are equations or at their bound."""
    return [np.ones(rule.equations, bool) if rule.sense == "==" else at_bound(rule, weights) for rule in system.every]


def _by_rule(system: System, rows: np.ndarray) -> list[np.ndarray]:
    bounds = np.cumsum([0, *(rule.equations for rule in system.rules)])
    return [
        rows[start:end].reshape(rule.shape) for rule, start, end in zip(system.rules, bounds, bounds[1:], strict=False)
    ]


def _length_at(rule: Rule, weights: Mapping[str, np.ndarray]) -> Rule:
    """The rule `x₀ · x / |x₀| <= radius` of one that bounds the length of x, x₀ being its value at the weights."""
    at = evaluate(rule.expression, weights)
    length = np.linalg.norm(at, axis=-1, keepdims=True)
    slope = np.divide(at, length, out=np.zeros_like(at), where=length > 0.0)
    radius = np.broadcast_to(np.asarray(rule.radius, np.float64), rule.shape)
    gap = (rule.expression * slope).sum(dim=-1) - radius
    return replace(rule, expression=Expression(without_zeros(gap).affine), norm=None, radius=0.0)


def _coupled_parts(system: System, direct: Collection[int]) -> Iterator[Part]:
    """The parts of the linear rules that are not balls and not among `direct`."""
    return parts_of(system, [k for k, rule in enumerate(system.rules) if k not in direct and rule.norm is None])


def _solve_part(part: Part, gradient: Floats, solved: Prices) -> None:
    """Write the prices of a part, their marks, and the remainder of the gradient at its entries into `solved`."""
    system, rules = part.system, range(len(part.numbers))
    active, values, shared = (solved.of_rules(rows) for rows in (solved.active, solved.values, solved.shared))
    pieces = list(zip(part.numbers, part.boxes, strict=True))
    rows = _rows_at_bounds(system, rules, [active[number][box] for number, box in pieces])
    signs = np.array([SIGNS[rule.sense] for rule in system.rules], np.int64)[rows.rule]
    multipliers, dependent = signed_multipliers(rows, signs, system, gradient)
    first = np.cumsum([0, *(rule.equations for rule in system.rules)])
    place = first[rows.rule] + rows.index
    flat_values, flat_shared = np.zeros(first[-1]), np.zeros(first[-1], bool)
    flat_values[place], flat_shared[place] = multipliers, dependent
    parts = zip(pieces, _by_rule(system, flat_values), _by_rule(system, flat_shared), strict=True)
    for (number, box), values_of_rule, shared_of_rule in parts:
        values[number][box], shared[number][box] = values_of_rule, shared_of_rule
    used, entry = ranked(rows.columns)
    solved.residual[used] -= np.bincount(entry, rows.values * multipliers[rows.row_of_each()], len(used))


def _rows_at_bounds(system: System, numbers: Sequence[int], active: Sequence[np.ndarray]) -> Rows:
    """The equations of the numbered rules, and their inequalities at the bound."""
    equations = [number for number in numbers if system.rules[number].sense == "=="]
    at_bounds = [number for number in numbers if system.rules[number].sense != "==" and active[number].any()]
    return concatenate([system.rows(equations), *(_rows_at_bound(system, k, active[k]) for k in at_bounds)])


def _rows_at_bound(system: System, number: int, active: np.ndarray) -> Rows:
    index = np.flatnonzero(active)
    return _single_entries(system, number, index) or system.rows([number]).select(index)


def _single_entries(system: System, number: int, index: Integers) -> Rows | None:
    """The numbered rows of a large rule that bounds entries in order; None for another rule."""
    rule = system.rules[number]
    if rule.nonzeros <= system.limits.one_by_one or len(rule.expression.terms) > 1:
        return None
    fixings = read_fixings(rule, number, system.tolerance.cancellation)
    if fixings is None or len(fixings) > 1 or not fixings[0].in_order:
        return None
    block, count = fixings[0].block, len(index)
    columns = system.layout.start(block.parameter) + positions_of(block.places)[index]
    values = np.full(count, rule.expression.terms[0].scalar)
    return Rows(np.arange(count + 1), columns, values, np.zeros(count), np.full(count, number), index)


def _price_ball(
    rule: Rule, system: System, gradient: Floats, active: np.ndarray, weights: Mapping[str, Weight], residual: Floats
) -> Floats:
    """The price of each radius; the residual is reduced in place.

    With w on the sphere, `g = ν a` for a subgradient a of the norm: of the Euclidean norm `w / |w|`, of the sum of
    magnitudes the signs of w, and anything between −1 and 1 where w is zero.
    """
    (term,) = rule.expression.terms
    row, position, _ = lower(term, rule.expression.shape)
    positions = position[np.argsort(row, kind="stable")].reshape(-1, rule.expression.shape[-1])
    values = np.zeros(rule.equations)
    if isinstance(rule.norm, Spectrum):
        start = system.layout.start(term.parameter)
        numbers, spread = weights[term.parameter.name].numbers, most_roundings(weights) * coarsest_spacing(weights)
        radii = np.broadcast_to(np.asarray(rule.radius, np.float64), rule.shape).ravel() / abs(term.scalar)
        for k, places in enumerate(positions):
            w, g = numbers[places].astype(np.float64), gradient[start + places]
            values_k, residual[start + places] = price_matrix(rule.norm, w, g, float(radii[k]), spread)
            values[k] = values_k / abs(term.scalar)
        return values
    positions = positions[active]
    w = weights[term.parameter.name].numbers[positions].astype(np.float64)
    columns = system.layout.start(term.parameter) + positions
    g, size = gradient[columns], abs(term.scalar)
    if rule.norm == 2:
        length = np.linalg.norm(w, axis=1, keepdims=True)
        slope = np.divide(w, length, out=np.zeros_like(w), where=length > 0.0)
        centred = length[:, 0] == 0.0  # a radius of zero: any direction is a subgradient
        price = np.where(centred, -np.linalg.norm(g, axis=1), np.minimum((g * slope).sum(1), 0.0))
        residual[columns] = np.where(centred[:, None], 0.0, g - price[:, None] * slope)
    else:
        slope = np.where(w == 0.0, -np.sign(g), np.sign(w))
        price = solve_rows(slope, g, np.where(w == 0.0, -np.sign(g), 0.0).astype(np.int64), np.full(len(w), -1))
        over = np.where(w == 0.0, np.maximum(np.abs(g) + price[:, None], 0.0) * np.sign(g), g - price[:, None] * slope)
        residual[columns] = over
    values[active] = price / size
    return values
