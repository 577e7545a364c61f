"""Verify weights against rules: evaluate every equation and inequality as the rules state it, without any kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affinet.errors import TooLargeError
from affinet.language.calculus.restricting import restrict
from affinet.language.calculus.terms import Floats, Integers, Term, lower
from affinet.language.evaluation import violations
from affinet.language.forecast import forecast
from affinet.language.sense import Sense
from affinet.system.system import Rule, System

MOST_PAIRS = 2**21
"""(Equation, entry) pairs that are written out at once: some 200 MB."""

MOST_COUNTED = 2**34
"""Most (equation, entry) pairs of a rule that are counted: minutes. A plan of a few bytes can state many more."""

ROUNDINGS, COARSE_ROUNDINGS = 16.0, 2.0
"""A rule holds up to this many roundings of float32 and float64, or of 16 bits.

Projections compute in float32 or better and stay within 4 of its roundings, within 16 where they iterate; weights of 16
bits are rounded once after that.
"""

COARSE = 1e-5
"""Dtypes whose spacing at 1 is larger than this are coarser than what projections compute in."""


@dataclass(frozen=True)
class Rounding:
    """The spacing of a dtype at 1, and its smallest positive number."""

    spacing: float
    tiny: float


@dataclass(frozen=True)
class Verdict:
    """How far weights are from one rule.

    `largest` is the largest violation in the units of the rule: |A w − b| for equations, what exceeds the bound for
    inequalities and balls. `roundings` is the largest violation divided by the effect of one rounding of everything in
    its equation, `ε (Σ|a_j w_j| + |b|)`, ε the spacing of the weights' dtypes; the rule holds where that is at most
    `bound`. For a ball the effect is the norm of those in its vector, and ε times its radius.
    """

    name: str
    equations: int
    largest: float
    roundings: float
    bound: float
    sense: Sense = "=="

    @property
    def holds(self) -> bool:
        """Whether the violation is within rounding; False for NaN."""
        return self.roundings <= self.bound


@dataclass(frozen=True)
class Weight:
    """The numbers of one parameter, laid end to end, and how its dtype rounds."""

    numbers: NDArray[Any]
    rounding: Rounding


def verify(system: System, weights: Callable[[frozenset[str]], Mapping[str, Weight]]) -> Iterator[Verdict]:
    """A verdict on each rule, in the order of the rules; `weights` is called with the names in one rule at a time.

    Raises TooLargeError for a rule of more equations or pairs than can be counted.
    """
    for rule in system.rules:
        _check_size(rule)
        names = frozenset(term.parameter.name for term in rule.expression.terms)
        with np.errstate(all="ignore"):
            yield _verdict(rule, weights(names))


def _check_size(rule: Rule) -> None:
    forecast(f'rule "{rule.name}" of {rule.equations:,} equations, checked against weights,', 4 * rule.expression.size)
    if (pairs := sum(term.count for term in rule.expression.terms)) > MOST_COUNTED:
        subject = f'rule "{rule.name}" of {pairs:,} pairs of an equation and an entry'
        raise TooLargeError(subject, 24 * pairs, 24 * MOST_COUNTED, "Split the rule into parts.")


def _verdict(rule: Rule, weights: Mapping[str, Weight]) -> Verdict:
    shape = rule.expression.shape
    gap = np.array(np.broadcast_to(rule.expression.constant, shape), np.float64)
    coarsest = max((weight.rounding.spacing for weight in weights.values()), default=float(np.finfo(np.float64).eps))
    rounding = coarsest * np.abs(gap)
    for term in rule.expression.terms:
        values, value_roundings = _term_values(term, shape, weights[term.parameter.name])
        gap += values
        rounding += value_roundings
    gap = violations(gap, rule.sense, rule.norm, rule.radius)
    if rule.norm is not None:
        rounding = np.linalg.norm(rounding, rule.norm, axis=-1) + coarsest * np.asarray(rule.radius)
    shares = np.where(gap == 0.0, 0.0, gap / rounding)
    bound = ROUNDINGS if coarsest < COARSE else COARSE_ROUNDINGS
    largest, roundings = float(gap.max(initial=0.0)), float(shares.max(initial=0.0))
    return Verdict(rule.name, rule.equations, largest, roundings, bound, rule.sense)


def _term_values(term: Term, shape: tuple[int, ...], weight: Weight) -> tuple[Floats, Floats]:
    """The values that a term adds to each equation, and the size of their rounding; broadcast axes have size 1."""
    term_shape = tuple(1 if start is None else n for start, n in zip(term.start, shape, strict=True))
    values, roundings = np.zeros((2, int(np.prod(term_shape, dtype=np.int64))))
    for piece in _pieces(term):
        rows, entries, coefficients = lower(piece, term_shape)
        if not len(rows):
            continue
        if (np.diff(rows) < 0).any():
            order = np.argsort(rows, kind="stable")
            rows, entries, coefficients = rows[order], entries[order], coefficients[order]
        numbers = weight.numbers[entries].astype(np.float64)
        rounding = np.abs(coefficients) * (weight.rounding.spacing * np.abs(numbers) + weight.rounding.tiny)
        _add_up(values, rows, coefficients * numbers)
        _add_up(roundings, rows, rounding)
    return values.reshape(term_shape), roundings.reshape(term_shape)


def _add_up(total: Floats, rows: Integers, values: Floats) -> None:
    """Add values to their rows, which are sorted; NumPy sums the runs in pairs, so that long ones keep their digits."""
    first = np.flatnonzero(np.diff(rows, prepend=rows[0] - 1))
    total[rows[first]] += np.add.reduceat(values, first)


def _pieces(term: Term) -> Iterator[Term]:
    """The term in parts of at most MOST_PAIRS pairs, cut along its longest loops."""
    if term.count <= MOST_PAIRS:
        yield term
        return
    sizes = [variable.size for variable in term.variables]
    longest = sizes.index(max(sizes))
    width = max(1, sizes[longest] * MOST_PAIRS // term.count)
    for first in range(0, sizes[longest], width):
        yield from _pieces(restrict(term, longest, range(first, min(first + width, sizes[longest]))))
