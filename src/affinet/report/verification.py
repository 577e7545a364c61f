"""Verify weights against rules: evaluate every equation and inequality as the rules state it, without any kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import nan

import numpy as np

from affinet.analysis.rule_values import Weight, evaluate, most_roundings
from affinet.errors import TooLargeError, counted
from affinet.language.forecast import forecast
from affinet.language.nodes import missing_functions, weights_of
from affinet.language.sense import Sense
from affinet.system.system import Rule, System

MOST_COUNTED = 2**34
"""Most (equation, entry) pairs of a rule that are counted: minutes. A plan of a few bytes can state many more."""

MOST_AT_ONCE = 2**21
"""Entries of a rule's expression that are evaluated at once: some 300 MB."""


@dataclass(frozen=True)
class Verdict:
    """How far weights are from one rule.

    `largest` is the largest violation in the units of the rule: |A w − b| for equations, what exceeds the bound for
    inequalities and balls. `roundings` is the largest violation divided by the effect of one rounding of everything in
    its equation, `ε (Σ|a_j w_j| + |b|)`, ε the spacing of the weights' dtypes; the rule holds where that is at most
    `bound`. Of a rule that calls functions without which it cannot be verified, `functions` has the names, and the
    numbers are NaN. For a ball the effect is the norm of those in its vector, and ε times its radius.
    """

    name: str
    equations: int
    largest: float
    roundings: float
    bound: float
    sense: Sense = "=="
    functions: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the violation is within rounding; False for NaN."""
        return self.roundings <= self.bound


def verify(system: System, weights: Callable[[frozenset[str]], Mapping[str, Weight]]) -> Iterator[Verdict]:
    """A verdict on each rule, in the order of the rules; `weights` is called with the names in one rule at a time.

    Raises TooLargeError for a rule of more equations or pairs than can be counted.
    """
    for rule in system.every:
        _check_size(rule)
        if functions := missing_functions([rule.expression.affine]):
            yield Verdict(rule.name, rule.equations, nan, nan, 0.0, rule.sense, functions)
            continue
        names = frozenset(parameter.name for parameter in weights_of([rule.expression.affine]))
        with np.errstate(all="ignore"):
            yield _verdict(rule, weights(names))


def _check_size(rule: Rule) -> None:
    at_once = rule.expression.size if rule.curved else min(rule.expression.size, max(MOST_AT_ONCE, _vector(rule)))
    forecast(f'rule "{rule.name}" of {counted(rule.equations, "equation")}, checked against weights,', 4 * at_once)
    pairs = sum(term.count for term in rule.expression.terms)
    if max(pairs, rule.expression.size) > MOST_COUNTED:
        equations = counted(rule.equations, "equation")
        subject = f'rule "{rule.name}" of {equations} and {pairs:,} pairs of an equation and an entry'
        size = 24 * max(pairs, rule.expression.size)
        raise TooLargeError(subject, size, 24 * MOST_COUNTED, "Split the rule into parts.")


def _vector(rule: Rule) -> int:
    """Entries of the expression that belong to one equation: the vector of a ball."""
    return rule.expression.size // max(rule.equations, 1)


def _verdict(rule: Rule, weights: Mapping[str, Weight]) -> Verdict:
    largest = roundings = 0.0
    for part in _parts(rule):
        beyond, rounding = evaluate(part, weights)
        violation = np.maximum(beyond, 0.0)  # NaN stays NaN
        shares = np.where(violation == 0.0, 0.0, violation / rounding)
        largest = float(np.maximum(largest, violation.max(initial=0.0)))
        roundings = float(np.maximum(roundings, shares.max(initial=0.0)))
    return Verdict(rule.name, rule.equations, largest, roundings, most_roundings(weights), rule.sense)


def _parts(rule: Rule) -> Iterator[Rule]:
    """The rule as rules of at most MOST_AT_ONCE entries, cut along its longest axes; nonlinear rules are not cut."""
    if rule.curved or rule.equations <= 1 or rule.expression.size <= MOST_AT_ONCE:
        yield rule
        return
    axis = rule.shape.index(max(rule.shape))
    width = max(1, rule.shape[axis] * MOST_AT_ONCE // rule.expression.size)
    for first in range(0, rule.shape[axis], width):
        window = (*[slice(None)] * axis, slice(first, min(first + width, rule.shape[axis])))
        radius = rule.radius if rule.norm is None else np.broadcast_to(rule.radius, rule.shape)[window]
        yield from _parts(replace(rule, expression=rule.expression[window], radius=radius))
