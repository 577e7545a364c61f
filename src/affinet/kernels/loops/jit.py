"""Compiles loops with numba: without the interpreter's lock, and cached on disk.

All loops work in place on NumPy arrays of float32 or float64. With `quiet > 0` they set numbers to zero that are below
that fraction of the numbers they were computed from, which is rounding noise of a gradient. Comparisons are written
such that NaN and infinities never count as noise. Indices are unsigned or come from a range: a signed index costs a
test for negative numbers, and prevents vector instructions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def _compiler(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def compile_(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            loop: Callable[..., Any] = numba.njit(nogil=True, error_model="numpy", cache=True, **options)(function)
        except RuntimeError:  # no writable installation and no home folder: compile again in each process
            loop = numba.njit(nogil=True, error_model="numpy", **options)(function)
        return loop

    return compile_


compiled = _compiler()
summing = _compiler(fastmath={"reassoc", "contract"})
inlined = numba.njit(nogil=True, error_model="numpy", inline="always")
