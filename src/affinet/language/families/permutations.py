"""Compute how a permutation moves the entries of a tensor power, which equivariant rules are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from affinet.errors import ShapeError
from affinet.language.calculus.terms import Integers
from affinet.language.forecast import forecast
from affinet.language.groups.elements import read_permutation


def powers(permutation: Any, k: int) -> Integers:
    """The permutation of the n**k entries of a row-major tensor whose k axes each move by `permutation` of n things.

    Law: `powers(p, k)[ravel(i1, …, ik)] == ravel(p[i1], …, p[ik])`, so `w.flatten()[powers(p, 2)] == w.flatten()`
    says that the n × n matrix `w` is unchanged when its rows and columns are permuted alike.
    Errors: `ShapeError` for anything but a permutation, and for a negative power.
    """
    positions = read_permutation(f"{permutation!r:.60}", permutation)
    if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k <= 64:
        raise ShapeError(f"the power must be an integer from 0 to 64; got {k!r:.60}.")
    size = int(positions.size)
    forecast(f"the permutation of {size}**{k} entries", size**k)
    result = np.zeros(1, np.int64)
    for _ in range(k):
        result = (result[:, None] * size + positions).reshape(-1)
    return result
