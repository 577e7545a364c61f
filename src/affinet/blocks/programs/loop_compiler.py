"""Compile loops with numba where it is installed; without it, the same functions run as Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    import numba
except ImportError:
    numba = None

Function = Callable[..., Any]


def compiled(function: Function) -> Function:
    """The function as a loop without the interpreter's lock, cached on disk where the installation can be written."""
    return function if numba is None else _loop(function)


def vectorised(numpy_version: Function) -> Callable[[Function], Function]:
    """The loop with its sums in any order, for vector instructions; without numba, the version written in NumPy."""

    def chosen(function: Function) -> Function:
        return numpy_version if numba is None else _loop(function, fastmath={"reassoc", "contract"})

    return chosen


def _loop(function: Function, **options: Any) -> Function:
    try:
        loop: Function = numba.njit(nogil=True, error_model="numpy", cache=True, **options)(function)
    except RuntimeError:  # no writable installation and no home folder: compile again in each process
        loop = numba.njit(nogil=True, error_model="numpy", **options)(function)
    return loop
