"""Evaluate the equations and inequalities of a rule at given weights, and the size of their rounding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from affinet.language.calculus.restricting import restrict
from affinet.language.calculus.terms import Floats, Integers, Term, lower
from affinet.language.evaluation import evaluate as language_value
from affinet.language.nodes import weights_of
from affinet.language.sense import lengths
from affinet.planning.curved.linearizing import sizes_and_reach
from affinet.system.layout import Layout
from affinet.system.magnitudes import finite_bounds
from affinet.system.system import Rule, System
from affinet.system.tolerance import Tolerance

MOST_PAIRS = 2**21
"""(Equation, entry) pairs that are written out at once: some 200 MB."""

ROUNDINGS, COARSE_ROUNDINGS = 16.0, 2.0
"""A rule holds up to this many roundings of float32 and float64, or of 16 bits.

Projections compute in float32 or better and stay within 8 of its roundings, within 16 where they iterate; weights of 16
bits are rounded once after that.
"""

COARSE = 1e-5
"""Dtypes whose spacing at 1 is larger than this are coarser than what projections compute in."""


@dataclass(frozen=True)
class Rounding:
    """The spacing of a dtype at 1, and its smallest positive number."""

    spacing: float
    tiny: float


class Numbers(Protocol):
    """What is read of the numbers of a weight; they may be kept in another form than an array of NumPy."""

    @property
    def size(self) -> int: ...

    def __getitem__(self, key: Any, /) -> NDArray[Any]: ...

    def __array__(self) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Weight:
    """The numbers of one parameter, laid end to end, and how its dtype rounds."""

    numbers: NDArray[Any] | Numbers
    rounding: Rounding


def evaluate(rule: Rule, weights: Mapping[str, Weight]) -> tuple[Floats, Floats]:
    """How far each equation or inequality of a rule is beyond its bound, and one rounding of everything in it.

    Of the rule's shape: `|value|` for equations, `value` for `<=`, `-value` for `>=`, the norm minus the radius for a
    ball. An inequality that is negative here has that much slack; one without a bound has infinite slack. Rounding is
    `ε (Σ|a_j w_j| + |b|)`, with ε the spacing of the dtype of each weight, and for b the coarsest of them.
    """
    value, rounding = _expression_values(rule, weights)
    if rule.norm is None:
        return {"==": np.abs(value), "<=": value, ">=": -value}[rule.sense], rounding
    radius = np.broadcast_to(np.asarray(rule.radius, np.float64), rule.shape)
    # The norm changes by at most the norm of the changes, those of matrices by their Euclidean norm.
    change = lengths(rounding, 1 if rule.norm == 1 else 2)
    return lengths(value, rule.norm) - radius, change + coarsest_spacing(weights) * radius


def at_bound(rule: Rule, weights: Mapping[str, Weight]) -> np.ndarray:
    """Which inequalities of a rule hold with equality up to rounding of the weights, in the rule's shape.

    A bound of a single entry is written to the weight as it is, so that one rounding decides.
    """
    beyond, rounding = evaluate(rule, weights)
    single = rule.norm is None and rule.pairs <= rule.equations
    return np.asarray(np.isfinite(beyond) & (-beyond <= (1.0 if single else most_roundings(weights)) * rounding))


def most_roundings(weights: Mapping[str, Weight]) -> float:
    """How many roundings a rule about these weights may be off."""
    return ROUNDINGS if coarsest_spacing(weights) < COARSE else COARSE_ROUNDINGS


def coarsest_spacing(weights: Mapping[str, Weight]) -> float:
    """The largest spacing of the dtypes of weights; that of float64 without weights."""
    return max((weight.rounding.spacing for weight in weights.values()), default=float(np.finfo(np.float64).eps))


def _expression_values(rule: Rule, weights: Mapping[str, Weight]) -> tuple[Floats, Floats]:
    """The value of the rule's expression in every entry, and the effect of one rounding there."""
    if rule.curved:
        return _curved_values(rule, weights)
    shape = rule.expression.shape
    value = np.array(np.broadcast_to(rule.expression.constant, shape), np.float64)
    bounded = np.broadcast_to(finite_bounds(rule.expression.constant, rule.sense), shape)
    rounding = coarsest_spacing(weights) * np.abs(bounded)
    for term in rule.expression.terms:
        values, value_roundings = _term_values(term, shape, weights[term.parameter.name])
        value += values
        rounding += value_roundings
    return value, rounding


def _curved_values(rule: Rule, weights: Mapping[str, Weight]) -> tuple[Floats, Floats]:
    """The value of a nonlinear rule, and `ε Σ|∂c/∂w_j||w_j|` and the rounding of its own terms."""
    system = System((), Layout.of(weights_of([rule.expression.affine])), Tolerance(), curved=(rule,))
    parameters = system.layout.parameters
    numbers = {p.name: np.asarray(weights[p.name].numbers, np.float64).reshape(p.shape) for p in parameters}
    spacings = [weights[p.name].rounding.spacing * np.abs(numbers[p.name]).ravel() for p in parameters]
    tiny = [np.full(p.size, weights[p.name].rounding.tiny) for p in parameters]
    spacing = np.concatenate(spacings) + np.concatenate(tiny)
    sizes, rounding = sizes_and_reach(system, [0], numbers, spacing)
    with np.errstate(all="ignore"):
        value = language_value(rule.expression, numbers)
    return value, (rounding + coarsest_spacing(weights) * sizes).reshape(rule.shape)


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
