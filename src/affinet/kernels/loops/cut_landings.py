"""Lands rows of numbers between bounds on one equation or inequality per row, as `blocks/cut_boxes.py` does.

Its arguments are those of `cut_rows.py`. Most rows land where their face predicts: two loops over a row then find what
is left to close, and a third writes all results. Everything lies in a row of the caller's own arrays, which stays in
the innermost cache. Only a row in which an entry comes to a bound or leaves it searches for its multiplier.
"""

# mypy: disable-error-code="untyped-decorator,misc,no-untyped-call,arg-type"
from __future__ import annotations

from math import inf, sqrt

import numpy as np

from affinet.kernels.loops.jit import compiled, summing
from affinet.kernels.loops.openmp import share_out
from affinet.kernels.loops.row_roots import EPS, middle, polished, root

Arrays = tuple[np.ndarray, ...]
FAINT = 1e-12
"""A multiplier below this fraction of the norm of those of its row is rounding."""
LEAST_REACH = 1e-300
"""Least tau, whose reciprocal is finite."""
SCRATCH = 6
"""Rows of float64 numbers that one thread works in."""


@compiled
def landed_rows(
    stepped: np.ndarray,
    state: Arrays,
    face: Arrays,
    a: np.ndarray | None,
    high: np.ndarray | None,
    cell: Arrays,
    equation: bool,
    reach: float,
    u: float,
    scratch: np.ndarray,
    threads: int,
) -> None:  # pragma: no cover - compiled
    """The landing of the normal map (`blocks/normal_map.py`) for every row that moved by a finite step.

    `state` are the weights before, y (rows, n) and the force (rows); `face` marks entries at lower and at upper bounds
    (rows, n) and active inequalities (rows). All become what they are after the landing, in place. Rows that did not
    move keep them, and their force becomes −1. Rows that did not move by a finite step get the stepped weights, and the
    force −2. Without upper bounds, the marks of entries at them are neither read nor written.
    """
    if threads > 1:
        share_out(some_landed, (stepped, state, face, a, high, cell, equation, reach, u, scratch), threads, threads)
    else:
        some_landed(stepped, state, face, a, high, cell, equation, reach, u, scratch, 0, 1)


@compiled
def some_landed(
    stepped: np.ndarray,
    state: Arrays,
    face: Arrays,
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
    (w, y, force), (at_low, at_high, at_row), (rhs, low) = state, face, cell
    parts = len(scratch)
    for part in range(first, last):
        for row in range(len(w) * part // parts, len(w) * (part + 1) // parts):
            lowest, target = low[min(row, len(low) - 1)], rhs[min(row, len(rhs) - 1)]
            highest = None if high is None else high[min(row, len(high) - 1)]
            weight = None if a is None else a[min(row, len(a) - 1)]
            marks = at_low[row], at_high[row]
            step, total, terms, squares, pushed = on_face(
                stepped[row], w[row], y[row], marks[0], marks[1], weight, lowest, highest
            )
            if not 0.0 < step < inf:
                force[row] = -1.0 if step == 0.0 else -2.0
                if step != 0.0:
                    w[row] = stepped[row]
                continue
            sums, felt, at_target = (total, terms, squares, pushed), force[row] > 0.0, equation or at_row[row]
            tau = max(reach * step / force[row], LEAST_REACH) if felt else 1.0
            facts, numbers = (bool(at_target), felt, equation), (tau, target, u)
            at_row[row] = land_row(
                stepped[row], w[row], y[row], marks, facts, sums, numbers, weight, lowest, highest, scratch[part]
            )


@compiled
def land_row(
    stepped: np.ndarray,
    w: np.ndarray,
    y: np.ndarray,
    marks: Arrays,
    facts: tuple[bool, bool, bool],
    sums: tuple[float, float, float, float],
    numbers: tuple[float, float, float],
    weight: np.ndarray | None,
    low: np.ndarray,
    high: np.ndarray | None,
    scratch: np.ndarray,
) -> bool:  # pragma: no cover
    """The landing of one row; returns whether its inequality has a multiplier.

    `facts`: the row is an equation or on the face; it has a force; it is an equation. `sums` are those of `on_face`.
    """
    (at_target, felt, equation), (total, terms, squares, pushed), (tau, target, u) = facts, sums, numbers
    share = (total - target) / squares if at_target and squares > 0.0 else 0.0
    room = 0.0 if at_target else target - total
    room = 0.0 if abs(room) <= u * (terms + abs(target)) else room / tau
    t = pushed / squares if squares > 0.0 else 0.0
    t = t if equation else max(t, 0.0) if at_target else 0.0
    known = 1.0 if felt else 0.0  # without any force, nothing is known of multipliers
    size = 1.0 if weight is None else most_of(weight)
    total, squares, terms, push, sum_of_w = displaced(
        stepped, y, marks[0], marks[1], weight, low, high, share, tau, u, t
    )
    gap = total - room
    rounding = EPS * (4.0 + sqrt(len(y))) * (terms + abs(room))
    on_row = equation or t > 0.0
    searched = abs(gap) > rounding and (on_row or gap > 0.0)
    if searched or (on_row and not squares > 0.0):
        has_multiplier: bool = search_row(
            stepped, w, y, marks, facts, numbers, weight, low, high, share, room, t, searched, known, size, scratch
        )
        return has_multiplier
    multiplier = t
    if on_row:
        multiplier = t + gap / squares
        multiplier = multiplier if equation else max(multiplier, 0.0)
    second = (sum_of_w - target) / squares if on_row else 0.0
    of_row = abs(multiplier) * size
    faint = FAINT * max(push, of_row)
    settle(stepped, w, y, marks[0], marks[1], weight, low, high, (share, second), tau, u, (t, multiplier), faint, known)
    return multiplier > 0.0 and of_row > faint


@compiled
def search_row(
    stepped: np.ndarray,
    w: np.ndarray,
    y: np.ndarray,
    marks: Arrays,
    facts: tuple[bool, bool, bool],
    numbers: tuple[float, float, float],
    weight: np.ndarray | None,
    low: np.ndarray,
    high: np.ndarray | None,
    share: float,
    room: float,
    t: float,
    searched: bool,
    known: float,
    size: float,
    scratch: np.ndarray,
) -> bool:  # pragma: no cover
    """As `land_row`, where the multiplier of the row is another one than its face predicts, or the row is a vertex."""
    equation, (tau, target, u) = facts[2], numbers
    v, below, above, x, arrived, z = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4], scratch[5]
    roof = None if high is None else above
    slacken(stepped, marks[0], marks[1], weight, low, high, share, tau, u, z, below, above)
    for k in range(len(v)):
        v[k] = y[k]
    if searched:
        t = root(v, below, roof, weight, weight, room, equation, t)
    total, squares = polished(v, below, roof, weight, weight, t, x)
    sum_of_w = carried(z, x, below, roof, weight, low, high, tau, arrived)
    on_row = equation or t > 0.0
    push = pushed_by(v, x, weight, t)
    if on_row and squares > 0.0:
        t += (total - room) / squares
        t = t if equation else max(t, 0.0)
    elif on_row:
        t = middle(v, below, roof, weight, t, equation)
        push = pushed_by(v, x, weight, t)
    share = (sum_of_w - target) / squares if on_row and squares > 0.0 else 0.0
    of_row = abs(t) * size
    faint = FAINT * max(push, of_row)
    carry(arrived, x, below, roof, weight, low, high, share, w)
    mark(x, v, below, roof, weight, t, faint, known, y, marks[0], marks[1])
    return t > 0.0 and of_row > faint


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


@compiled
def less(x: float, t: float, weight: float) -> float:  # pragma: no cover
    """`x − t · weight`, with the same bits in sums, whose additions may come in any order, and elsewhere."""
    return x - t * weight


@compiled
def slack_by(bound: float, place: float, on_face: bool, u: float, rate: float) -> float:  # pragma: no cover
    """The slack of a place times a rate, exactly zero on the face and where it is rounding."""
    slack = bound - place
    return 0.0 if on_face or abs(slack) < u * (abs(place) + abs(bound)) else slack * rate


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
) -> tuple[float, float, float, float, float]:  # pragma: no cover
    """For the nearest point z on the face, and `x = clip(y − t a)` between the slacks of z by tau: sums over the row.

    Slacks are exactly zero at the bounds of the face and where they are rounding. Returns what `measured` does for x,
    the norm of the multipliers of bounds, and `a · (z + tau x)`, whose entries at a bound are exactly there.
    """
    total, squares, terms, pushes, sum_of_w, rate = 0.0, 0.0, 0.0, 0.0, 0.0, 1.0 / tau
    for k in range(len(y)):
        weight = 1.0 if a is None else a[k]
        place = less(np.float64(stepped[k]), share, weight)
        place = low[k] if at_low[k] else place
        if high is not None:
            place = high[k] if at_high[k] else place
        floor = slack_by(low[k], place, at_low[k], u, rate)
        entry = np.float64(y[k])
        moved = less(entry, t, weight)
        free = 1.0 if moved > floor else 0.0
        value = moved if moved > floor else floor
        landed = less(place, -tau, value) if moved > floor else low[k]
        if high is not None:
            roof = slack_by(high[k], place, at_high[k], u, rate)
            free = free if moved < roof else 0.0
            landed = landed if value < roof else high[k]
            value = value if value < roof else roof
        pushes += (value - moved) * (value - moved)
        total += weight * value
        squares += free * weight * weight
        terms += abs(weight) * (abs(value) + free * (abs(entry) + abs(t * weight)))
        sum_of_w += weight * landed
    return total, squares, terms, sqrt(pushes), sum_of_w


@compiled
def settle(
    stepped: np.ndarray,
    w: np.ndarray,
    y: np.ndarray,
    at_low: np.ndarray,
    at_high: np.ndarray,
    a: np.ndarray | None,
    low: np.ndarray,
    high: np.ndarray | None,
    shares: tuple[float, float],
    tau: float,
    u: float,
    multipliers: tuple[float, float],
    faint: float,
    known: float,
) -> None:  # pragma: no cover
    """Write the results of a row that `displaced` has measured: w, y and the marks of the face.

    `shares` move entries onto the face and w onto an active row. A single entry at no bound is exactly what the row
    leaves it, because its share is computed from the same numbers. `multipliers` of the row are the one that was
    measured and the one that is written.
    """
    (share, second), (t, multiplier), rate = shares, multipliers, 1.0 / tau
    for k in range(len(y)):
        weight = 1.0 if a is None else a[k]
        place = less(np.float64(stepped[k]), share, weight)
        place = low[k] if at_low[k] else place
        if high is not None:
            place = high[k] if at_high[k] else place
        floor = slack_by(low[k], place, at_low[k], u, rate)
        entry = np.float64(y[k])
        moved = less(entry, t, weight)
        value = moved if moved > floor else floor
        arrived = less(less(place, -tau, value), second, weight)
        arrived = arrived if moved > floor and arrived > low[k] else low[k]
        of_row = multiplier * weight
        force = entry - value
        normal = of_row if moved > floor else force
        if high is not None:
            roof = slack_by(high[k], place, at_high[k], u, rate)
            capped = value if value < roof else roof
            force = entry - capped
            normal = normal if value < roof else force
            arrived = arrived if value < roof and arrived < high[k] else high[k]
            at_high[k] = (value >= roof) & (force - of_row > faint)
        at_low[k] = (moved <= floor) & (of_row - force > faint)
        w[k] = arrived
        y[k] = normal * known


@compiled
def slacken(
    stepped: np.ndarray,
    at_low: np.ndarray,
    at_high: np.ndarray,
    a: np.ndarray | None,
    low: np.ndarray,
    high: np.ndarray | None,
    share: float,
    tau: float,
    u: float,
    z: np.ndarray,
    below: np.ndarray,
    above: np.ndarray,
) -> None:  # pragma: no cover
    """`z` becomes the nearest point to `stepped` on the face, and `below` and `above` its slacks by tau."""
    rate = 1.0 / tau
    for k in range(len(stepped)):
        place = less(np.float64(stepped[k]), share, 1.0 if a is None else a[k])
        place = low[k] if at_low[k] else place
        if high is not None:
            place = high[k] if at_high[k] else place
        below[k] = slack_by(low[k], place, at_low[k], u, rate)
        if high is not None:
            above[k] = slack_by(high[k], place, at_high[k], u, rate)
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
    v: np.ndarray,
    below: np.ndarray,
    above: np.ndarray | None,
    a: np.ndarray | None,
    t: float,
    faint: float,
    known: float,
    y: np.ndarray,
    at_low: np.ndarray,
    at_high: np.ndarray,
) -> None:  # pragma: no cover
    """`y` becomes `known · (v − x)`, and marks the bounds with a multiplier above `faint`.

    Where x is between its bounds, `v − x` is that of the row, from its multiplier t.
    """
    for k in range(len(x)):
        of_row = t if a is None else t * a[k]
        force = v[k] - x[k]
        normal = of_row if x[k] > below[k] else force
        at_low[k] = (x[k] <= below[k]) & (of_row - force > faint)
        if above is not None:
            normal = force if x[k] >= above[k] else normal
            at_high[k] = (x[k] >= above[k]) & (force - of_row > faint)
        y[k] = normal * known


@compiled
def most_of(a: np.ndarray) -> float:  # pragma: no cover
    """The largest absolute value."""
    most = 0.0
    for k in range(len(a)):
        most = abs(a[k]) if abs(a[k]) > most else most
    return most
