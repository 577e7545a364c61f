"""Let JAX have float64, which laws that search compute in; weights of float32 stay what they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax


@contextmanager
def with_float64() -> Iterator[None]:
    """float64 for the whole process inside the block: functions that JAX calls on the host may run in other threads."""
    before = bool(jax.config.read("jax_enable_x64"))
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)
