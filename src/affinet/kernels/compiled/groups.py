"""Small groups of equations, one after the other."""

# mypy: disable-error-code="untyped-decorator,misc,no-untyped-call,arg-type"
from __future__ import annotations

from math import sqrt

import numpy as np

from affinet.kernels.compiled.jit import compiled


@compiled
def groups(
    x: np.ndarray, places: np.ndarray, basis: np.ndarray, target: np.ndarray, quiet: float, first: int, last: int
) -> None:  # pragma: no cover
    """`basis[g] @ x[places[g]] == target[g]` by the nearest such entries, for groups `first..last`.

    places (groups, n), basis (groups, r, n) with orthonormal or zero rows, target (groups or 1, r).
    """
    n, shared = places.shape[1], len(target) == 1
    before, after = np.empty(n), np.empty(n)
    for g in range(first, last):
        squares = 0.0
        for k in range(n):
            before[k] = after[k] = x[places[g, k]]
            squares += before[k] * before[k]
        for row in range(basis.shape[1]):
            gap = -(target[0, row] if shared else target[g, row])
            for k in range(n):
                gap += basis[g, row, k] * after[k]
            for k in range(n):
                after[k] -= gap * basis[g, row, k]
        size = sqrt(squares / n)
        for k in range(n):
            noise = quiet * (abs(before[k]) + size)
            x[places[g, k]] = 0.0 if quiet > 0.0 and abs(after[k]) < noise else after[k]
