"""The dense pseudo-inverse, made once: `w − A⁺(A w − b)` in NumPy."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from benchmarks.peers.projecting import JOBS, LARGEST, raced, too_large
from benchmarks.results import PeerRow


def measured(title: str) -> Iterator[PeerRow]:
    """Each job; A and A⁺ are both kept, dense."""
    for job in JOBS:
        if job.dense_bytes > 2e8:
            yield too_large(title, job, 2 * job.dense_bytes)
            continue
        A = job.A.toarray()
        began = time.perf_counter()
        inverse = np.linalg.pinv(A)
        prepared = f"pinv takes {time.perf_counter() - began:.2g} s before"
        yield raced(title, job, lambda w, A=A, P=inverse, b=job.b: w - P @ (A @ w - b), prepared)
    yield too_large(title, LARGEST, 2 * LARGEST.dense_bytes)
