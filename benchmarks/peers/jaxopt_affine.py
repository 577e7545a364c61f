"""`jaxopt.projection.projection_affine_set`, compiled by jax.jit, in float64."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxopt.projection import projection_affine_set

from benchmarks.peers.projecting import JOBS, LARGEST, raced, too_large
from benchmarks.results import PeerRow


def measured(title: str) -> Iterator[PeerRow]:
    """Each job; A is dense."""
    jax.config.update("jax_enable_x64", True)
    for job in JOBS:
        if job.dense_bytes > 2e8:
            yield too_large(title, job, job.dense_bytes)
            continue
        system = (jnp.asarray(job.A.toarray()), jnp.asarray(job.b))
        compiled = jax.jit(projection_affine_set)
        yield raced(title, job, lambda w, f=compiled, s=system: np.asarray(f(jnp.asarray(w), s)))
    yield too_large(title, LARGEST, LARGEST.dense_bytes)
