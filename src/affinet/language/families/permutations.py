"""Permutations of the entries of tensor powers, the patterns behind equivariant rules."""

from __future__ import annotations

from typing import Any

import numpy as np

from affinet.errors import ShapeError
from affinet.language.calculus.terms import Integers
from affinet.language.forecast import forecast
from affinet.language.groups.elements import read_permutation


def powers(permutation: Any, k: int) -> Integers:
    """How `permutation` of n things moves the n**k entries of a row-major tensor with k axes of size n.

    Law: `powers(p, k)[ravel(i1, …, ik)] == ravel(p[i1], …, p[ik])`, so `w.flatten()[powers(p, 2)] == w.flatten()`
    says that the n × n matrix `w` is unchanged when its rows and columns are permuted alike.
    Errors: `ShapeError` for what is no permutation or a negative power.
    """
    moved = read_permutation(f"{permutation!r:.60}", permutation)
    if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k <= 64:
        raise ShapeError(f"the power {k!r:.60} is no integer from 0 to 64.")
    size = int(moved.size)
    forecast(f"the permutation of {size}**{k} entries", size**k)
    result = np.zeros(1, np.int64)
    for _ in range(k):
        result = (result[:, None] * size + moved).reshape(-1)
    return result
