"""Warn where inequalities ask for a distance between weights that is smaller than the rounding of the weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from math import prod

import numpy as np
import torch
from torch import Tensor

from affinet.analysis.rule_values import MOST_PAIRS, coarsest_spacing, evaluate
from affinet.errors import UnresolvedGapWarning, callers_line
from affinet.kernels.torch.rounded_weights import weight_of
from affinet.language.calculus.terms import Floats, Term
from affinet.system.magnitudes import finite_bounds
from affinet.system.system import Rule, System

MOST_EVALUATED = 8 * MOST_PAIRS
"""Rules with more (inequality, entry) pairs are not looked at: this many take a few seconds."""


def warn_of_unresolved_gaps(system: System, weights: Mapping[str, Tensor]) -> None:
    """Warn (UnresolvedGapWarning) of the rule that asks for the smallest distance compared with rounding.

    Such are rules `Σ a_j w_j >= b` with `b > 0` and `b < ½ ε Σ|a_j w_j|`, as a gap of 1e-9 between numbers near 1 in
    float32: after rounding `Σ a_j w_j` may be 0, as if there was no gap. Weights of zero size count as the smallest
    normal number.
    """
    unresolved = [gap for number in system.inequality_rules for gap in _unresolved(system.rules[number], weights)]
    if unresolved:
        gap = min(unresolved, key=lambda gap: gap.gap / gap.rounding)
        warnings.warn(gap, stacklevel=callers_line())


def _unresolved(rule: Rule, weights: Mapping[str, Tensor]) -> Iterator[UnresolvedGapWarning]:
    gaps = rule.sign * np.asarray(finite_bounds(rule.expression.constant, rule.sense))
    strict = gaps > 0.0
    if rule.norm is not None or not strict.any() or not rule.equations < rule.pairs <= MOST_EVALUATED:
        return
    sizes = [_largest_size(term, weights[term.parameter.name]) for term in rule.expression.terms]
    if 2.0 * gaps[strict].min() > sum(sizes):
        return
    numbers = {term.parameter.name: weight_of(weights[term.parameter.name]) for term in rule.expression.terms}
    _, rounding = evaluate(rule, numbers)
    gaps = np.broadcast_to(gaps, rule.shape)
    rounding = (rounding - coarsest_spacing(numbers) * np.abs(gaps)) / 2.0
    lost = np.flatnonzero((gaps > 0.0) & (gaps < rounding))
    if len(lost):
        first = int(lost[np.argmin(gaps.ravel()[lost] / rounding.ravel()[lost])])
        place = tuple(int(k) for k in np.unravel_index(first, rule.shape)) if rule.shape else ()
        yield UnresolvedGapWarning(
            rule.name, place, float(gaps.ravel()[first]), float(rounding.ravel()[first]), len(lost)
        )


def _largest_size(term: Term, weight: Tensor) -> float:
    """A bound on the rounding of what a term adds to one inequality, in spacings of the dtype of the weight."""
    info, numbers = torch.finfo(weight.dtype), weight.detach()
    coefficient = abs(term.scalar) * prod(_largest(factor.values) for factor in term.factors)
    summed = prod(variable.size for variable in term.variables if not variable.outputs)
    largest = float(numbers.abs().max()) if numbers.numel() else 0.0
    return coefficient * summed * float(info.eps) * (largest + float(info.smallest_normal))


def _largest(values: Floats) -> float:
    return float(np.abs(values).max(initial=0.0))
