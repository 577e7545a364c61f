"""A dense null space: `eigh` of the Gram matrix of all equations, for tensors that no rotation of space changes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

import affinet
from affinet import families
from benchmarks.measuring import Effort, by_turns
from benchmarks.results import PeerRow
from benchmarks.workloads import ROTATIONS

POWERS = (4, 5, 6, 7)
"""Axes of three entries each: 81 to 2,187 unknowns. With 5 axes affinet is to take at most three times as long."""


def measured(title: str) -> Iterator[PeerRow]:
    """Preparing alone: affinet's plan, from elements of the algebra, beside the null space from the same matrices."""
    for power in POWERS:
        elements = [families.kronecker_sum(element, power) for element in ROTATIONS]
        sides = {"ours": partial(_planned, elements), "theirs": partial(_dimension, elements)}
        found = {name: call() for name, call in sides.items()}
        taken = by_turns(sides, Effort(4.0, most=50))
        note = f"{found['theirs']} free of {3**power:,} (affinet: {found['ours']})"
        says = f"prepare: invariant tensors of {power} axes under so(3)"
        yield PeerRow(title, says, taken["ours"].median, taken["theirs"].median, note)


def _planned(elements: list[np.ndarray]) -> int:
    w = affinet.weights({"w": (len(elements[0]),)}).w
    return affinet.plan(families.equivariant(w, outputs=elements, lie_algebra=True)).free


def _dimension(elements: list[np.ndarray]) -> int:
    equations = np.concatenate(elements)
    squares, _ = np.linalg.eigh(equations.T @ equations)
    return int((squares < 1e-9 * squares[-1]).sum())
