"""Projects rows of numbers onto ascending rows between bounds, as `blocks/pooled_cells.py` does, pool after pool.

A row is the work of one thread, in float64, so that results have the same bits on any number of threads. Gaps are
(rows or 1, n − 1), and `bounds` a lower and an upper bound, each (rows or 1). Where all gaps are zero, `gap` is None:
numba leaves its branches out.
"""

# mypy: disable-error-code="untyped-decorator,misc,no-untyped-call,arg-type"
from __future__ import annotations

from math import inf, sqrt

import numpy as np

from affinet.kernels.loops.cut_rows import distance, length
from affinet.kernels.loops.jit import compiled
from affinet.kernels.loops.openmp import share_out

Arrays = tuple[np.ndarray, ...]
FAINT = 1e-12
"""A multiplier below this fraction of the largest of its row is rounding."""
EPS = 2.0**-52
SCRATCH = 8
"""Rows of float64 numbers that one thread works in."""
Y, DROP, SOLUTION, MEAN, WEIGHT, EXTENT, Z, SPARE = range(SCRATCH)
"""What is in them: a target, drops to the next entries, the solution, and of each pool its mean, weight and extent."""


@compiled
def nearest_chains(
    x: np.ndarray,
    metric: np.ndarray | None,
    gap: np.ndarray | None,
    bounds: Arrays,
    scratch: np.ndarray,
    starts: np.ndarray,
    threads: int,
) -> None:  # pragma: no cover - compiled
    """Move the rows of x (rows, n) in place to their nearest points, in `Σ metric dx²` where a metric is given.

    `scratch` is (threads, SCRATCH, n), and `starts`
    (threads, n + 1).
    """
    if threads > 1:
        share_out(some_nearest, (x, metric, gap, bounds, scratch, starts), threads, threads)
    else:
        some_nearest(x, metric, gap, bounds, scratch, starts, 0, 1)


@compiled
def landed_chains(
    stepped: np.ndarray,
    state: Arrays,
    face: Arrays,
    gap: np.ndarray | None,
    bounds: Arrays,
    reach: float,
    u: float,
    scratch: np.ndarray,
    starts: np.ndarray,
    threads: int,
) -> None:  # pragma: no cover
    """The landing of the normal map (`blocks/normal_map.py`) for every row that moved by a finite step.

    `state` are the weights before, y (rows, n) and the force (rows); `face` marks links (rows, n − 1) and ends at their
    bounds (rows). All become what they are after the landing, in place. Rows that did not move keep them, and their
    force becomes −1. Rows that did not move by a finite step get the stepped weights, and the force −2.
    """
    if threads > 1:
        share_out(some_landed, (stepped, state, face, gap, bounds, reach, u, scratch, starts), threads, threads)
    else:
        some_landed(stepped, state, face, gap, bounds, reach, u, scratch, starts, 0, 1)


@compiled
def learned_chains(
    g: np.ndarray,
    y: np.ndarray,
    face: Arrays,
    averaging: float,
    quiet: float,
    learned: Arrays,
    threads: int,
) -> None:  # pragma: no cover
    """Writes what the normal map learns from g (rows, n) to g and to the two arrays of `learned`.

    g becomes its part along the face. The first array becomes the average of y with what g loses, and the second the
    force: the larger norm (rows) of g and of the average. In rows where g is not finite, the average is y. Parts of g
    become zero if they are noise, by the fraction `quiet`, relative to g and its root mean square in the row.
    """
    if threads > 1:
        arguments = (g, y, face, averaging, quiet, learned)
        share_out(some_learned, arguments, len(g), threads)
    else:
        some_learned(g, y, face, averaging, quiet, learned, 0, len(g))


@compiled
def some_nearest(
    x: np.ndarray,
    metric: np.ndarray | None,
    gap: np.ndarray | None,
    bounds: Arrays,
    scratch: np.ndarray,
    starts: np.ndarray,
    first: int,
    last: int,
) -> None:  # pragma: no cover
    """Parts `first..last` of the rows, in as many parts as there is scratch."""
    low, high = bounds
    parts, n = len(scratch), x.shape[1]
    for part in range(first, last):
        room, pools = scratch[part], starts[part]
        for row in range(len(x) * part // parts, len(x) * (part + 1) // parts):
            for k in range(n):
                room[Y, k] = x[row, k]
            if gap is not None:
                steps = gap[min(row, len(gap) - 1)]
                for k in range(n - 1):
                    room[DROP, k] = -steps[k]
            drop = None if gap is None else room[DROP]
            weights = None if metric is None else metric[row]
            count = pooled(room[Y], weights, drop, None, room, pools)
            spread(room[Y], weights, drop, room, pools, count)
            lowest, highest = low[min(row, len(low) - 1)], high[min(row, len(high) - 1)]
            clipped(drop, lowest, highest, room[SOLUTION])
            store(room[SOLUTION], gap is None, lowest, highest, x[row])


@compiled
def some_landed(
    stepped: np.ndarray,
    state: Arrays,
    face: Arrays,
    gap: np.ndarray | None,
    bounds: Arrays,
    reach: float,
    u: float,
    scratch: np.ndarray,
    starts: np.ndarray,
    first: int,
    last: int,
) -> None:  # pragma: no cover
    """Parts `first..last` of the rows, in as many parts as there is scratch."""
    (w, y, force), (links, at_first, at_last), (low, high) = state, face, bounds
    parts, n = len(scratch), w.shape[1]
    for part in range(first, last):
        room, pools = scratch[part], starts[part]
        for row in range(len(w) * part // parts, len(w) * (part + 1) // parts):
            step = distance(stepped[row], w[row])
            if not 0.0 < step < inf:
                force[row] = -1.0 if step == 0.0 else -2.0
                if step != 0.0:
                    w[row] = stepped[row]
                continue
            felt = force[row] > 0.0
            tau = reach * step / force[row] if felt else 1.0
            steps = None if gap is None else gap[min(row, len(gap) - 1)]
            lowest, highest = low[min(row, len(low) - 1)], high[min(row, len(high) - 1)]
            z = room[Z]
            onto_pools(stepped[row], links[row], at_first[row], at_last[row], steps, lowest, highest, room[SPARE], z)
            narrowed(z, links[row], steps, tau, u, room[DROP])
            for k in range(n):
                room[Y, k] = y[row, k]
            below = slack_of(lowest, z[0], at_first[row], u) / tau
            above = slack_of(highest, z[n - 1], at_last[row], u) / tau
            count = pooled(room[Y], None, room[DROP], links[row], room, pools)
            spread(room[Y], None, room[DROP], room, pools, count)
            clipped(room[DROP], below, above, room[SOLUTION])
            known = multipliers(room, pools, count, below, above, felt, links[row], y[row])
            at_first[row], at_last[row] = known[0], known[1]
            for k in range(n):
                room[Y, k] = z[k] + tau * room[SOLUTION, k]
            joined = room[WEIGHT]
            for k in range(n - 1):
                joined[k] = room[MEAN, k]
            onto_pools(room[Y], joined, known[2], known[3], steps, lowest, highest, room[SPARE], z)
            store(z, gap is None, lowest, highest, w[row])


@compiled
def some_learned(
    g: np.ndarray,
    y: np.ndarray,
    face: Arrays,
    averaging: float,
    quiet: float,
    learned: Arrays,
    first: int,
    last: int,
) -> None:  # pragma: no cover
    """Rows `first..last`."""
    (links, at_first, at_last), n = face, g.shape[1]
    pending, force = learned
    for row in range(first, last):
        norm, start = length(g[row]), 0
        weight, noise = averaging if norm < inf else 0.0, quiet * norm / sqrt(max(1, n))
        while start < n:
            end = end_of_run(links[row], start, n)
            fixed = (start == 0 and at_first[row]) or (end == n and at_last[row])
            level = 0.0 if fixed else mean_above(g[row, start:end], 0.0)
            average_pool(g[row, start:end], y[row, start:end], level, weight, pending[row, start:end])
            project_pool(g[row, start:end], level, quiet, noise)
            start = end
        known_norm = length(pending[row])
        force[row] = max(norm, known_norm) if norm < inf else known_norm


@compiled
def project_pool(g: np.ndarray, level: float, quiet: float, noise: float) -> None:  # pragma: no cover
    """The gradient becomes its part along the face in a pool: zero where it is at most `quiet · |g| + noise`."""
    for k in range(len(g)):
        g[k] = 0.0 if abs(level) <= quiet * abs(np.float64(g[k])) + noise else level


@compiled
def average_pool(
    g: np.ndarray, y: np.ndarray, level: float, weight: float, pending: np.ndarray
) -> None:  # pragma: no cover
    """`pending` becomes the average of y with what g loses in a pool; y without weight, as g may not be finite."""
    for k in range(len(g)):
        known = np.float64(y[k])
        pending[k] = known + weight * (level - np.float64(g[k]) - known) if weight > 0.0 else known


@compiled
def pooled(
    y: np.ndarray,
    weights: np.ndarray | None,
    drop: np.ndarray | None,
    links: np.ndarray | None,
    room: np.ndarray,
    starts: np.ndarray,
) -> int:  # pragma: no cover
    """Merge neighbouring pools while their means violate. Returns their number; `starts` has their first entries.

    The mean of a pool is that of its first entry; the extent is the offset of its last entry from its first. `links`
    marks links without a drop whose entries are probably in one pool: they are merged at once if every link of theirs
    pushes, which saves most of the comparisons. Without weights only.
    """
    mean, weight, extent = room[MEAN], room[WEIGHT], room[EXTENT]
    count, n, k, checked = 0, len(y), 0, 0
    while k < n:
        level, mass, offset = y[k], 1.0 if weights is None else np.float64(weights[k]), 0.0
        start = k
        k += 1
        if links is not None and start >= checked:
            checked = end_of_run(links, start, n)
            if checked - start > 1:
                common = mean_above(y[start:checked], 0.0)
                if all_push(y[start:checked], common):
                    level, mass, k = common, float(checked - start), checked
        while count > 0:
            last = count - 1
            reach = extent[last] if drop is None else extent[last] - drop[start - 1]
            if not level < mean[last] + reach:
                break
            total = weight[last] + mass
            level = mean[last] + (level - reach - mean[last]) * (mass / total)
            mass, offset, start = total, reach + offset, starts[last]
            count = last
        mean[count], weight[count], extent[count], starts[count] = level, mass, offset, start
        count += 1
    starts[count] = n
    return count


@compiled
def end_of_run(links: np.ndarray, start: int, n: int) -> int:  # pragma: no cover
    """The entry after those that are linked to an entry, one by one."""
    end = start + 1
    while end < n and links[np.uint64(end - 1)]:
        end += 1
    return end


@compiled
def mean_above(x: np.ndarray, level: float) -> float:  # pragma: no cover
    """The mean of `x − level`, in four sums that do not wait for one another."""
    n, start = len(x), len(x) % 4
    total0, total1, total2, total3 = 0.0, 0.0, 0.0, 0.0
    for k in range(start):
        total0 += np.float64(x[np.uint64(k)]) - level
    for k in range(start, n, 4):
        total0 += np.float64(x[np.uint64(k)]) - level
        total1 += np.float64(x[np.uint64(k + 1)]) - level
        total2 += np.float64(x[np.uint64(k + 2)]) - level
        total3 += np.float64(x[np.uint64(k + 3)]) - level
    return ((total0 + total1) + (total2 + total3)) / n


@compiled
def has_drops(drop: np.ndarray) -> bool:  # pragma: no cover
    """Whether some number is not zero."""
    count = 0
    for k in range(len(drop)):
        count += drop[k] != 0.0
    return count > 0


@compiled
def all_push(y: np.ndarray, mean: float) -> bool:  # pragma: no cover
    """Whether the entries before each link of a pool have a larger mean than the pool."""
    running, least = 0.0, inf
    for k in range(len(y) - 1):
        running += y[k] - mean
        least = least if running >= least else running  # NaN stays
    return bool(least > 0.0)


@compiled
def spread(
    y: np.ndarray,
    weights: np.ndarray | None,
    drop: np.ndarray | None,
    room: np.ndarray,
    starts: np.ndarray,
    count: int,
) -> None:  # pragma: no cover
    """The solution from the pools, whose means are corrected once by the mean of what is left."""
    mean, x = room[MEAN], room[SOLUTION]
    for pool in range(count):
        start, end, level = starts[pool], starts[pool + 1], mean[pool]
        if end - start == 1:
            x[start] = y[start]
            continue
        if weights is None and (drop is None or not has_drops(drop[start : end - 1])):
            level += mean_above(y[start:end], level)
            for k in range(start, end):
                x[np.uint64(k)] = level
            continue
        total, mass, offset = 0.0, 0.0, 0.0
        for k in range(start, end):
            weight = 1.0 if weights is None else np.float64(weights[k])
            total += weight * (y[k] - offset - level)
            mass += weight
            if drop is not None and k + 1 < end:
                offset -= drop[k]
        level, offset = level + total / mass, 0.0
        for k in range(start, end):
            x[k] = level + offset
            if drop is not None and k + 1 < end:
                offset -= drop[k]


@compiled
def clipped(drop: np.ndarray | None, low: float, high: float, x: np.ndarray) -> None:  # pragma: no cover
    """Move entries up to the least that the bound of the first allows, and down to the most that the last allows."""
    n, bound = len(x), low
    for k in range(n):
        if x[k] < bound:
            x[k] = bound
        elif drop is None:
            break
        if drop is not None and k + 1 < n:
            bound -= drop[k]
    bound = high
    for k in range(n - 1, -1, -1):
        if x[k] > bound:
            x[k] = bound
        elif drop is None:
            break
        if drop is not None and k > 0:
            bound += drop[k - 1]


@compiled
def store(x: np.ndarray, level: bool, low: float, high: float, w: np.ndarray) -> None:  # pragma: no cover
    """`w` becomes x between its bounds and, where all gaps are zero, ascending to the bit."""
    most = -inf
    for k in range(len(x)):
        value = min(max(x[k], low), high)
        if level:
            most = max(value, most)
            value = most
        w[k] = value


@compiled
def slack_of(bound: float, z: float, at_bound: bool, u: float) -> float:  # pragma: no cover
    """`bound − z`, exactly zero on a face and where it is rounding."""
    slack = bound - z
    return 0.0 if at_bound or abs(slack) < u * (abs(z) + abs(bound)) else slack


@compiled
def narrowed(
    z: np.ndarray, links: np.ndarray, gap: np.ndarray | None, tau: float, u: float, drop: np.ndarray
) -> None:  # pragma: no cover
    """The slack of each link divided by tau, exactly zero on the face and where it is rounding."""
    for k in range(len(z) - 1):
        step = 0.0 if gap is None else gap[k]
        slack = z[k + 1] - z[k] - step
        drop[k] = 0.0 if links[k] or abs(slack) <= u * (abs(z[k + 1]) + abs(z[k]) + abs(step)) else slack / tau


@compiled
def onto_pools(
    x: np.ndarray,
    links: np.ndarray,
    at_first: bool,
    at_last: bool,
    gap: np.ndarray | None,
    low: float,
    high: float,
    offsets: np.ndarray,
    z: np.ndarray,
) -> None:  # pragma: no cover
    """`z` becomes the nearest point to x whose linked entries are at their gap, and whose ends are at their bounds."""
    n, start = len(x), 0
    while start < n:
        end, offset = end_of_run(links, start, n), 0.0
        if gap is not None:
            for k in range(start, end):
                offsets[k] = offset
                if k + 1 < end:
                    offset += gap[k]
        else:
            for k in range(start, end):
                offsets[np.uint64(k)] = 0.0
        if start == 0 and at_first:
            for k in range(start, end):
                z[k] = low + offsets[k]
        elif end == n and at_last:
            for k in range(start, end):
                z[k] = high - (offset - offsets[k])
        elif end - start == 1:
            z[start] = x[start]
        elif gap is None:
            level = mean_above(x[start:end], 0.0)
            level += mean_above(x[start:end], level)
            for k in range(start, end):
                z[np.uint64(k)] = level
        else:
            total, correction = np.float64(0.0), np.float64(0.0)
            for k in range(start, end):
                total += np.float64(x[k]) - offsets[k]
            level = total / (end - start)
            for k in range(start, end):
                correction += np.float64(x[k]) - offsets[k] - level
            level += correction / (end - start)
            for k in range(start, end):
                z[k] = level + offsets[k]
        start = end


@compiled
def multipliers(
    room: np.ndarray,
    starts: np.ndarray,
    count: int,
    low: float,
    high: float,
    felt: bool,
    links: np.ndarray,
    normal: np.ndarray,
) -> tuple[bool, bool, bool, bool]:  # pragma: no cover
    """`normal` becomes `y − x`, and `links` the marks of the links with a multiplier that is more than rounding.

    Marks the links that are tight in `room[MEAN]`. Returns whether the first and the last entry have such a multiplier
    at their bounds, and whether they are at them.
    """
    y, x, drop, tight, push = room[Y], room[SOLUTION], room[DROP], room[MEAN], room[WEIGHT]
    n = len(x)
    for k in range(n - 1):
        tight[k] = 1.0
    for pool in range(1, count):
        tight[starts[pool] - 1] = 0.0
    first, bound, k = 0.0, low, 0
    while k < n and x[k] <= bound:  # entries at the lower bound, from the first on
        first -= y[k] - x[k]
        if k > 0:
            tight[k - 1] = 1.0
        if k + 1 < n:
            bound -= drop[k]
        k += 1
    at_low = k > 0
    last, bound, k = 0.0, high, n - 1
    while k >= 0 and x[k] >= bound:
        last += y[k] - x[k]
        if k < n - 1:
            tight[k] = 1.0
        if k > 0:
            bound += drop[k - 1]
        k -= 1
    at_high = k < n - 1
    first, last = max(first, 0.0), max(last, 0.0)
    largest, running = max(first, last), first
    for k in range(n):
        force = y[k] - x[k]
        normal[k] = force if felt else 0.0
        running += force
        if k + 1 < n:
            push[k] = running if tight[k] > 0.0 else 0.0
            largest = max(largest, push[k])
            if tight[k] == 0.0 and k + 1 < n:
                running = 0.0
    faint = max(FAINT, 4.0 * sqrt(n) * EPS) * largest
    for k in range(n - 1):
        links[k] = push[k] > faint
    return first > faint, last > faint, at_low, at_high
