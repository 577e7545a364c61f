"""float64 in JAX, switched for the whole process: functions that it calls on the host may run in other threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax


@contextmanager
def x64(on: bool = True) -> Iterator[None]:
    """JAX with or without float64, and as it was afterwards."""
    before = bool(jax.config.read("jax_enable_x64"))
    jax.config.update("jax_enable_x64", on)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)
