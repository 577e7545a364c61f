"""Projects onto small groups of equations over entries at arbitrary places of a parameter, group after group."""

# mypy: disable-error-code="untyped-decorator,misc,no-untyped-call,arg-type"
from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from affinet.kernels.loops.jit import compiled, summing
from affinet.kernels.loops.openmp import share_out

AHEAD = 24
"""The number of groups by which entries are prefetched ahead: they are scattered over memory."""


@compiled
def groups(
    x: np.ndarray, places: np.ndarray, basis: np.ndarray, target: np.ndarray, quiet: float, threads: int
) -> None:  # pragma: no cover - compiled
    """Move entries to the nearest point with `basis[k] @ x[places[k]] == target[k]`, for every group k.

    Shapes: places (groups, n) of a flat x, each place once; basis (groups, r, n) of orthonormal rows; target
    (groups, r). With `quiet`, entries that are noise relative to their group become zero.
    """
    if threads > 1:
        share_out(some_groups, (x, places, basis, target, quiet), len(places), threads)
    else:
        some_groups(x, places, basis, target, quiet, 0, len(places))


@summing
def some_groups(
    x: np.ndarray, places: np.ndarray, basis: np.ndarray, target: np.ndarray, quiet: float, first: int, last: int
) -> None:  # pragma: no cover
    """Groups `first..last`."""
    n, r = places.shape[1], basis.shape[1]
    y, moved = np.empty(n, x.dtype), np.empty(n)
    for k in range(first, last):
        if k + AHEAD < last:
            for j in range(n):
                fetch(x, places[k + AHEAD, j])
        squares = 0.0
        for j in range(n):
            y[j] = x[places[k, j]]
            moved[j] = y[j]
            squares += moved[j] * moved[j]
        for q in range(r):
            gap = -np.float64(target[k, q])
            for j in range(n):
                gap += basis[k, q, j] * y[j]
            for j in range(n):
                moved[j] -= gap * basis[k, q, j]
        if quiet > 0.0:
            level = quiet * sqrt(squares / n)
            for j in range(n):
                moved[j] = 0.0 if abs(moved[j]) < level + quiet * abs(y[j]) else moved[j]
        for j in range(n):
            x[places[k, j]] = moved[j]


@intrinsic
def fetch(typing: Any, x: Any, place: Any) -> Any:
    """Prefetch the cache line of `x[place]`, to read and to write."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        spot = builder.bitcast(builder.gep(data, [values[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [spot.type, number, number, number])
        ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(ask, [spot, *(ir.Constant(number, hint) for hint in (1, 3, 1))])
        return context.get_dummy_value()

    return types.void(x, place), generate
