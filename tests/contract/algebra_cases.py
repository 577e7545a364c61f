"""Cases about matrices times weights, given equations, small components and a large one."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from affinet import families
from tests.contract.case import EVERY_WAY, Case, numbers

TWO = {"a.weight": (3, 4), "b.weight": (4, 3)}
MATRIX = {"a.weight": (5, 7)}
LEFT, RIGHT, INSIDE = numbers(2, 5, seed=1), numbers(7, 2, seed=2), numbers(5, 7, seed=3)
ACROSS = sparse.coo_array(numbers(10, 24, seed=4) * (np.random.default_rng(5).random((10, 24)) < 0.2))
TRIPLES = sparse.csr_array(
    (
        np.random.default_rng(6).uniform(0.5, 2.0, 1620),
        (
            np.repeat(np.arange(540), 3),
            np.concatenate([np.random.default_rng([7, k]).choice(600, 3, False) for k in range(540)]),
        ),
    ),
    shape=(540, 600),
)
LARGE = frozenset({"large", EVERY_WAY})


ALGEBRA = (
    Case("matrix on the left", MATRIX, lambda w: [LEFT @ w.a.weight == LEFT @ INSIDE], 14, 21),
    Case("matrix on the right", MATRIX, lambda w: [w.a.weight @ RIGHT == INSIDE @ RIGHT], 10, 25),
    Case(
        "matrices on both sides",
        MATRIX,
        lambda w: [LEFT @ w.a.weight == LEFT @ INSIDE, w.a.weight @ RIGHT == INSIDE @ RIGHT],
        20,
        15,
    ),
    Case("matrices around", MATRIX, lambda w: [LEFT @ w.a.weight @ RIGHT == 1], 4, 31),
    Case(
        "matrix on the left with one fixed entry",
        MATRIX,
        lambda w: [LEFT @ w.a.weight == 1, w.a.weight[1, 2] == 0.5],
        15,
        20,
    ),
    Case(
        "sparse equations over two layers",
        TWO,
        lambda w: [families.linear([w.a.weight, w.b.weight], ACROSS, np.arange(10.0))],
        10,
        13,
    ),
    Case(
        "dense equations",
        TWO,
        lambda w: [families.linear([w.a.weight, w.b.weight], numbers(5, 24), numbers(5))],
        5,
        19,
    ),
    Case(
        "dense equations that repeat",
        TWO,
        lambda w: [families.linear([w.a.weight, w.b.weight], np.vstack([numbers(5, 24)] * 2))],
        5,
        19,
    ),
    Case(
        "badly scaled equations",
        TWO,
        lambda w: [
            families.linear(
                [w.a.weight, w.b.weight],
                10.0 ** np.array([[-9], [0], [9]]) * numbers(3, 24),
                10.0 ** np.array([-9, 0, 9]),
            )
        ],
        3,
        21,
    ),
    Case(
        "subspace",
        {"a.weight": (3, 4)},
        lambda w: [families.subspace([w.a.weight], numbers(12, 4), numbers(12))],
        8,
        4,
    ),
    Case(
        "many small components",
        {"a.weight": (20, 3), "b.weight": (20,)},
        lambda w: [
            (w.a.weight * numbers(20, 3)).sum(dim=1) == w.b.weight,
            (w.a.weight[:, :2] * numbers(20, 2)).sum(dim=1) + w.b.weight == 1,
        ],
        40,
        40,
    ),
    Case(
        "frozen layer in the rules",
        {**TWO, "c.weight": (3, 2)},
        lambda w: [
            w.a.weight.sum(dim=1) == w.c.weight.sum(dim=1),
            w.b.weight[0, 0] == w.c.weight[1, 1],
            w.b.weight[1] == 2 * w.b.weight[2],
        ],
        7,
        18,
        (
            "a.weight.sum(dim=1) == c.weight.sum(dim=1)",
            "b.weight[0, 0] == c.weight[1, 1]",
            "b.weight[1] == 2*b.weight[2]",
        ),
        frozen=("c.weight",),
    ),
    Case(
        "large irregular component",
        {"a.weight": (20, 20), "b.weight": (200,)},
        lambda w: [families.linear([w.a.weight, w.b.weight], TRIPLES, np.linspace(-1, 1, 540))],
        540,
        26,
        tags=LARGE,
    ),
)
