"""Projects rows of numbers between bounds onto one equation or inequality per row, as `blocks/cut_boxes.py` does.

A row is the work of one thread, in float64, so that results have the same bits on any number of threads. A `cell` is a
right-hand side (rows or 1) and lower bounds; coefficients `a`, lower and upper bounds are (rows or 1, n). Where all
coefficients are one, `a` is None, and where no upper bound is finite, `high` is None: numba leaves their branches out.
"""

# mypy: disable-error-code="untyped-decorator,misc,no-untyped-call,arg-type"
from __future__ import annotations

from math import inf, sqrt

import numpy as np

from affinet.kernels.loops.jit import compiled, summing
from affinet.kernels.loops.openmp import share_out
from affinet.kernels.loops.row_roots import finished, first_multiplier, root

Arrays = tuple[np.ndarray, ...]
SCRATCH = 3
"""Rows of float64 numbers that one thread works in."""


@compiled
def nearest_rows(
    x: np.ndarray,
    metric: np.ndarray | None,
    a: np.ndarray | None,
    high: np.ndarray | None,
    cell: Arrays,
    equation: bool,
    multipliers: np.ndarray,
    warm: bool,
    within: float,
    scratch: np.ndarray,
    threads: int,
) -> None:  # pragma: no cover - compiled
    """Move the rows of x (rows, n) in place to their nearest points, in `Σ metric dx²` where a metric is given.

    `multipliers` (rows) receives the multiplier of each row, and holds what the search starts at if it is `warm`. A row
    that holds to `within` times the size of its terms, if its entries are moved between their bounds, is left so; none
    is if `within` is negative. `scratch` is (threads, SCRATCH, n).
    """
    if threads > 1:
        arguments = (x, metric, a, high, cell, equation, multipliers, warm, within, scratch)
        share_out(some_nearest, arguments, threads, threads)
    else:
        some_nearest(x, metric, a, high, cell, equation, multipliers, warm, within, scratch, 0, 1)


@compiled
def learned_rows(
    g: np.ndarray,
    y: np.ndarray,
    face: Arrays,
    a: np.ndarray | None,
    high: np.ndarray | None,
    equation: bool,
    averaging: float,
    quiet: float,
    learned: Arrays,
    threads: int,
) -> None:  # pragma: no cover
    """Writes what the normal map learns from g (rows, n) to g and to the two arrays of `learned`.

    g becomes its part along the face. The first array becomes the average of y with what g loses, and the second the
    force: the larger norm (rows) of g and of the average. In rows where g is not finite, the average is y. Parts of g
    become zero if they are noise, by the fraction `quiet`, relative to g and its root mean square in the row.

    To write to g itself is quick: of two arrays that may overlap, compiled code takes one number at a time.
    """
    if threads > 1:
        arguments = (g, y, face, a, high, equation, averaging, quiet, learned)
        share_out(some_learned, arguments, len(g), threads)
    else:
        some_learned(g, y, face, a, high, equation, averaging, quiet, learned, 0, len(g))


@compiled
def some_nearest(
    x: np.ndarray,
    metric: np.ndarray | None,
    a: np.ndarray | None,
    high: np.ndarray | None,
    cell: Arrays,
    equation: bool,
    multipliers: np.ndarray,
    warm: bool,
    within: float,
    scratch: np.ndarray,
    first: int,
    last: int,
) -> None:  # pragma: no cover
    """Parts `first..last` of the rows, in as many parts as there is scratch."""
    rhs, low = cell
    parts, n = len(scratch), x.shape[1]
    for part in range(first, last):
        v, solution, weights = scratch[part, 0], scratch[part, 1], scratch[part, 2]
        for row in range(len(x) * part // parts, len(x) * (part + 1) // parts):
            below, target = low[min(row, len(low) - 1)], rhs[min(row, len(rhs) - 1)]
            above = None if high is None else high[min(row, len(high) - 1)]
            coefficients = None if a is None else a[min(row, len(a) - 1)]
            entries = x[row]
            for k in range(n):
                v[k] = entries[k]
            if within >= 0.0:
                total, terms = between(v, coefficients, below, above, solution)
                excess = total - target
                excess = abs(excess) if equation else excess
                if excess <= within * (terms + abs(target)) and terms < inf:
                    for k in range(n):
                        entries[k] = solution[k]
                    continue
            if metric is None:
                slope = coefficients
                t = multipliers[row] if warm else first_multiplier(v, coefficients, slope, target, equation)
                t = root(v, below, above, coefficients, slope, target, equation, t)
                t = finished(v, below, above, coefficients, slope, target, equation, t, solution)
            else:
                resistance = metric[row]
                for k in range(n):
                    weights[k] = (1.0 if coefficients is None else coefficients[k]) / resistance[k]
                t = multipliers[row] if warm else first_multiplier(v, coefficients, weights, target, equation)
                t = root(v, below, above, coefficients, weights, target, equation, t)
                t = finished(v, below, above, coefficients, weights, target, equation, t, solution)
            multipliers[row] = t
            for k in range(n):
                entries[k] = solution[k]


@compiled
def some_learned(
    g: np.ndarray,
    y: np.ndarray,
    face: Arrays,
    a: np.ndarray | None,
    high: np.ndarray | None,
    equation: bool,
    averaging: float,
    quiet: float,
    learned: Arrays,
    first: int,
    last: int,
) -> None:  # pragma: no cover
    """Rows `first..last`."""
    at_low, at_high, at_row = face
    pending, force = learned
    for row in range(first, last):
        coefficients = None if a is None else a[min(row, len(a) - 1)]
        norm, share = norm_and_share(g[row], at_low[row], at_high[row], coefficients, high)
        share = share if equation or at_row[row] else 0.0
        weight, level = averaging if norm < inf else 0.0, quiet * norm / sqrt(max(1, g.shape[1]))
        known = averaged(
            g[row], y[row], at_low[row], at_high[row], coefficients, high, share, weight, quiet, level, pending[row]
        )
        force[row] = max(norm, known) if norm < inf else known


@summing
def between(
    v: np.ndarray, a: np.ndarray | None, low: np.ndarray, high: np.ndarray | None, x: np.ndarray
) -> tuple[float, float]:  # pragma: no cover
    """`x` becomes v between its bounds. Returns `a·x`, and the sizes of its terms."""
    total, terms = 0.0, 0.0
    for k in range(len(v)):
        value = low[k] if v[k] < low[k] else v[k]
        if high is not None:
            value = high[k] if value > high[k] else value
        x[k] = value
        term = value if a is None else a[k] * value
        total += term
        terms += abs(term)
    return total, terms


@summing
def length(x: np.ndarray) -> float:  # pragma: no cover
    """The Euclidean norm of a row."""
    total = 0.0
    for k in range(len(x)):
        total += np.float64(x[k]) * np.float64(x[k])
    return sqrt(total)


@summing
def distance(x: np.ndarray, other: np.ndarray) -> float:  # pragma: no cover
    """The Euclidean norm of a difference."""
    total = 0.0
    for k in range(len(x)):
        step = np.float64(x[k]) - np.float64(other[k])
        total += step * step
    return sqrt(total)


@summing
def norm_and_share(
    g: np.ndarray, at_low: np.ndarray, at_high: np.ndarray, a: np.ndarray | None, high: np.ndarray | None
) -> tuple[float, float]:  # pragma: no cover
    """The Euclidean norm of g, and `a·g / a·a` over the entries at no bound; 0 without such entries."""
    norm, total, squares = 0.0, 0.0, 0.0
    for k in range(len(g)):
        entry = np.float64(g[k])
        free = 0.0 if at_low[k] else 1.0
        if high is not None:
            free = 0.0 if at_high[k] else free
        weight = free if a is None else free * a[k]
        norm += entry * entry
        total += weight * entry
        squares += weight * weight
    return sqrt(norm), total / squares if squares > 0.0 else 0.0


@summing
def averaged(
    g: np.ndarray,
    y: np.ndarray,
    at_low: np.ndarray,
    at_high: np.ndarray,
    a: np.ndarray | None,
    high: np.ndarray | None,
    share: float,
    averaging: float,
    quiet: float,
    level: float,
    pending: np.ndarray,
) -> float:  # pragma: no cover
    """`pending = y + averaging · (P g − g − y)`, and g becomes `P g` without noise. Returns the norm of `pending`.

    Noise is what is at most `quiet · |g| + level`.
    """
    total = 0.0
    for k in range(len(g)):
        weight = 1.0 if a is None else a[k]
        entry, known = np.float64(g[k]), np.float64(y[k])
        part = 0.0 if at_low[k] else entry - share * weight
        if high is not None:
            part = 0.0 if at_high[k] else part
        average = known + averaging * (part - entry - known) if averaging > 0.0 else known
        g[k] = 0.0 if abs(part) <= quiet * abs(entry) + level else part
        pending[k] = average
        total += average * average
    return sqrt(total)
