"""emlp's null-space: matrices that commute with all permutations of n things, projected by its orthonormal basis."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from emlp.groups import S
from emlp.reps import V

import affinet
from affinet import families
from benchmarks.measuring import Effort, by_turns
from benchmarks.results import PeerRow

SIZES = (6, 8, 16)


def measured(title: str) -> Iterator[PeerRow]:
    """Preparing (emlp: the basis Q; affinet: the plan) and one projection `Q Qᵀ w`, for each size.

    Above 100 unknowns emlp leaves its dense null-space for an iterative one, which may not come back in time.
    """
    affinet.plan(affinet.weights({"W": (2, 2)})["W"].sum() == 0).projector({"W": torch.zeros(2, 2)})  # imports
    for n in SIZES:
        yield from _rows(title, n)


def _rows(title: str, n: int) -> list[PeerRow]:
    began = time.perf_counter()
    Q = np.asarray((V >> V)(S(n)).equivariant_basis())
    theirs = time.perf_counter() - began
    swap, cycle = np.arange(n), np.roll(np.arange(n), 1)
    swap[:2] = 1, 0
    began = time.perf_counter()
    flat = affinet.weights({"W": (n, n)})["W"].flatten()
    plan = affinet.plan([flat[families.powers(move, 2)] == flat for move in (swap, cycle)])
    weights = {"W": torch.randn(n, n)}
    projector = plan.projector(weights)
    ours = time.perf_counter() - began
    start = weights["W"].numpy().copy().ravel()
    taken = by_turns(
        {"ours": lambda: projector.project_(weights), "theirs": lambda: Q @ (Q.T @ start)}, Effort(2.0, most=500)
    )
    apart = float(
        np.abs(
            Q @ (Q.T @ start) - projector.project({"W": torch.from_numpy(start.reshape(n, n))})["W"].numpy().ravel()
        ).max()
    )
    note = f"{Q.shape[1]} free of {n * n}; {apart:.0e} from affinet's point"
    says = f"commute with all permutations of {n}"
    return [
        PeerRow(title, f"prepare: {says}", ours, theirs, note),
        PeerRow(title, f"project: {says}", taken["ours"].median, taken["theirs"].median, note),
    ]
