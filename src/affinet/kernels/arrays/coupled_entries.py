"""Find the entries of weights without a gradient that rules couple to weights with one."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from affinet.blocks.law import Linear
from affinet.blocks.namespace import NumPy
from affinet.kernels.arrays.array_projector import entries_of, run, write_entries
from affinet.plans.plan import Plan

ROUNDING = 1e-9
"""Solvers and Schur complements return rounding errors, relative to random numbers of size one, in place of zeros."""


def coupled_entries(plan: Plan, missing: Collection[str]) -> dict[str, np.ndarray]:
    """Name → mask of the coupled entries, for the missing weights that have coupled entries.

    Law: an entry is coupled if and only if `P g` can differ from zero there where g is zero on all missing weights;
    with inequalities and nonlinear equations, on any face. Projects random numbers: an entry of the result that is
    zero is zero for every gradient.
    """
    random = np.random.default_rng(0)
    present = {
        parameter.name: np.zeros(parameter.shape)
        if parameter.name in missing
        else random.uniform(1.0, 2.0, parameter.shape)
        for parameter in plan.parameters
    }
    moved = {name: array.copy() for name, array in present.items()}
    for block in plan.blocks:
        law, places = block.law(), block.entries
        if isinstance(law, Linear):
            run(law.projection.tangent, law, places, moved)
        elif law.count() > 1:  # else each entry is a cell of its own
            flat = {name: array.reshape(-1) for name, array in moved.items()}
            norms = law.norm(NumPy(), entries_of(law, places, flat))
            write_entries(law, places, flat, np.broadcast_to(norms, law.shape).astype(np.float64))
    masks = {name: np.abs(moved[name]) > ROUNDING for name in missing}
    return {name: mask for name, mask in masks.items() if mask.any()}
