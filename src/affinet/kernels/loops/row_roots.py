"""Solves a row: the nearest numbers between bounds that satisfy one equation or inequality, and its multiplier.

The search is that of `blocks/cut_boxes.py`. Where all coefficients are one, `a` is None, and where no upper bound is
finite, `high` is None: numba leaves their branches out. `slope` is `a / metric`; it is `a` itself without a metric.
"""

# mypy: disable-error-code="untyped-decorator,misc,no-untyped-call,arg-type"
from __future__ import annotations

from math import inf, sqrt

import numpy as np

from affinet.kernels.loops.jit import compiled, summing

MOST = 200
"""Steps of the search for a multiplier: each fourth halves the bracket."""
POLISHES = 2
"""Times that free entries move onto the row after the search."""
EPS = 2.0**-52


@summing
def first_multiplier(
    v: np.ndarray, a: np.ndarray | None, slope: np.ndarray | None, rhs: float, equation: bool
) -> float:  # pragma: no cover
    """The multiplier with which the row holds if no entry is at a bound."""
    total, squares = 0.0, 0.0
    for k in range(len(v)):
        weight = 1.0 if a is None else a[k]
        total += weight * v[k]
        squares += weight * (1.0 if slope is None else slope[k])
    t = (total - rhs) / squares
    return t if equation else max(t, 0.0)


@summing
def measured(
    v: np.ndarray, low: np.ndarray, high: np.ndarray | None, a: np.ndarray | None, slope: np.ndarray | None, t: float
) -> tuple[float, float, float]:  # pragma: no cover
    """Of `x = clip(v − t slope)`: `a·x`, the sum of `a slope` over the free entries, and the size of what rounds."""
    total, squares, terms = 0.0, 0.0, 0.0
    for k in range(len(v)):
        rate = 1.0 if slope is None else slope[k]
        weight = 1.0 if a is None else a[k]
        moved = v[k] - t * rate
        free = 1.0 if moved > low[k] else 0.0
        x = moved if moved > low[k] else low[k]
        if high is not None:
            free = free if moved < high[k] else 0.0
            x = x if x < high[k] else high[k]
        total += weight * x
        squares += free * weight * rate
        terms += abs(weight) * (abs(x) + free * (abs(v[k]) + abs(t * rate)))
    return total, squares, terms


@compiled
def root(
    v: np.ndarray,
    low: np.ndarray,
    high: np.ndarray | None,
    a: np.ndarray | None,
    slope: np.ndarray | None,
    rhs: float,
    equation: bool,
    t: float,
) -> float:  # pragma: no cover
    """The t at which `a · clip(v − t slope) = rhs`; at least 0 for an inequality, whose row may then be below `rhs`."""
    left, right, rounding = -inf, inf, EPS * (4.0 + sqrt(len(v)))
    for number in range(MOST):
        total, squares, terms = measured(v, low, high, a, slope, t)
        gap = total - rhs
        if not abs(gap) > rounding * (terms + abs(rhs)) or (not equation and t <= 0.0 and gap <= 0.0):
            break
        if gap > 0.0:
            left = t
        else:
            right = t
        proposed = t + gap / squares if squares > 0.0 else off_plateau(v, low, high, a, slope, t, gap)
        if not equation and left < 0.0:
            proposed = max(proposed, 0.0)
        bracketed = left > -inf and right < inf
        if not left < proposed < right or (bracketed and number % 4 == 3):
            proposed = 0.5 * left + 0.5 * right if bracketed else t
        if proposed == t:
            break
        t = proposed
    return t


@compiled
def off_plateau(
    v: np.ndarray,
    low: np.ndarray,
    high: np.ndarray | None,
    a: np.ndarray | None,
    slope: np.ndarray | None,
    t: float,
    gap: float,
) -> float:  # pragma: no cover
    """Where every entry is at a bound: the t at which the first one that comes off it has closed the gap."""
    onward = inf if gap > 0.0 else -inf
    for k in range(len(v)):
        rate = 1.0 if slope is None else slope[k]
        weight = rate * (1.0 if a is None else a[k])
        if rate == 0.0:
            continue
        at_high = False if high is None else v[k] - t * rate >= high[k]
        bound = low[k]
        if high is not None and at_high:
            bound = high[k]
        if (gap > 0.0) == (at_high == (rate > 0.0)):
            reached = (v[k] - bound) / rate + gap / weight
            onward = min(onward, reached) if gap > 0.0 else max(onward, reached)
    return onward if abs(onward) < inf else t


@compiled
def finished(
    v: np.ndarray,
    low: np.ndarray,
    high: np.ndarray | None,
    a: np.ndarray | None,
    slope: np.ndarray | None,
    rhs: float,
    equation: bool,
    t: float,
    x: np.ndarray,
) -> float:  # pragma: no cover
    """`x` becomes the nearest point, its free entries moved onto the row. Returns the multiplier of the row.

    At a vertex, that is the middle of the multipliers that leave all others positive.
    """
    gap, squares = polished(v, low, high, a, slope, t, x)
    if not equation and t <= 0.0:
        return 0.0
    if not squares > 0.0:
        vertex: float = middle(v, low, high, slope, t, equation)
        return vertex
    for _ in range(POLISHES):
        step = (gap - rhs) / squares
        t += step
        gap = shifted(low, high, a, slope, step, x)
    return t if equation else max(t, 0.0)


@summing
def polished(
    v: np.ndarray,
    low: np.ndarray,
    high: np.ndarray | None,
    a: np.ndarray | None,
    slope: np.ndarray | None,
    t: float,
    x: np.ndarray,
) -> tuple[float, float]:  # pragma: no cover
    """`x = clip(v − t slope)`. Returns `a·x`, and the sum of `a slope` over the free entries."""
    total, squares = 0.0, 0.0
    for k in range(len(v)):
        rate = 1.0 if slope is None else slope[k]
        weight = 1.0 if a is None else a[k]
        moved = v[k] - t * rate
        free = 1.0 if moved > low[k] else 0.0
        value = moved if moved > low[k] else low[k]
        if high is not None:
            free = free if moved < high[k] else 0.0
            value = value if value < high[k] else high[k]
        x[k] = value
        total += weight * value
        squares += free * weight * rate
    return total, squares


@summing
def shifted(
    low: np.ndarray, high: np.ndarray | None, a: np.ndarray | None, slope: np.ndarray | None, step: float, x: np.ndarray
) -> float:  # pragma: no cover
    """`x −= step slope` for the entries of x between their bounds. Returns the new `a·x`."""
    total = 0.0
    for k in range(len(x)):
        rate = 1.0 if slope is None else slope[k]
        weight = 1.0 if a is None else a[k]
        moved = x[k] - step * rate
        value = moved if x[k] > low[k] else x[k]
        value = value if value > low[k] else low[k]
        if high is not None:
            value = value if x[k] < high[k] else x[k]
            value = value if value < high[k] else high[k]
        x[k] = value
        total += weight * value
    return total


@compiled
def middle(
    v: np.ndarray, low: np.ndarray, high: np.ndarray | None, slope: np.ndarray | None, t: float, equation: bool
) -> float:  # pragma: no cover
    """At a vertex, the middle of the multipliers of the row that leave all others positive."""
    left, right = -inf if equation else 0.0, inf
    for k in range(len(v)):
        rate = 1.0 if slope is None else slope[k]
        if rate == 0.0:
            continue
        at_high = False if high is None else v[k] - t * rate >= high[k]
        bound = low[k]
        if high is not None and at_high:
            bound = high[k]
        if at_high == (rate > 0.0):
            right = min(right, (v[k] - bound) / rate)
        else:
            left = max(left, (v[k] - bound) / rate)
    if left > -inf and right < inf:
        return 0.5 * left + 0.5 * right
    return left if left > -inf else right if right < inf else t
