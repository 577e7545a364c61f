"""Compiles loops with numba: without the interpreter's lock, and cached on disk.

All loops work in place on NumPy arrays of float32 or float64. With `quiet > 0` they set numbers to zero that are below
that fraction of the numbers they were computed from, which is rounding noise of a gradient. Comparisons are written
such that NaN and infinities never count as noise. Indices are unsigned or come from a range: a signed index costs a
test for negative numbers, and prevents vector instructions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any

import numba

PATIENCE = 2.0
"""Seconds of compilation after which it is logged what takes so long; a loop from the cache is there in a tenth."""


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
inside = _compiler(no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""For functions that only loops call: what Python would call them by takes longer to compile than many of them."""
summing_inside = _compiler(no_cpython_wrapper=True, no_cfunc_wrapper=True, fastmath={"reassoc", "contract"})
inlined = numba.njit(nogil=True, error_model="numpy", inline="always")


@contextmanager
def logged_compilation(loop: Any, purpose: str) -> Iterator[None]:
    """Log a warning, in the context of the first call of a loop, if it is still being compiled after `PATIENCE`."""
    if loop.signatures:
        yield
        return
    text = f"affinet compiles loops for {purpose}, once on this machine; this may take half a minute."
    timer = Timer(PATIENCE, logging.getLogger("affinet").warning, (text,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
