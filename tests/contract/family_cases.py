"""Cases about named families: structured matrices, kernels and stencils, convolutions, equivariant maps."""

from __future__ import annotations

import numpy as np

from affinet import families, groups
from affinet.language.families import SignedPermutation, kronecker_power, kronecker_sum, powers
from tests.contract.case import Case

SQUARE = {"a.weight": (6, 6)}
MATRIX = {"a.weight": (5, 7)}
SWAP, CYCLE = np.array([1, 0, 2, 3]), np.array([1, 2, 3, 0])
TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
PLANE, BASIS = np.array([[0.6, -0.8], [0.8, 0.6]]), np.array([[2.0, 1.0], [0.5, 1.0]])
# In another basis no entry of an equivariant map is zero: the contract measures violations relative to the entries.
TURNED = BASIS @ PLANE @ np.linalg.inv(BASIS)
SPACE = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
ABOUT = np.array([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
TILT = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
SIGNED = SignedPermutation(np.array([1, 2, 3, 0]), np.array([1, 1, 1, -1]))
SHARED = np.array([[0, 1, 2, 0], [1, 2, 0, 1], [-1, 3, 3, 0]])
SIGNS = np.array([[1, -1, 1, -1], [1, 0, 1, -1], [1, 1, -1, -1]])


FAMILIES = (
    Case("signed pattern", {"a.weight": (3, 4)}, lambda w: [families.share(w.a.weight, SHARED, SIGNS)], 7, 3),
    Case("hankel", MATRIX, lambda w: [families.hankel(w.a.weight)], 24, 9, ("hankel(a.weight)",)),
    Case("persymmetric", SQUARE, lambda w: [families.persymmetric(w.a.weight)], 15, 15, ("persymmetric(a.weight)",)),
    Case(
        "doubly centred", MATRIX, lambda w: [families.doubly_centred(w.a.weight)], 11, 24, ("doubly_centred(a.weight)",)
    ),
    Case("banded", MATRIX, lambda w: [families.banded(w.a.weight, 1, 2)], 16, 0, ("banded(a.weight, 1, 2)",)),
    Case(
        "banded with row sums",
        MATRIX,
        lambda w: [families.banded(w.a.weight, 1, 2), w.a.weight.sum(dim=1) == 1],
        21,
        14,
        ("banded(a.weight, 1, 2)", "a.weight.sum(dim=1) == 1"),
    ),
    Case(
        "block diagonal",
        SQUARE,
        lambda w: [families.block_diagonal(w.a.weight, [(2, 3), (4, 3)])],
        18,
        0,
        ("block_diagonal(a.weight, [(2, 3), (4, 3)])",),
    ),
    Case(
        "kernels under quarter turns",
        {"a.weight": (2, 3, 5, 5)},
        lambda w: [families.rotations(w.a.weight)],
        108,
        36,
        ("rotations(a.weight)",),
    ),
    Case(
        "quarter turns said as an expression",
        {"a.weight": (3, 4, 4)},
        lambda w: [w.a.weight == w.a.weight.mT.flip(-1)],
        36,
        12,
        ("a.weight == a.weight.mT.flip(-1)",),
    ),
    Case(
        "kernels under turns and flips with zero mean",
        {"a.weight": (2, 3, 3, 3)},
        lambda w: [families.rotations(w.a.weight, flips=True), families.zero_mean(w.a.weight)],
        42,
        12,
        ("rotations(a.weight, flips=True)", "zero_mean(a.weight)"),
    ),
    Case(
        "second derivative",
        {"a.weight": (4, 5)},
        lambda w: [families.moments(w.a.weight, [-2, -1, 0, 1, 2], derivative=2, order=3)],
        12,
        8,
        ("moments(a.weight, [-2, -1, 0, 1, 2], derivative=2, order=3)",),
    ),
    Case(
        "second derivative to the fourth order",
        {"a.weight": (4, 5)},
        lambda w: [families.moments(w.a.weight, [-2, -1, 0, 1, 2], derivative=2, order=4)],
        16,
        4,
        ("moments(a.weight, [-2, -1, 0, 1, 2], derivative=2, order=4)",),
    ),
    Case(
        "dense layer as a convolution",
        {"a.weight": (2 * 9, 2 * 16)},
        lambda w: [families.convolution(w.a.weight, (4, 4), 2)],
        18 * 32 - 16,
        16,
        ("convolution(a.weight, (4, 4), 2)",),
    ),
    Case(
        "tensors under all permutations",
        {"a.weight": (16, 16), "a.bias": (16,)},
        lambda w: [
            families.equivariant(
                w.a.weight, [powers(p, 2) for p in (SWAP, CYCLE)], [powers(p, 2) for p in (SWAP, CYCLE)]
            ),
            families.equivariant(w.a.bias, outputs=[powers(p, 2) for p in (SWAP, CYCLE)]),
        ],
        256 - 15 + 16 - 2,
        17,
    ),
    Case(
        "tensors under rotations of space",
        {"a.weight": (9, 9)},
        lambda w: [
            families.equivariant(
                w.a.weight,
                [kronecker_power(r, 2) for r in (SPACE, ABOUT)],
                [kronecker_power(r, 2) for r in (SPACE, ABOUT)],
            )
        ],
        78,
        3,
    ),
    Case(
        "tensors under the algebra of rotations of space",
        {"a.weight": (9, 9)},
        lambda w: [
            families.equivariant(
                w.a.weight,
                [kronecker_sum(x, 2) for x in (TURN, TILT)],
                [kronecker_sum(x, 2) for x in (TURN, TILT)],
                lie_algebra=True,
            )
        ],
        78,
        3,
    ),
    Case(
        "equivariant under signed turns",
        {"a.weight": (4, 4)},
        lambda w: [families.equivariant(w.a.weight, [SIGNED], [SIGNED])],
        12,
        4,
    ),
    Case(
        "vectors in two bases under rotations of the plane",
        {"a.weight": (3, 2, 2)},
        lambda w: [families.equivariant(w.a.weight, [PLANE], [TURNED])],
        6,
        6,
    ),
    Case(
        "invariant under a lie algebra",
        {"a.weight": (5, 3)},
        lambda w: [families.equivariant(w.a.weight, outputs=[TURN], lie_algebra=True)],
        10,
        0,
    ),
    Case(
        "tensors and vectors under rotations and reflections",
        {"a.weight": (9, 4), "a.bias": (9,)},
        lambda w: [
            families.equivariant(w.a.weight, groups.O(3).T(1) + groups.O(3).T(0), groups.O(3).T(2)),
            families.equivariant(w.a.bias, outputs=groups.O(3).T(2)),
        ],
        36 + 9 - 2,
        2,
    ),
    Case(
        "points of space under rotations and permutations",
        {"a.weight": (6, 6)},
        lambda w: [families.equivariant(w.a.weight, *2 * [groups.SO(2).T(1) @ groups.S(3).T(1)])],
        36 - 4,
        4,
    ),
)
