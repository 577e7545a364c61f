"""emlp's null-space: matrices that commute with all permutations of n things, projected by its orthonormal basis."""

from __future__ import annotations

import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import torch
from emlp.groups import S
from emlp.reps import V

import affinet
from affinet import families
from benchmarks.measuring import Effort, by_turns
from benchmarks.results import PeerRow

SIZES = (6, 8, 16)
SQUARES = (4, 5, 6)
"""n of the maps from n × n matrices to n × n matrices: n**4 unknowns."""
LARGEST = 50
"""6,250,000 unknowns: affinet's planning alone."""


def measured(title: str) -> Iterator[PeerRow]:
    """Preparing (emlp: the basis Q; affinet: the plan) and one projection `Q Qᵀ w`, for each size.

    Above 100 unknowns emlp leaves its dense null-space for an iterative one, which may not come back in time.
    """
    affinet.plan(affinet.weights({"W": (2, 2)})["W"].sum() == 0).projector({"W": torch.zeros(2, 2)})  # imports
    for n in SIZES:
        yield from _rows(title, f"commute with all permutations of {n}", n, 1)
    yield _planned(title)
    for n in SQUARES:
        yield from _rows(title, f"{n}² → {n}² under all permutations of {n}", n, 2)


def _rule(n: int, power: int) -> affinet.Constraint:
    swap, cycle = np.arange(n), np.roll(np.arange(n), 1)
    swap[:2] = 1, 0
    moves = [families.powers(move, power) for move in (swap, cycle)]
    return families.equivariant(affinet.weights({"W": (n**power, n**power)})["W"], moves, moves)


def _planned(title: str) -> PeerRow:
    """A size that emlp is not asked for: its basis alone would hold 15 numbers an entry."""
    began = time.perf_counter()
    plan = affinet.plan(_rule(LARGEST, 2))
    taken = time.perf_counter() - began
    says = f"prepare: {LARGEST}² → {LARGEST}² under all permutations of {LARGEST}"
    return PeerRow(title, says, taken, note=f"{plan.free} free of {plan.size:,}; emlp is not asked")


def _rows(title: str, says: str, n: int, power: int) -> list[PeerRow]:
    began = time.perf_counter()
    space = V**power
    Q = np.asarray((space >> space)(S(n)).equivariant_basis())
    theirs = time.perf_counter() - began
    began = time.perf_counter()
    plan = affinet.plan(_rule(n, power))
    weights = {"W": torch.randn(n**power, n**power)}
    projector = plan.projector(weights)
    ours = time.perf_counter() - began
    start = weights["W"].numpy().copy().ravel()
    jitted, given = jax.jit(lambda basis, w: basis @ (basis.T @ w)), (jnp.asarray(Q), jnp.asarray(start))
    taken = by_turns(
        {
            "ours": lambda: projector.project_(weights),
            "theirs": lambda: Q @ (Q.T @ start),
            "jitted": lambda: jitted(*given).block_until_ready(),
        },
        Effort(1.0, most=500),
        block=20,
    )
    ending = projector.project({"W": torch.from_numpy(start.reshape(n**power, -1))})["W"].numpy().ravel()
    apart = float(np.abs(Q @ (Q.T @ start) - ending).max())
    note = f"{Q.shape[1]} free of {start.size:,} (affinet: {plan.free}); {apart:.0e} from affinet's point"
    return [
        PeerRow(title, f"prepare: {says}", ours, theirs, note),
        PeerRow(title, f"project: {says}", taken["ours"].median, taken["theirs"].median, f"basis in NumPy; {note}"),
        PeerRow(title, f"project: {says}", taken["ours"].median, taken["jitted"].median, f"jitted by jax; {note}"),
    ]
