"""Dimensions of invariant tensors as emlp 1.0.3 finds them, for the groups that both libraries know."""

from __future__ import annotations

from itertools import accumulate, repeat

import numpy as np
import pytest
import scipy.linalg
import torch

import affinet
from affinet import families, groups
from affinet.language.groups.representation import Representation

LARGEST = 81
"""Entries of the largest tensors in the table."""

# For each number of axes p + q, from 0 on; where only some T(p, q) have invariants, these stand below by themselves.
DIMENSIONS: dict[str, tuple[groups.Group, list[int]]] = {
    "SO(2)": (groups.SO(2), [1, 0, 2, 0, 6, 0]),
    "SO(3)": (groups.SO(3), [1, 0, 1, 1, 3]),
    "SO(4)": (groups.SO(4), [1, 0, 1, 0]),
    "O(2)": (groups.O(2), [1, 0, 1, 0, 3, 0]),
    "O(3)": (groups.O(3), [1, 0, 1, 0, 3]),
    "SL(2)": (groups.SL(2), [1, 0, 1, 0, 2, 0]),
    "Sp(1)": (groups.Sp(1), [1, 0, 1, 0, 2, 0]),
    "Sp(2)": (groups.Sp(2), [1, 0, 1, 0]),
    "SO13p": (groups.ProperLorentz(), [1, 0, 1, 0]),
    "O13": (groups.Lorentz(), [1, 0, 1, 0]),
    "S(3)": (groups.S(3), [1, 1, 2, 5, 14]),
    "S(4)": (groups.S(4), [1, 1, 2, 5]),
    "Z(3)": (groups.Z(3), [1, 1, 3, 9, 27]),
    "Z(4)": (groups.Z(4), [1, 1, 4, 16]),
    "C(3)": (groups.C(3), [1, 0, 2, 2, 6, 10]),
    "C(4)": (groups.C(4), [1, 0, 2, 0, 8, 0]),
    "C(8)": (groups.C(8), [1, 0, 2, 0, 6, 0]),
    "D(3)": (groups.D(3), [1, 0, 1, 1, 3, 5]),
    "D(4)": (groups.D(4), [1, 0, 1, 0, 4, 0]),
    "D(8)": (groups.D(8), [1, 0, 1, 0, 3, 0]),
}
MIXED: dict[str, tuple[groups.Group, dict[tuple[int, int], int]]] = {
    "SL(3)": (groups.SL(3), {(0, 0): 1, (1, 1): 1, (3, 0): 1, (0, 3): 1, (2, 2): 2}),
    "GL(2)": (groups.GL(2), {(0, 0): 1, (1, 1): 1, (2, 2): 2}),
}
TABLE = [
    *(
        (group, {(k - q, q): count for k, count in enumerate(counts) for q in range(k + 1)})
        for group, counts in DIMENSIONS.values()
    ),
    *MIXED.values(),
]


def dense_basis(space: Representation) -> np.ndarray:
    """The invariant tensors by an SVD of all equations."""
    lie = [element.lie for group in space.groups for element in group.generators]
    rows = [m.toarray() - (0 if own else np.eye(space.size)) for m, own in zip(space.matrices, lie, strict=True)]
    return np.asarray(scipy.linalg.null_space(np.concatenate(rows), rcond=1e-10))


@pytest.mark.filterwarnings("ignore::affinet.errors.NothingToTrainWarning")
@pytest.mark.parametrize(("group", "counts"), TABLE, ids=[*DIMENSIONS, *MIXED])
def test_invariant_tensors_are_as_many_and_the_same(group: groups.Group, counts: dict[tuple[int, int], int]) -> None:
    sizes = list(accumulate(repeat(group.size, 5), lambda size, n: size * n, initial=1))
    axes = sum(size <= LARGEST for size in sizes)
    for p, q in ((k - q, q) for k in range(axes) for q in range(k + 1)):
        space = group.T(p, q)
        rule = families.equivariant(affinet.weights({"w": (space.size,)}).w, outputs=space)
        plan = affinet.plan(rule)
        assert space.size - int(str(plan.rank)) == counts.get((p, q), 0), (p, q)
        start = np.random.default_rng(p).standard_normal(space.size)
        given, basis = {"w": torch.from_numpy(start)}, dense_basis(space)
        found = plan.projector(given).project(given)["w"].numpy() if plan.rows else start
        # Bases of boosts and shears are no isometries: 64 roundings for each of at most 81 entries, times their sizes.
        assert np.abs(found - basis @ (basis.T @ start)).max() <= 64 * space.size * 2.0**-52 * np.abs(start).max()


def test_maps_of_vectors_under_rotations_and_permutations() -> None:
    space = groups.SO(3).T(1) @ groups.S(3).T(1)
    w = affinet.weights({"w": (9, 9)}).w
    assert affinet.plan(families.equivariant(w, space, space)).free == 2
