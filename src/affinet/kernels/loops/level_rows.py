"""Projects rows of float32 numbers onto ascending rows between bounds, several rows at a time.

Pools are merged in one pass over a row, as in `blocks/pooled_cells.py`. In a random row, whether the next entry joins
the last pool is a coin toss, and so is whether that pool then joins the one before it: each wrong guess of the
processor costs more than the arithmetic. A step therefore has no branches, and takes one of three moves by selection:
merge the last two pools, add the next entry to the last pool, or begin a pool with it. The steps of several rows
alternate, so that their latencies overlap.

Pools are compared by their float64 sums times lengths, which needs no division. The products cannot overflow for
float32 numbers, and are exact for single entries: an ascending row keeps its bits. Results have the same bits on any
number of threads, since a row takes the same moves wherever it is computed.
"""

# mypy: disable-error-code="untyped-decorator,misc,no-untyped-call,arg-type"
from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from affinet.kernels.loops.jit import compiled, inlined
from affinet.kernels.loops.openmp import share_out

LANES = 6
"""Rows whose steps alternate. With 2, a step waits for the one before it; with 8, there are not enough registers."""
CHECKED = 64
"""Entries that are compared before a row that descends somewhere is given up."""
SPAN = 8
"""Entries that are written at once; those beyond the end of a pool are written again with the next one."""
WORDS = 2
"""Numbers for each pool: its sum and its length."""
STEP = np.uint64(1)


@intrinsic(prefer_literal=False)
def pick(typing: Any, condition: Any, first: Any, second: Any) -> Any:
    """`first if condition else second` without a branch: numba's own conditional expression may become one."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        bit = values[0]
        if bit.type.width != 1:
            bit = builder.trunc(bit, ir.IntType(1))
        return builder.select(bit, values[1], values[2])

    return first(types.boolean, first, first), generate


@compiled
def nearest_levels(
    x: np.ndarray, bounds: tuple[np.ndarray, np.ndarray], pools: np.ndarray, threads: int
) -> None:  # pragma: no cover
    """Move the rows of x (rows, n) in place to the nearest ascending rows between a lower and an upper bound.

    `bounds` are two arrays (rows or 1), and `pools` is scratch (threads, LANES, n + 2, WORDS).
    """
    if threads > 1:
        share_out(some_nearest_levels, (x, bounds, pools), threads, threads)
    else:
        some_nearest_levels(x, bounds, pools, 0, 1)


@compiled
def some_nearest_levels(
    x: np.ndarray, bounds: tuple[np.ndarray, np.ndarray], pools: np.ndarray, first: int, last: int
) -> None:  # pragma: no cover - compiled
    """Parts `first..last` of the rows, in as many parts as there is scratch."""
    low, high = bounds
    parts = len(pools)
    for part in range(first, last):
        room = pools[part]
        for lane in range(LANES):
            room[lane, 0, 0], room[lane, 0, 1] = -inf, 1.0  # no pool merges with this one
        start, end = len(x) * part // parts, len(x) * (part + 1) // parts
        while start < end:
            count = min(LANES, end - start)
            if count == LANES and not ascends(x[start]):
                pool_lanes(x[start : start + LANES], room)
            else:
                for lane in range(count):
                    keep(room[lane], STEP, STEP, np.float64(x[start + lane, 0]), 1.0)
            for lane in range(count):
                row = start + lane
                lowest, highest = low[min(row, len(low) - 1)], high[min(row, len(high) - 1)]
                if not (ascends(x[row]) and x[row, 0] >= lowest and x[row, -1] <= highest):
                    pool_rest(x[row], room[lane])
                    spread_levels(room[lane], lowest, highest, x[row])
            start += count


@inlined
def advanced(
    x: np.ndarray, pools: np.ndarray, k: Any, top: Any, total: float, count: float
) -> tuple[Any, Any, float, float]:  # pragma: no cover
    """One step of a row: its next entry, and the number, sum and length of its last pool.

    The last pool is in these numbers; `pools` has those before it.
    """
    before, length, value = pools[top - STEP, 0], pools[top - STEP, 1], np.float64(x[k])
    pools[top, 0], pools[top, 1] = total, count
    merges = before * count > total * length
    joins = merges | (value * count < total)
    # The identity of addition is −0.0: it keeps the sign of a zero.
    total = pick(joins, total, -0.0) + pick(merges, before, value)
    count = pick(joins, count, 0.0) + pick(merges, length, 1.0)
    back = np.uint64(merges)
    return k + STEP - back, top + STEP - np.uint64(joins) - back, total, count


@compiled
def pool_lanes(x: np.ndarray, room: np.ndarray) -> None:  # pragma: no cover
    """Advance LANES rows until one of them has no more entries."""
    n = np.uint64(x.shape[1])
    x0, x1, x2, x3, x4, x5 = x[0], x[1], x[2], x[3], x[4], x[5]
    p0, p1, p2, p3, p4, p5 = room[0], room[1], room[2], room[3], room[4], room[5]
    k0 = k1 = k2 = k3 = k4 = k5 = STEP
    t0 = t1 = t2 = t3 = t4 = t5 = STEP
    s0, s1, s2 = np.float64(x0[0]), np.float64(x1[0]), np.float64(x2[0])
    s3, s4, s5 = np.float64(x3[0]), np.float64(x4[0]), np.float64(x5[0])
    c0 = c1 = c2 = c3 = c4 = c5 = 1.0
    while k0 < n and k1 < n and k2 < n and k3 < n and k4 < n and k5 < n:
        k0, t0, s0, c0 = advanced(x0, p0, k0, t0, s0, c0)
        k1, t1, s1, c1 = advanced(x1, p1, k1, t1, s1, c1)
        k2, t2, s2, c2 = advanced(x2, p2, k2, t2, s2, c2)
        k3, t3, s3, c3 = advanced(x3, p3, k3, t3, s3, c3)
        k4, t4, s4, c4 = advanced(x4, p4, k4, t4, s4, c4)
        k5, t5, s5, c5 = advanced(x5, p5, k5, t5, s5, c5)
    keep(p0, k0, t0, s0, c0)
    keep(p1, k1, t1, s1, c1)
    keep(p2, k2, t2, s2, c2)
    keep(p3, k3, t3, s3, c3)
    keep(p4, k4, t4, s4, c4)
    keep(p5, k5, t5, s5, c5)


@compiled
def ascends(x: np.ndarray) -> bool:  # pragma: no cover
    """Whether a row ascends; a row that does not is recognized after a few entries."""
    n, start = len(x), 0
    while start < n - 1:
        falls, end = 0, min(start + CHECKED, n - 1)
        for k in range(start, end):
            falls += not x[np.uint64(k)] <= x[np.uint64(k + 1)]
        if falls:
            return False
        start = end
    return bool(x[0] == x[0])


@compiled
def keep(pools: np.ndarray, k: int, top: int, total: float, count: float) -> None:  # pragma: no cover
    """Store the last pool, and behind it the next entry and the number of the last pool."""
    pools[top, 0], pools[top, 1] = total, count
    pools[-1, 0], pools[-1, 1] = np.float64(k), np.float64(top)


@compiled
def pool_rest(x: np.ndarray, pools: np.ndarray) -> None:  # pragma: no cover
    """Take the steps of a row from where it is to its end."""
    n, k, top = np.uint64(len(x)), np.uint64(pools[-1, 0]), np.uint64(pools[-1, 1])
    total, count = pools[top, 0], pools[top, 1]
    while True:
        while pools[top - STEP, 0] * count > total * pools[top - STEP, 1]:
            top -= STEP
            total, count = total + pools[top, 0], count + pools[top, 1]
        if k >= n:
            break
        value = np.float64(x[k])
        k += STEP
        if value * count < total:
            total, count = total + value, count + 1.0
        else:
            pools[top, 0], pools[top, 1] = total, count
            top, total, count = top + STEP, value, 1.0
    keep(pools, k, top, total, count)


@compiled
def spread_levels(pools: np.ndarray, low: float, high: float, x: np.ndarray) -> None:  # pragma: no cover
    """Write the mean of each pool, between the bounds, to its entries; they ascend to the bit."""
    n, start, former, disordered = len(x), 0, -inf, False
    safe = n - SPAN
    for pool in range(1, int(pools[-1, 1]) + 1):
        count = pools[np.uint64(pool), 1]
        level = pools[np.uint64(pool), 0] / count
        level = pick(level < low, low, level)
        level = pick(level > high, high, level)
        disordered |= level < former  # by rounding; a running maximum would make each pool wait for the one before it
        former = level
        value, end = x.dtype.type(level), start + int(count)
        while start <= safe and start < end:
            for k in range(SPAN):
                x[np.uint64(start + k)] = value
            start += SPAN
        while start < end:
            x[np.uint64(start)] = value
            start += 1
        start = end
    if disordered:
        for k in range(1, n):
            x[k] = max(x[k], x[k - 1])
