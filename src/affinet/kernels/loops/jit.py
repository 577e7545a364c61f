"""How loops are compiled: without the interpreter's lock, kept in numba's cache.

All work in place on NumPy arrays of float32 or float64. `quiet > 0` sets to zero what is less than that share of what
it was computed from: rounding noise of a gradient. Comparisons are written such that NaN and infinities are none.
Indices are unsigned or come from a range: a signed one costs a test for negative numbers, and the vector instructions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def _compiler(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def compile_(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            kept: Callable[..., Any] = numba.njit(nogil=True, error_model="numpy", cache=True, **options)(function)
        except RuntimeError:  # an installation that cannot be written to, without a home: compiled anew each time
            kept = numba.njit(nogil=True, error_model="numpy", **options)(function)
        return kept

    return compile_


compiled = _compiler()
summing = _compiler(fastmath={"reassoc", "contract"})
inlined = numba.njit(nogil=True, error_model="numpy", inline="always")
