"""Read large rules that bound entries, and intersect them: one number for all entries where one serves all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from affinet.blocks.entry_sets import EntrySet, View, positions_of, set_of_mask, set_of_positions
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.language.forecast import forecast
from affinet.planning.reading.fixings import read_fixings
from affinet.system.distinct import distinct
from affinet.system.rows import Rows
from affinet.system.system import Rule, System


@dataclass(frozen=True, eq=False)
class Bounds:
    """`lower <= w <= upper` for entries of one parameter: one number for all, or one per entry in their order."""

    parameter: Parameter
    places: EntrySet
    lower: float | Floats
    upper: float | Floats
    rules: tuple[int, ...]

    @property
    def covers_all(self) -> bool:
        """Whether every entry of the parameter is in the set."""
        return self.places.size == self.parameter.size

    def over_parameter(self) -> tuple[Floats, Floats]:
        """The bounds of all entries of the parameter, infinite where an entry has none."""
        forecast(f"the bounds of the entries of {self.parameter.name}", 2 * self.parameter.size)
        lower, upper = np.full(self.parameter.size, -np.inf), np.full(self.parameter.size, np.inf)
        positions = positions_of(self.places)
        lower[positions], upper[positions] = self.lower, self.upper
        return lower, upper


def read_bounds(system: System, number: int) -> list[Bounds] | None:
    """The bounds of an inequality rule whose rows each have one entry; None for another rule."""
    rule = system.rules[number]
    sign = _sign(rule)
    if sign == 0:
        return None
    fixings = read_fixings(rule, number, system.tolerance.cancellation)
    if fixings is None:
        return None
    above = (sign > 0) == (rule.sense == "<=")
    bounds = []
    for fixing in fixings:
        block = fixing.block
        value = _value(block.stored, block.negated, block.places)
        lower, upper = (-np.inf, value) if above else (value, np.inf)
        bounds.append(Bounds(block.parameter, block.places, lower, upper, (number,)))
    return bounds


def bounds_of_rows(parameter: Parameter, start: int, rows: Rows) -> Bounds:
    """The bounds that rows `g · w <= h` of one entry each give to entries of a parameter that starts at a column."""
    positions, at = np.unique(rows.columns - start, return_inverse=True)
    lower, upper = np.full(len(positions), -np.inf), np.full(len(positions), np.inf)
    value, above = rows.rhs / rows.values + 0.0, rows.values > 0
    np.minimum.at(upper, at[above], value[above])
    np.maximum.at(lower, at[~above], value[~above])
    rules = tuple(int(rule) for rule in distinct(rows.rule))
    return Bounds(parameter, set_of_positions(positions, parameter.size), lower, upper, rules)


def _sign(rule: Rule) -> int:
    """The sign of all coefficients of the rule; 0 where they differ or would take a pass over arrays to know."""
    signs = {np.sign(term.scalar) if not term.factors else 0.0 for term in rule.expression.terms}
    return int(signs.pop()) if len(signs) == 1 else 0


def _value(stored: float | Floats, negated: bool, places: EntrySet) -> float | Floats:
    if isinstance(stored, float):
        return (-stored if negated else stored) + 0.0  # a bound of −0 would write −0 to weights
    if isinstance(places, View):
        stored = np.broadcast_to(stored, tuple(size for size, _ in places.dims)).reshape(-1)
    values = np.asarray(stored, np.float64)
    return (-values if negated else values) + 0.0


def intersected(bounds: Sequence[Bounds]) -> Bounds | None:
    """The bounds of all entries of several sets of one parameter; None where no entry has a bound."""
    joint = _intersected(bounds)
    free = np.isinf(joint.lower) & np.isinf(joint.upper)
    if free.all():
        return None
    return bounded(joint.parameter, *joint.over_parameter(), joint.rules) if free.any() else joint


def _intersected(bounds: Sequence[Bounds]) -> Bounds:
    first = bounds[0]
    rules = tuple(sorted({rule for each in bounds for rule in each.rules}))
    if all(isinstance(each.places, View) and each.places == first.places for each in bounds):
        lower, upper = first.lower, first.upper
        for each in bounds[1:]:
            lower, upper = np.maximum(lower, each.lower), np.minimum(upper, each.upper)
        return Bounds(first.parameter, first.places, _number(lower), _number(upper), rules)
    lower, upper = first.over_parameter()
    for each in bounds[1:]:
        low, high = each.over_parameter()
        np.maximum(lower, low, out=lower)
        np.minimum(upper, high, out=upper)
    return bounded(first.parameter, lower, upper, rules)


def bounded(parameter: Parameter, lower: Floats, upper: Floats, rules: tuple[int, ...]) -> Bounds:
    """The bounds of the entries that have one, from those of all entries of the parameter."""
    mask = np.isfinite(lower) | np.isfinite(upper)
    return Bounds(parameter, set_of_mask(mask), _number(lower[mask]), _number(upper[mask]), rules)


def without(bounds: Bounds, positions: Integers) -> Bounds | None:
    """The bounds of the other entries; None if no other entry has one."""
    lower, upper = bounds.over_parameter()
    lower[positions], upper[positions] = -np.inf, np.inf
    remaining = bounded(bounds.parameter, lower, upper, bounds.rules)
    return remaining if remaining.places.size else None


def _number(values: float | Floats) -> float | Floats:
    """One number where all are equal."""
    if isinstance(values, float) or not np.ndim(values):
        return float(values)
    return float(values[0]) if len(values) and (values == values[0]).all() else values
