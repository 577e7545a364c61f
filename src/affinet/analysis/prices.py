"""Compute prices of rules: the combination of equations and of inequalities at their bounds nearest to a gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from affinet.analysis.matrix_prices import price_matrix
from affinet.analysis.multipliers import fixing_multipliers, multipliers, separate_fixings, sharing
from affinet.analysis.normal_cones import solve_batch, solve_giant, solve_rows
from affinet.analysis.rule_values import Weight, at_bound, coarsest_spacing, most_roundings
from affinet.blocks.entry_sets import positions_of
from affinet.language.calculus.terms import Floats, Integers, lower
from affinet.language.evaluation import evaluate
from affinet.language.expression import Expression
from affinet.language.sense import Spectrum
from affinet.planning.curved.joined_balls import joined_balls
from affinet.planning.curved.linearizing import linearized
from affinet.planning.elimination.components import Batch, split
from affinet.planning.reading.fixings import read_fixings
from affinet.system.distinct import ranked
from affinet.system.magnitudes import without_zeros
from affinet.system.rows import Rows, concatenate
from affinet.system.system import Rule, System

SIGNS = {"==": 0, "<=": -1, ">=": 1}
"""The signs of prices: raising the bound of `<=` can only lower the least loss, raising that of `>=` only raise it."""


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


def prices(system: System, gradient: Floats, weights: Mapping[str, Weight]) -> Prices:
    """The prices at weights that satisfy the rules: signs are those of `SIGNS`, whatever the gradient is.

    `gradient` has one number per column of the layout. At an optimum the residual is zero; elsewhere prices are those
    of the point of the cone of the rows that is nearest to the gradient. Where prices are not unique, those of smallest
    norm, inequalities counted as if their rows had length one. Nonlinear rules have the prices of their linear parts at
    the weights.
    """
    active = _active(system, weights)
    system = at_weights(system, weights)
    first = np.cumsum([0, *(rule.equations for rule in system.rules)])
    values, shared = np.zeros(first[-1]), np.zeros(first[-1], bool)
    residual = gradient.astype(np.float64, copy=True)
    direct = separate_fixings(system)
    for number, fixing in direct.items():
        values[first[number] : first[number + 1]] = fixing_multipliers(fixing, system, gradient)
        block = fixing[0].block
        residual[system.layout.start(block.parameter) + positions_of(block.places)] = 0.0
    for number, rule in enumerate(system.rules):
        if rule.norm is not None:
            span = slice(first[number], first[number + 1])
            values[span] = _price_ball(rule, system, gradient, active[number], weights, residual)
    coupled = [k for k in range(len(system.rules)) if k not in direct and system.rules[k].norm is None]
    rows = _active_rows(system, coupled, active)
    at = first[rows.rule] + rows.index
    values[at], shared[at] = _solve(rows, system, gradient)
    residual -= rows.matrix(len(gradient)).T @ values[at]
    return Prices(system, values, np.concatenate([np.zeros(0, bool), *active]), shared, residual)


def at_weights(system: System, weights: Mapping[str, Weight]) -> System:
    """The system with each nonlinear rule replaced by its linear part at the weights, which prices are about."""
    numbers = {p.name: np.asarray(weights[p.name].numbers).reshape(p.shape) for p in system.layout.parameters}
    joined = joined_balls(system)
    rules = (_length_at(rule, numbers) if k in joined else rule for k, rule in enumerate(system.rules))
    return linearized(replace(system, rules=tuple(rules)) if joined else system, numbers)


def _length_at(rule: Rule, weights: Mapping[str, np.ndarray]) -> Rule:
    """The rule `x₀ · x / |x₀| <= radius` of one that bounds the length of x, x₀ being its value at the weights."""
    at = evaluate(rule.expression, weights)
    length = np.linalg.norm(at, axis=-1, keepdims=True)
    slope = np.divide(at, length, out=np.zeros_like(at), where=length > 0.0)
    radius = np.broadcast_to(np.asarray(rule.radius, np.float64), rule.shape)
    gap = (rule.expression * slope).sum(dim=-1) - radius
    return replace(rule, expression=Expression(without_zeros(gap).affine), norm=None, radius=0.0)


def active_rows(solved: Prices) -> tuple[Rows, Floats]:
    """The rows that prices belong to, equations and inequalities at their bounds, and their prices; balls excepted."""
    system = solved.system
    first = np.cumsum([0, *(rule.equations for rule in system.rules)])
    active = np.split(solved.active, first[1:-1])
    rows = _active_rows(system, [k for k, rule in enumerate(system.rules) if rule.norm is None], active)
    return rows, solved.values[first[rows.rule] + rows.index]


def _active(system: System, weights: Mapping[str, Weight]) -> list[np.ndarray]:
    """For each rule, which of its rows are equations or at their bound."""
    return [
        np.ones(rule.equations, bool) if rule.sense == "==" else at_bound(rule, weights).ravel()
        for rule in system.every
    ]


def parts_by_rule(solved: Prices) -> dict[str, Floats]:
    """Rule name → its prices, in the rule's shape."""
    rules = solved.system.rules
    parts = np.split(solved.values, np.cumsum([rule.equations for rule in rules])[:-1])
    return {rule.name: part.reshape(rule.shape).copy() for rule, part in zip(rules, parts, strict=False)}


def rules_that_share(solved: Prices) -> dict[str, tuple[str, ...]]:
    """Rule name → the other rules whose active rows its own depend on; rules with unique prices are left out."""
    system, rules = solved.system, solved.system.rules
    marks = list(np.split(solved.shared, np.cumsum([rule.equations for rule in rules])[:-1]))
    dependent = [number for number in range(len(rules)) if marks[number].any()]
    chosen = np.concatenate([np.zeros(0, bool), *(marks[number] for number in dependent)])
    groups = sharing(system.rows(dependent), chosen)
    return {rules[rule].name: tuple(rules[k].name for k in partners) for rule, partners in groups.items()}


def _active_rows(system: System, numbers: list[int], active: list[np.ndarray]) -> Rows:
    """The equations of the numbered rules, and their inequalities at the bound."""
    equations = [number for number in numbers if system.rules[number].sense == "=="]
    at_bounds = [number for number in numbers if number not in equations and active[number].any()]
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


def _solve(rows: Rows, system: System, gradient: Floats) -> tuple[Floats, np.ndarray]:
    """Prices of the rows, and which are shared; rows that no inequality is connected with are those of equations."""
    signs = np.array([SIGNS[system.rules[rule].sense] for rule in rows.rule.tolist()], np.int64)
    with_inequality = _connected_with(rows, signs != 0)
    values, shared = np.zeros(rows.count), np.zeros(rows.count, bool)
    among_equations, joint = np.flatnonzero(~with_inequality), np.flatnonzero(with_inequality)
    solved = multipliers(rows.select(among_equations), gradient, system.tolerance, system.limits)
    values[among_equations], shared[among_equations] = solved.values, solved.shared
    values[joint], shared[joint] = _solve_signed(rows.select(joint), signs[joint], system, gradient)
    return values, shared


def _connected_with(rows: Rows, marked: np.ndarray) -> np.ndarray:
    """Which rows share entries with a marked row, directly or through other rows."""
    used, place = ranked(rows.columns)
    size = rows.count + len(used)
    ends = (rows.row_of_each(), place + rows.count)
    graph = sparse.coo_array((np.ones(len(place), np.int8), ends), shape=(size, size)).tocsr()
    count, labels = csgraph.connected_components(graph, directed=False)
    with_mark = np.zeros(count, bool)
    with_mark[labels[: rows.count][marked]] = True
    return np.asarray(with_mark[labels[: rows.count]])


def _solve_signed(rows: Rows, signs: Integers, system: System, gradient: Floats) -> tuple[Floats, np.ndarray]:
    """Solve for rows of several entries first; bounds of single entries absorb of the remainder what they can."""
    values, shared = np.zeros(rows.count), np.zeros(rows.count, bool)
    used, place = ranked(rows.columns)
    single = np.flatnonzero(rows.lengths == 1)
    entry, coefficient = place[rows.bounds[single]], rows.values[rows.bounds[single]]
    direction = signs[single] * np.sign(coefficient).astype(np.int64)
    upward, downward = np.zeros(len(used), bool), np.zeros(len(used), bool)
    upward[entry[direction >= 0]] = True
    downward[entry[direction <= 0]] = True
    both, absorbed = upward & downward, upward.astype(np.int64) - downward
    dependent_entries = np.bincount(entry, minlength=len(used)) > 1
    several = np.flatnonzero(rows.lengths > 1)
    reduced, nonempty = _without_entries(rows.select(several), place[_values_of(rows, several)], both)
    for component in split(reduced.select(np.flatnonzero(nonempty)), np.zeros(int(nonempty.sum())), system.limits):
        at = several[nonempty][component.rows]
        nodes = component.nodes
        target = gradient[used[nodes]]
        if isinstance(component, Batch):
            solved = solve_batch(component, target, absorbed[nodes], signs[at], system.tolerance)
        else:
            solved = solve_giant(component, target, absorbed[nodes], signs[at])
        values[at], shared[at] = solved.values, solved.shared
        dependent_entries[nodes] |= solved.shared_entries
    shared[several[~nonempty]] = True
    read_by_shared = place[_values_of(rows, np.flatnonzero(shared))]
    dependent_entries[read_by_shared] |= both[read_by_shared]
    remainder = gradient[used] - np.bincount(place, rows.values * values[rows.row_of_each()], len(used))
    values[single] = _absorb(remainder, entry, coefficient, direction)
    shared[single] = dependent_entries[entry]
    return values, shared


def _values_of(rows: Rows, numbers: Integers) -> Integers:
    """The places of the stored values of the numbered rows."""
    lengths = rows.lengths[numbers]
    ends = np.cumsum(lengths)
    return np.repeat(rows.bounds[:-1][numbers] - (ends - lengths), lengths) + np.arange(int(lengths.sum()))


def _without_entries(rows: Rows, place: Integers, excluded: np.ndarray) -> tuple[Rows, np.ndarray]:
    """The rows over numbered entries (`place`) without the excluded ones, and which rows have any left."""
    remaining = ~excluded[place]
    bounds = np.concatenate([[0], np.cumsum(remaining)])[rows.bounds]
    reduced = Rows(bounds, place[remaining], rows.values[remaining], rows.rhs, rows.rule, rows.index)
    return reduced, np.diff(bounds) > 0


def _absorb(remainder: Floats, entry: Integers, coefficient: Floats, direction: Integers) -> Floats:
    """The prices of bounds of single entries: each entry's remainder, divided evenly among usable bounds."""
    usable = (direction == 0) | (direction * remainder[entry] > 0.0)
    count = np.bincount(entry, usable, len(remainder))
    return np.where(usable, remainder[entry] / (coefficient * np.maximum(count[entry], 1.0)), 0.0)


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
