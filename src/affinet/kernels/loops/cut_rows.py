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
from affinet.kernels.loops.row_roots import EPS, finished, first_multiplier, middle, polished, root

Arrays = tuple[np.ndarray, ...]
FAINT = 1e-12
"""A multiplier below this fraction of the norm of those of its row is rounding."""
LEAST_REACH = 1e-300
"""Least tau, whose reciprocal is finite."""
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
    force of such rows becomes −1. Without upper bounds, the marks of entries at them are neither read nor written.
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
    high: np.ndarray | None,
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
        for row in range(len(w) * part // parts, len(w) * (part + 1) // parts):
            lowest, target = low[min(row, len(low) - 1)], rhs[min(row, len(rhs) - 1)]
            highest = None if high is None else high[min(row, len(high) - 1)]
            weight = None if a is None else a[min(row, len(a) - 1)]
            marks = at_low[row], at_high[row]
            step, total, terms, squares, pushed = on_face(
                stepped[row], before[row], y[row], marks[0], marks[1], weight, lowest, highest
            )
            if not 0.0 < step < inf:
                force[row] = -1.0
                w[row], normal[row], new_row[row] = stepped[row], y[row], at_row[row]
                new_low[row] = at_low[row]
                if high is not None:
                    new_high[row] = at_high[row]
                continue
            sums, felt, at_target = (total, terms, squares, pushed), force[row] > 0.0, equation or at_row[row]
            tau = max(reach * step / force[row], LEAST_REACH) if felt else 1.0
            outputs = w[row], normal[row], new_low[row], new_high[row]
            new_row[row] = land_row(
                stepped[row], y[row], marks, (bool(at_target), felt, equation), sums, (tau, target, u), weight,
                lowest, highest, scratch[part], outputs,
            )  # fmt: skip


@compiled
def land_row(
    stepped: np.ndarray,
    y: np.ndarray,
    marks: Arrays,
    facts: tuple[bool, bool, bool],
    sums: tuple[float, float, float, float],
    numbers: tuple[float, float, float],
    weight: np.ndarray | None,
    low: np.ndarray,
    high: np.ndarray | None,
    scratch: np.ndarray,
    outputs: Arrays,
) -> bool:  # pragma: no cover
    """The landing of one row; returns whether its inequality has a multiplier.

    `facts`: the row is an equation or on the face; it has a force; it is an equation. `sums` are those of `on_face`.
    """
    (at_target, felt, equation), (total, terms, squares, pushed), (tau, target, u) = facts, sums, numbers
    v, below, above, x, arrived, z = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4], scratch[5]
    share = (total - target) / squares if at_target and squares > 0.0 else 0.0
    room = 0.0 if at_target else target - total
    room = 0.0 if abs(room) <= u * (terms + abs(target)) else room / tau
    t = pushed / squares if squares > 0.0 else 0.0
    t = t if equation else max(t, 0.0) if at_target else 0.0
    total, squares, terms, push, sum_of_w = displaced(
        stepped, y, marks[0], marks[1], weight, low, high, share, tau, u, t, below, above, x, arrived
    )
    gap, roof = total - room, None if high is None else above
    rounding = EPS * (4.0 + sqrt(len(x))) * (terms + abs(room))
    if abs(gap) > rounding and (equation or t > 0.0 or gap > 0.0):
        for k in range(len(v)):
            v[k] = y[k]
        t = root(v, below, roof, weight, weight, room, equation, t)
        total, squares = polished(v, below, roof, weight, weight, t, x)
        faced(stepped, marks[0], marks[1], weight, low, high, share, z)
        sum_of_w = carried(z, x, below, roof, weight, low, high, tau, arrived)
        push = pushed_by(v, x, weight, t)
    on_row = equation or t > 0.0
    if on_row and squares > 0.0:
        t += (total - room) / squares
        t = t if equation else max(t, 0.0)
    elif on_row:
        for k in range(len(v)):
            v[k] = y[k]
        t = middle(v, below, roof, weight, t, equation)
        push = pushed_by(v, x, weight, t)
    share = (sum_of_w - target) / squares if on_row and squares > 0.0 else 0.0
    of_row = abs(t) * (1.0 if weight is None else most_of(weight))
    faint = FAINT * max(push, of_row)
    w, normal, new_low, new_high = outputs
    carry(arrived, x, below, roof, weight, low, high, share, w)
    known = 1.0 if felt else 0.0  # without any force, nothing is known of multipliers
    mark(x, y, below, weight, t, faint, known, normal, new_low)
    if high is not None:
        mark_above(x, y, above, weight, t, faint, known, normal, new_high)
    return t > 0.0 and of_row > faint


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
    pending, projected, force = learned
    for row in range(first, last):
        coefficients = None if a is None else a[min(row, len(a) - 1)]
        norm, share = norm_and_share(g[row], at_low[row], at_high[row], coefficients, high)
        share = share if equation or at_row[row] else 0.0
        weight, level = averaging if norm < inf else 0.0, quiet * norm / sqrt(max(1, g.shape[1]))
        known = averaged(
            g[row], y[row], at_low[row], at_high[row], coefficients, high, share, weight, quiet, level,
            projected[row], pending[row],
        )  # fmt: skip
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
    projected: np.ndarray,
    pending: np.ndarray,
) -> float:  # pragma: no cover
    """`pending = y + averaging · (P g − g − y)`, and `projected = P g` without noise. Returns the norm of `pending`.

    Noise is what is at most `quiet · |g| + level`. `projected` may be g itself.
    """
    total = 0.0
    for k in range(len(g)):
        weight = 1.0 if a is None else a[k]
        entry, known = np.float64(g[k]), np.float64(y[k])
        part = 0.0 if at_low[k] else entry - share * weight
        if high is not None:
            part = 0.0 if at_high[k] else part
        average = known + averaging * (part - entry - known) if averaging > 0.0 else known
        projected[k] = 0.0 if abs(part) <= quiet * abs(entry) + level else part
        pending[k] = average
        total += average * average
    return sqrt(total)


@summing
def on_face(
    x: np.ndarray,
    before: np.ndarray,
    y: np.ndarray,
    at_low: np.ndarray,
    at_high: np.ndarray,
    a: np.ndarray | None,
    low: np.ndarray,
    high: np.ndarray | None,
) -> tuple[float, float, float, float, float]:  # pragma: no cover
    """The norm of `x − before`; `a·x` and the size of its terms; `a·a` and `a·y` over the entries at no bound.

    In the sums over all entries, those of the face are at their bounds.
    """
    norm, total, terms, squares, pushed = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(len(x)):
        value = np.float64(x[k])
        step = value - np.float64(before[k])
        free = 0.0 if at_low[k] else 1.0
        value = low[k] if at_low[k] else value
        if high is not None:
            free = 0.0 if at_high[k] else free
            value = high[k] if at_high[k] else value
        term = value if a is None else a[k] * value
        weight = free if a is None else free * a[k]
        norm += step * step
        total += term
        terms += abs(term)
        squares += weight * weight
        pushed += weight * np.float64(y[k])
    return sqrt(norm), total, terms, squares, pushed


@summing
def displaced(
    stepped: np.ndarray,
    y: np.ndarray,
    at_low: np.ndarray,
    at_high: np.ndarray,
    a: np.ndarray | None,
    low: np.ndarray,
    high: np.ndarray | None,
    share: float,
    tau: float,
    u: float,
    t: float,
    below: np.ndarray,
    above: np.ndarray,
    x: np.ndarray,
    arrived: np.ndarray,
) -> tuple[float, float, float, float, float]:  # pragma: no cover
    """For the nearest point z on the face, `below` and `above` become its slacks by tau, and `x = clip(y − t a)`.

    Slacks are exactly zero at the bounds of the face and where they are rounding. `arrived` becomes `z + tau x`,
    exactly the bound where x is at it. Returns what `measured` does for x, the norm of the multipliers of bounds, and
    `a·arrived`.
    """
    total, squares, terms, pushes, sum_of_w, rate = 0.0, 0.0, 0.0, 0.0, 0.0, 1.0 / tau
    for k in range(len(x)):
        weight = 1.0 if a is None else a[k]
        place = np.float64(stepped[k]) - share * weight
        place = low[k] if at_low[k] else place
        if high is not None:
            place = high[k] if at_high[k] else place
        slack = low[k] - place
        floor = 0.0 if at_low[k] or abs(slack) < u * (abs(place) + abs(low[k])) else slack * rate
        entry = np.float64(y[k])
        moved = entry - t * weight
        free = 1.0 if moved > floor else 0.0
        value = moved if moved > floor else floor
        landed = place + tau * value if moved > floor else low[k]
        below[k] = floor
        if high is not None:
            slack = high[k] - place
            roof = 0.0 if at_high[k] or abs(slack) < u * (abs(place) + abs(high[k])) else slack * rate
            free = free if moved < roof else 0.0
            landed = landed if value < roof else high[k]
            value = value if value < roof else roof
            above[k] = roof
        x[k] = value
        arrived[k] = landed
        pushes += (value - moved) * (value - moved)
        total += weight * value
        squares += free * weight * weight
        terms += abs(weight) * (abs(value) + free * (abs(entry) + abs(t * weight)))
        sum_of_w += weight * landed
    return total, squares, terms, sqrt(pushes), sum_of_w


@compiled
def faced(
    x: np.ndarray,
    at_low: np.ndarray,
    at_high: np.ndarray,
    a: np.ndarray | None,
    low: np.ndarray,
    high: np.ndarray | None,
    share: float,
    z: np.ndarray,
) -> None:  # pragma: no cover
    """`z` becomes the nearest point to x on the face, whose other entries move by `share` along the row."""
    for k in range(len(x)):
        place = np.float64(x[k]) - share * (1.0 if a is None else a[k])
        place = low[k] if at_low[k] else place
        if high is not None:
            place = high[k] if at_high[k] else place
        z[k] = place


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
    arrived: np.ndarray,
) -> float:  # pragma: no cover
    """`arrived` becomes `z + tau x`, exactly the bound where x is at it. Returns `a·arrived`."""
    total = 0.0
    for k in range(len(z)):
        value = z[k] + tau * x[k]
        value = low[k] if x[k] <= below[k] else value
        if above is not None and high is not None:
            value = high[k] if x[k] >= above[k] else value
        arrived[k] = value
        total += value if a is None else a[k] * value
    return total


@summing
def pushed_by(v: np.ndarray, x: np.ndarray, a: np.ndarray | None, t: float) -> float:  # pragma: no cover
    """The norm of the multipliers of bounds, `v − x − t a`."""
    total = 0.0
    for k in range(len(v)):
        push = v[k] - x[k] - (t if a is None else t * a[k])
        total += push * push
    return sqrt(total)


@compiled
def carry(
    arrived: np.ndarray,
    x: np.ndarray,
    below: np.ndarray,
    above: np.ndarray | None,
    a: np.ndarray | None,
    low: np.ndarray,
    high: np.ndarray | None,
    share: float,
    w: np.ndarray,
) -> None:  # pragma: no cover
    """`w` becomes `arrived`, moved by `share` onto an active row where x is at no bound, and between the bounds.

    A single entry at no bound is exactly what the row leaves it: `share` is computed from the same numbers.
    """
    for k in range(len(w)):
        value = arrived[k] - share * (1.0 if a is None else a[k])
        value = value if x[k] > below[k] and value > low[k] else low[k]
        if above is not None and high is not None:
            value = value if x[k] < above[k] and value < high[k] else high[k]
        w[k] = value


@compiled
def mark(
    x: np.ndarray,
    y: np.ndarray,
    below: np.ndarray,
    a: np.ndarray | None,
    t: float,
    faint: float,
    felt: float,
    normal: np.ndarray,
    new_low: np.ndarray,
) -> None:  # pragma: no cover
    """`normal` becomes `felt · (y − x)`, and marks the lower bounds with a multiplier above `faint`.

    Where x is above its lower bound, `y − x` is that of the row, from its multiplier t.
    """
    for k in range(len(x)):
        of_row = t if a is None else t * a[k]
        force = np.float64(y[k]) - x[k]
        known = of_row if x[k] > below[k] else force
        normal[k] = known * felt
        new_low[k] = (x[k] <= below[k]) & (of_row - force > faint)


@compiled
def mark_above(
    x: np.ndarray,
    y: np.ndarray,
    above: np.ndarray,
    a: np.ndarray | None,
    t: float,
    faint: float,
    felt: float,
    normal: np.ndarray,
    new_high: np.ndarray,
) -> None:  # pragma: no cover
    """As `mark`, for the entries at an upper bound."""
    for k in range(len(x)):
        of_row = t if a is None else t * a[k]
        force = np.float64(y[k]) - x[k]
        if x[k] >= above[k]:
            normal[k] = force * felt
        new_high[k] = (x[k] >= above[k]) & (force - of_row > faint)


@compiled
def most_of(a: np.ndarray) -> float:  # pragma: no cover
    """The largest absolute value."""
    most = 0.0
    for k in range(len(a)):
        most = abs(a[k]) if abs(a[k]) > most else most
    return most
