"""Check that the dtypes of weights have the numbers that inequalities bound these weights by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np

from affinet.analysis.lookup.entry_names import cut
from affinet.blocks.kinds import AnyBlock
from affinet.blocks.normal_map import NormalMap
from affinet.errors import AttachError
from affinet.language.calculus.terms import Floats
from affinet.plans.plan import Plan
from affinet.system.system import Rule

MOST_LOOKED_AT = 1_000
"""Entries of a block that are looked at one by one for the bounds that rules state of them."""
ROUNDING = 4.0 * float(np.finfo(np.float64).eps)
"""Share of a bound of tied entries that is rounding: it is scaled to the length of their class and back."""


@dataclass(frozen=True)
class NumberFormat:
    """The numbers of a dtype: their spacing at 1, the smallest positive one, and the largest."""

    name: str
    spacing: float
    tiny: float
    largest: float

    @property
    def is_complete(self) -> bool:
        """Whether every number of float64 is one of the dtype."""
        return self.spacing <= float(np.finfo(np.float64).eps)

    def below(self, x: Floats) -> Floats:
        """The largest numbers of the dtype that are at most x, −inf where x is below all of them."""
        step = np.maximum(np.ldexp(self.spacing, np.frexp(x)[1] - 1), self.tiny)
        down = np.where(np.isfinite(x), np.floor(x / step) * step, x)
        return np.where(down < -self.largest, -np.inf, np.minimum(down, self.largest))

    def above(self, x: Floats) -> Floats:
        """The smallest numbers of the dtype that are at least x, inf where x is above all of them."""
        return -self.below(-x)

    def vanishes(self, x: Floats) -> np.ndarray:
        """Where numbers that are not 0 are rounded to 0."""
        return np.asarray((x != 0.0) & (np.abs(x) <= self.tiny / 2.0))

    def exceeds(self, x: Floats) -> np.ndarray:
        """Where finite numbers are rounded to infinity."""
        return np.asarray(np.isfinite(x) & (np.abs(x) >= self.largest * (1.0 + self.spacing / 4.0)))

    def separates(self, lower: Floats, upper: Floats) -> np.ndarray:
        """Where no number of the dtype lies between two bounds that differ."""
        least = self.above(lower - ROUNDING * np.abs(np.where(np.isfinite(lower), lower, 0.0)))
        most = self.below(upper + ROUNDING * np.abs(np.where(np.isfinite(upper), upper, 0.0)))
        return np.asarray((lower < upper) & (least > most))


def check_bounds(plan: Plan, formats: Mapping[str, NumberFormat]) -> None:
    """Raise AttachError where weights cannot be within their bounds, or a bound is 0 or infinite once it is rounded.

    `formats`: the numbers of each parameter, by name. A bound that is rounded to a number next to it is allowed, and
    bounds that are equal are an equation.
    """
    for block in plan.blocks:
        law = block.law()
        kinds = {formats[parameter.name] for parameter, _ in block.entries.sizes}
        if isinstance(law, NormalMap) and not all(kind.is_complete for kind in kinds):
            for kind in kinds:
                lower, upper = law.set.bounds()
                bad = kind.vanishes(lower) | kind.vanishes(upper) | kind.separates(lower, upper)
                bad = bad | kind.exceeds(lower) | kind.exceeds(upper)
                if bad.any():
                    _check_entries(plan, block, law.set.shape, bad, formats)


def _check_entries(
    plan: Plan, block: AnyBlock, shape: tuple[int, ...], bad: np.ndarray, formats: Mapping[str, NumberFormat]
) -> None:
    """Raise AttachError for the first of the marked entries whose own bounds are at fault; ties may imply others."""
    layout, rules = plan.system.layout, [plan.system.rule(number) for number in block.rules]
    marked = np.argwhere(bad)[:MOST_LOOKED_AT]
    places = np.ravel_multi_index(tuple(marked.T), shape)
    for column in block.entries.columns(np.asarray(places, np.int64), layout).tolist():
        numbers = formats[layout.parameters[layout.number(column)].name]
        balls = (
            _errors_of_radius(rule, numbers)
            for rule in rules
            if rule.norm in (1, 2) and len(rule.expression.terms) == 1
        )
        for error in chain(*balls, _errors_of_entry(plan, column, numbers)):
            raise error


def _errors_of_entry(plan: Plan, column: int, numbers: NumberFormat) -> Iterator[AttachError]:
    """What is wrong with the bounds that rules state of one entry."""
    entry, name = plan.system.layout.describe(column), numbers.name
    bounds: dict[bool, tuple[float, str]] = {}
    for key in plan.inequality_incidence.of(column):
        row = plan.inequality_incidence.equation(*key)
        rule = plan.system.rules[row.rule]
        if len(row.values) != 1 or not np.isfinite(row.rhs):
            continue
        value, is_upper = float(row.rhs) / float(row.values[0]) + 0.0, bool((row.values[0] > 0) == (rule.sense == "<="))
        yield from _errors_of_bound(rule.name, entry, value, is_upper, numbers)
        if is_upper not in bounds or (value < bounds[is_upper][0]) == is_upper:
            bounds[is_upper] = value, rule.name
    if len(bounds) == 2:
        (low, low_rule), (high, high_rule) = bounds[False], bounds[True]
        if numbers.separates(np.array(low), np.array(high)):
            yield AttachError(
                f'"{cut(low_rule)}" and "{cut(high_rule)}" ask for {low!r} <= {entry} <= {high!r}, and {name} has '
                f"no number there: those next to it are {_number(numbers.below(np.array(low)))} and "
                f"{_number(numbers.above(np.array(high)))}. Nothing was changed. Move a bound to one of these, write "
                f"{entry} == {low!r}, which is rounded, or use a wider dtype."
            )


def _errors_of_bound(
    rule: str, entry: str, value: float, is_upper: bool, numbers: NumberFormat
) -> Iterator[AttachError]:
    bound = np.array(value)
    stated = f'"{cut(rule)}" asks for {entry} {"<=" if is_upper else ">="} {value!r}'
    if numbers.vanishes(bound):
        yield AttachError(
            f"{stated}, which is 0 in {numbers.name}: its smallest number above 0 is "
            f"{_number(np.array(numbers.tiny))}. Nothing was changed. Write 0 or a bound of that size, or use a wider "
            f"dtype."
        )
    elif numbers.exceeds(bound):
        holds_always = is_upper == (value > 0)
        consequence = "no weight reaches this bound" if holds_always else "no weight can be there"
        way_out = "Leave the bound out" if holds_always else "Take a smaller bound"
        yield AttachError(
            f"{stated}, and {numbers.name} ends at {_number(np.array(numbers.largest))}: {consequence}. Nothing was "
            f"changed. {way_out}, or use a wider dtype."
        )


def _errors_of_radius(rule: Rule, numbers: NumberFormat) -> Iterator[AttachError]:
    """What is wrong with a radius: that it leaves only zeros, or that numbers of the dtype cannot reach it."""
    radius, width = np.asarray(rule.radius), int(rule.expression.shape[-1])
    size, norm = abs(rule.expression.terms[0].scalar), 2.0 if rule.norm == 2 else 1.0
    small, large, largest = float(radius.min()), float(radius.max()), numbers.largest * width ** (1.0 / norm)
    if numbers.vanishes(np.array(small / size)):
        yield AttachError(
            f'the radius {small!r} of "{cut(rule.name)}" is 0 in {numbers.name}, whose smallest number above 0 is '
            f"{_number(np.array(numbers.tiny))}: all weights would be 0. Nothing was changed. Take a larger radius, or "
            f"use a wider dtype."
        )
    elif large > size * largest:
        yield AttachError(
            f'no weights reach the radius {large!r} of "{cut(rule.name)}": {numbers.name} ends at '
            f"{_number(np.array(numbers.largest))}. Nothing was changed. Leave the rule out, or use a wider dtype."
        )


def _number(value: Floats) -> str:
    return f"{float(value):.9g}"
