"""Verify weights against rules: evaluate every equation and inequality as the rules state it, without any kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import nan

import numpy as np

from affinet.analysis.rule_values import Weight, evaluate, most_roundings
from affinet.errors import TooLargeError
from affinet.language.forecast import forecast
from affinet.language.nodes import missing_functions, weights_of
from affinet.language.sense import Sense
from affinet.system.system import Rule, System

MOST_COUNTED = 2**34
"""Most (equation, entry) pairs of a rule that are counted: minutes. A plan of a few bytes can state many more."""


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
    forecast(f'rule "{rule.name}" of {rule.equations:,} equations, checked against weights,', 4 * rule.expression.size)
    if (pairs := sum(term.count for term in rule.expression.terms)) > MOST_COUNTED:
        subject = f'rule "{rule.name}" of {pairs:,} pairs of an equation and an entry'
        raise TooLargeError(subject, 24 * pairs, 24 * MOST_COUNTED, "Split the rule into parts.")


def _verdict(rule: Rule, weights: Mapping[str, Weight]) -> Verdict:
    beyond, rounding = evaluate(rule, weights)
    violation = np.maximum(beyond, 0.0)  # NaN stays NaN
    shares = np.where(violation == 0.0, 0.0, violation / rounding)
    largest, roundings = float(violation.max(initial=0.0)), float(shares.max(initial=0.0))
    return Verdict(rule.name, rule.equations, largest, roundings, most_roundings(weights), rule.sense)
