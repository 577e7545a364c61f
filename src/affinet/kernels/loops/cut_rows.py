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
from affinet.kernels.loops.row_roots import POLISHES, finished, first_multiplier, root

Arrays = tuple[np.ndarray, ...]
FAINT = 1e-12
"""A multiplier below this fraction of the largest of its row is rounding."""
SCRATCH = 6
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
    scratch: np.ndarray,
    threads: int,
) -> None:  # pragma: no cover - compiled
    """Move the rows of x (rows, n) in place to their nearest points, in `Σ metric dx²` where a metric is given.

    `multipliers` (rows) receives the multiplier of each
    row, and holds what the search starts at if it is `warm`. `scratch` is (threads, SCRATCH, n).
    """
    if threads > 1:
        arguments = (x, metric, a, high, cell, equation, multipliers, warm, scratch)
        share_out(some_nearest, arguments, threads, threads)
    else:
        some_nearest(x, metric, a, high, cell, equation, multipliers, warm, scratch, 0, 1)


@compiled
def landed_rows(
    weights: Arrays,
    pushes: Arrays,
    face: Arrays,
    landed: Arrays,
    a: np.ndarray | None,
    high: np.ndarray | None,
    cell: Arrays,
    equation: bool,
    reach: float,
    u: float,
    scratch: np.ndarray,
    threads: int,
) -> None:  # pragma: no cover
    """The landing of the normal map (`blocks/normal_map.py`) for every row that moved by a finite step.

    `weights` are the stepped weights and those before (rows, n), `pushes` are y (rows, n) and the force (rows), `face`
    marks entries at lower and at upper bounds (rows, n) and active inequalities (rows). Writes the weights, the new y
    and the three arrays of the new face to `landed`. Rows that did not move, or not by a finite step, are copied: the
    force of such rows becomes −1.
    """
    if threads > 1:
        share_out(
            some_landed, (weights, pushes, face, landed, a, high, cell, equation, reach, u, scratch), threads, threads
        )
    else:
        some_landed(weights, pushes, face, landed, a, high, cell, equation, reach, u, scratch, 0, 1)


@compiled
def learned_rows(
    g: np.ndarray,
    y: np.ndarray,
    face: Arrays,
    a: np.ndarray | None,
    equation: bool,
    averaging: float,
    quiet: float,
    learned: Arrays,
    threads: int,
) -> None:  # pragma: no cover
    """Writes what the normal map learns from g (rows, n) to the three arrays of `learned`.

    The first becomes the average of y with what g loses, the second the part of g along the face, and the third the
    force: the larger norm (rows) of g and of the average. In rows where g is not finite, the average is y. Parts of g
    become zero if they are noise, by the fraction `quiet`, relative to g and its root mean square in the row.
    """
    if threads > 1:
        arguments = (g, y, face, a, equation, averaging, quiet, learned)
        share_out(some_learned, arguments, len(g), threads)
    else:
        some_learned(g, y, face, a, equation, averaging, quiet, learned, 0, len(g))


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
def some_landed(
    weights: Arrays,
    pushes: Arrays,
    face: Arrays,
    landed: Arrays,
    a: np.ndarray | None,
    high: np.ndarray | None,
    cell: Arrays,
    equation: bool,
    reach: float,
    u: float,
    scratch: np.ndarray,
    first: int,
    last: int,
) -> None:  # pragma: no cover
    """Parts `first..last` of the rows, in as many parts as there is scratch."""
    (stepped, before), (y, force), (at_low, at_high, at_row) = weights, pushes, face
    w, normal, new_low, new_high, new_row = landed
    rhs, low = cell
    parts = len(scratch)
    for part in range(first, last):
        z, v, below, above = scratch[part, 0], scratch[part, 1], scratch[part, 2], scratch[part, 3]
        solution, spare = scratch[part, 4], scratch[part, 5]
        for row in range(len(w) * part // parts, len(w) * (part + 1) // parts):
            step = distance(stepped[row], before[row])
            if not 0.0 < step < inf:
                force[row] = -1.0
                w[row], normal[row], new_row[row] = stepped[row], y[row], at_row[row]
                new_low[row], new_high[row] = at_low[row], at_high[row]
                continue
            felt, at_target = force[row] > 0.0, equation or at_row[row]
            tau = reach * step / force[row] if felt else 1.0
            lowest, target = low[min(row, len(low) - 1)], rhs[min(row, len(rhs) - 1)]
            highest = None if high is None else high[min(row, len(high) - 1)]
            weight = None if a is None else a[min(row, len(a) - 1)]
            below_face, above_face = at_low[row], at_high[row]
            onto_face(stepped[row], below_face, above_face, at_target, weight, target, lowest, highest, z)
            room = 0.0 if at_target else left_room(z, weight, target, u) / tau
            t = narrowed(z, y[row], below_face, above_face, weight, lowest, highest, tau, u, v, below, above)
            t = t if equation else max(t, 0.0) if at_target else 0.0
            roof = None if high is None else above
            t = root(v, below, roof, weight, weight, room, equation, t)
            t = finished(v, below, roof, weight, weight, room, equation, t, solution)
            on_row = equation or t > 0.0
            moved_to(z, solution, below, roof, weight, target, lowest, highest, tau, on_row, w[row], spare)
            marks = new_low[row], new_high[row]
            new_row[row] = marked(v, solution, below, roof, weight, t, felt, normal[row], marks[0], marks[1])


@compiled
def some_learned(
    g: np.ndarray,
    y: np.ndarray,
    face: Arrays,
    a: np.ndarray | None,
    equation: bool,
    averaging: float,
    quiet: float,
    learned: Arrays,
    first: int,
    last: int,
) -> None:  # pragma: no cover
    """Rows `first..last`."""
    at_low, at_high, at_row = face
    pending, projected, force = learned
    for row in range(first, last):
        coefficients = None if a is None else a[min(row, len(a) - 1)]
        share, norm = 0.0, length(g[row])
        if equation or at_row[row]:
            share = share_along(g[row], at_low[row], at_high[row], coefficients)
        weight = averaging if norm < inf else 0.0
        averaged(g[row], y[row], at_low[row], at_high[row], coefficients, share, weight, projected[row], pending[row])
        silence(g[row], quiet, norm, projected[row])
        known = length(pending[row])
        force[row] = max(norm, known) if norm < inf else known


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
def share_along(
    g: np.ndarray, at_low: np.ndarray, at_high: np.ndarray, a: np.ndarray | None
) -> float:  # pragma: no cover
    """`a·g / a·a` over the entries at no bound; 0 without such entries."""
    total, squares = 0.0, 0.0
    for k in range(len(g)):
        free = 0.0 if at_low[k] or at_high[k] else 1.0
        weight = free if a is None else free * a[k]
        total += weight * np.float64(g[k])
        squares += weight * weight
    return total / squares if squares > 0.0 else 0.0


@compiled
def averaged(
    g: np.ndarray,
    y: np.ndarray,
    at_low: np.ndarray,
    at_high: np.ndarray,
    a: np.ndarray | None,
    share: float,
    averaging: float,
    projected: np.ndarray,
    pending: np.ndarray,
) -> None:  # pragma: no cover
    """`projected = P g`, and `pending = y + averaging · (P g − g − y)`."""
    for k in range(len(g)):
        weight = 1.0 if a is None else a[k]
        entry, known = np.float64(g[k]), np.float64(y[k])
        part = 0.0 if at_low[k] or at_high[k] else entry - share * weight
        projected[k] = part
        pending[k] = known + averaging * (part - entry - known) if averaging > 0.0 else known


@compiled
def silence(g: np.ndarray, quiet: float, norm: float, projected: np.ndarray) -> None:  # pragma: no cover
    """Numbers of `projected` become zero that are noise relative to g, of that norm."""
    level = quiet * norm / sqrt(max(1, len(g)))
    for k in range(len(g)):
        projected[k] = 0.0 if abs(projected[k]) <= quiet * abs(g[k]) + level else projected[k]


@summing
def onto_face(
    x: np.ndarray,
    at_low: np.ndarray,
    at_high: np.ndarray,
    at_target: bool,
    a: np.ndarray | None,
    target: float,
    low: np.ndarray,
    high: np.ndarray | None,
    z: np.ndarray,
) -> None:  # pragma: no cover
    """`z` becomes the nearest point to x on the face: entries at their bounds, and the others moved onto the row."""
    total, squares = 0.0, 0.0
    for k in range(len(x)):
        free = 0.0 if at_low[k] or at_high[k] else 1.0
        value = low[k] if at_low[k] else np.float64(x[k])
        if high is not None:
            value = high[k] if at_high[k] else value
        z[k] = value
        weight = 1.0 if a is None else a[k]
        total += weight * value
        squares += free * weight * weight
    if not at_target or squares <= 0.0:
        return
    for _ in range(POLISHES):
        share, total = (total - target) / squares, 0.0
        for k in range(len(x)):
            free = 0.0 if at_low[k] or at_high[k] else 1.0
            weight = 1.0 if a is None else a[k]
            z[k] -= free * weight * share
            total += weight * z[k]


@summing
def left_room(z: np.ndarray, a: np.ndarray | None, target: float, u: float) -> float:  # pragma: no cover
    """`target − a·z`, exactly zero where it is rounding."""
    total, terms = 0.0, abs(target)
    for k in range(len(z)):
        term = z[k] if a is None else a[k] * z[k]
        total += term
        terms += abs(term)
    room = target - total
    return 0.0 if abs(room) <= u * terms else room


@summing
def narrowed(
    z: np.ndarray,
    y: np.ndarray,
    at_low: np.ndarray,
    at_high: np.ndarray,
    a: np.ndarray | None,
    low: np.ndarray,
    high: np.ndarray | None,
    tau: float,
    u: float,
    v: np.ndarray,
    below: np.ndarray,
    above: np.ndarray,
) -> float:  # pragma: no cover
    """`v` becomes y, and `below` and `above` the slacks to the bounds by tau. Returns the multiplier of the face.

    Slacks are exactly zero at the bounds of the face and where they are rounding.
    """
    total, squares = 0.0, 0.0
    for k in range(len(z)):
        v[k] = np.float64(y[k])
        slack = low[k] - z[k]
        below[k] = 0.0 if at_low[k] or abs(slack) < u * (abs(z[k]) + abs(low[k])) else slack / tau
        if high is not None:
            slack = high[k] - z[k]
            above[k] = 0.0 if at_high[k] or abs(slack) < u * (abs(z[k]) + abs(high[k])) else slack / tau
        free = 0.0 if at_low[k] or at_high[k] else 1.0
        weight = free if a is None else free * a[k]
        total += weight * v[k]
        squares += weight * weight
    return total / squares if squares > 0.0 else 0.0


@compiled
def moved_to(
    z: np.ndarray,
    x: np.ndarray,
    below: np.ndarray,
    above: np.ndarray | None,
    a: np.ndarray | None,
    target: float,
    low: np.ndarray,
    high: np.ndarray | None,
    tau: float,
    on_row: bool,
    w: np.ndarray,
    landed: np.ndarray,
) -> None:  # pragma: no cover
    """`w` becomes `z + tau x`: exactly the bound where x is at it, and moved onto an active row once more."""
    total, squares = carried(z, x, below, above, a, low, high, tau, landed)
    share = (total - target) / squares if on_row and squares > 0.0 else 0.0
    for k in range(len(z)):
        weight = 1.0 if a is None else a[k]
        free = x[k] > below[k]
        if above is not None:
            free = free and x[k] < above[k]
        value = landed[k] - (share * weight if free else 0.0)
        value = value if value > low[k] else low[k]
        if high is not None:
            value = value if value < high[k] else high[k]
        w[k] = value


@summing
def carried(
    z: np.ndarray,
    x: np.ndarray,
    below: np.ndarray,
    above: np.ndarray | None,
    a: np.ndarray | None,
    low: np.ndarray,
    high: np.ndarray | None,
    tau: float,
    landed: np.ndarray,
) -> tuple[float, float]:  # pragma: no cover
    """`landed = z + tau x`, exactly the bound where x is at it. Returns `a·landed`, and `a·a` over the others."""
    total, squares = 0.0, 0.0
    for k in range(len(z)):
        weight = 1.0 if a is None else a[k]
        value = z[k] + tau * x[k]
        free = 1.0
        if x[k] <= below[k]:
            value, free = low[k], 0.0
        if above is not None and high is not None and x[k] >= above[k]:
            value, free = high[k], 0.0
        landed[k] = value
        total += weight * value
        squares += free * weight * weight
    return total, squares


@compiled
def marked(
    v: np.ndarray,
    x: np.ndarray,
    below: np.ndarray,
    above: np.ndarray | None,
    a: np.ndarray | None,
    t: float,
    felt: bool,
    normal: np.ndarray,
    new_low: np.ndarray,
    new_high: np.ndarray,
) -> bool:  # pragma: no cover
    """`normal` becomes `v − x`, from the multiplier t of the row where an entry is free; then the face of x.

    Returns whether the row has a multiplier of an inequality that is more than rounding. Without any force, nothing is
    known of multipliers.
    """
    largest, row = 0.0, 0.0
    for k in range(len(v)):
        of_row = t if a is None else t * a[k]
        pull = v[k] - x[k] - of_row
        at_low, at_high = x[k] <= below[k], False
        if above is not None:
            at_high = x[k] >= above[k]
        push = max(-pull if at_low else 0.0, pull if at_high else 0.0)
        row = max(row, abs(of_row))
        largest = max(largest, push)
    faint = FAINT * max(largest, row)
    for k in range(len(v)):
        of_row = t if a is None else t * a[k]
        force = v[k] - x[k]
        pull = force - of_row
        at_low, at_high = x[k] <= below[k], False
        if above is not None:
            at_high = x[k] >= above[k]
        normal[k] = 0.0 if not felt else force if at_low or at_high else of_row
        new_low[k] = at_low and -pull > faint
        new_high[k] = at_high and pull > faint
    return t > 0.0 and row > faint
