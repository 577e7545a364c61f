"""Cases of a few equations on top of regular rules, and of sums along axes that overlap."""

from __future__ import annotations

import numpy as np

from affinet import families
from tests.contract.case import Case, numbers

MATRIX = {"a.weight": (5, 7)}
SQUARE = {"a.weight": (6, 6)}
KERNELS = {"conv.weight": (4, 3, 3, 2)}
LAYERS = {"a.weight": (5, 7), "b.weight": (6, 6), "b.bias": (6,)}
STEPS = np.arange(1.0, 6)[:, None] * np.ones(7)


BORDERED = (
    Case(
        "rows and columns with one fixed entry",
        MATRIX,
        lambda w: [w.a.weight.sum(dim=1) == 7, w.a.weight.sum(dim=0) == 5, w.a.weight[2, 3] == 0.3],
        12,
        23,
        ("a.weight.sum(dim=1) == 7", "a.weight.sum(dim=0) == 5", "a.weight[2, 3] == 0.3"),
    ),
    Case(
        "rows and columns with ties",
        MATRIX,
        lambda w: [
            w.a.weight.sum(dim=1) == 0,
            w.a.weight.sum(dim=0) == 0,
            w.a.weight[2, 3] == w.a.weight[1, 1],
            w.a.weight[1, 1] == -w.a.weight[4, 0],
        ],
        13,
        22,
        memory={"a.weight": "transposed"},
    ),
    Case(
        "rows and columns and the whole",
        MATRIX,
        lambda w: [w.a.weight.sum(dim=1) == 7, w.a.weight.sum(dim=0) == 5, w.a.weight.sum() == 35],
        11,
        24,
        ("a.weight.sum(dim=1) == 7", "a.weight.sum(dim=0) == 5", "a.weight.sum() == 35"),
    ),
    Case(
        "rows and columns with a sum that follows",
        MATRIX,
        lambda w: [w.a.weight.sum(dim=1) == 7, w.a.weight.sum(dim=0) == 5, (STEPS * w.a.weight).sum() == 105],
        11,
        24,
    ),
    Case(
        "rows and columns with dense equations",
        MATRIX,
        lambda w: [
            w.a.weight.sum(dim=1) == 7,
            w.a.weight.sum(dim=0) == 5,
            numbers(2, 35) @ w.a.weight.flatten() == numbers(2),
        ],
        13,
        22,
    ),
    Case(
        "rows and columns with badly scaled equations",
        MATRIX,
        lambda w: [
            w.a.weight.sum(dim=1) == 7,
            w.a.weight.sum(dim=0) == 5,
            1e-9 * w.a.weight[0, :3].sum() == 1e-9,
            1e9 * w.a.weight[1:, 0].sum() == 3e9,
            1e5 * (w.a.weight[0, :3].sum() + w.a.weight[1:, 0].sum()) == 4e5,
        ],
        13,
        22,
    ),
    Case(
        "rows and columns and half a row",
        MATRIX,
        lambda w: [w.a.weight.sum(dim=1) == 7, w.a.weight.sum(dim=0) == 5, w.a.weight[0, :3].sum() == 2],
        12,
        23,
    ),
    Case(
        "symmetric with two row sums",
        SQUARE,
        lambda w: [families.symmetric(w.a.weight), w.a.weight[:2].sum(dim=1) == 1],
        17,
        15,
        ("symmetric(a.weight)", "a.weight[:2].sum(dim=1) == 1"),
    ),
    Case(
        "symmetric with row sums and a fixed entry",
        SQUARE,
        lambda w: [families.symmetric(w.a.weight), w.a.weight.sum(dim=1) == 1, w.a.weight[0, 1] == 0.3],
        22,
        14,
    ),
    Case(
        "skew with half of it summed",
        SQUARE,
        lambda w: [families.skew(w.a.weight), w.a.weight[:4, 2:].sum() == 1],
        22,
        14,
    ),
    Case(
        "layers tied with a dense equation",
        {"a": (5, 7), "b": (5, 7), "c": (4,)},
        lambda w: [w.a == 2 * w.b + STEPS, (numbers(5, 7) * w.a).sum() + w.c.sum() == 3],
        36,
        38,
    ),
    Case(
        "layers equal but for signs with two entries tied",
        {"a": (5, 7), "b": (7, 5)},
        lambda w: [w.a == -w.b.T, (numbers(5, 7) * w.a).sum() == 1, w.a[0, 0] == w.a[4, 6], w.b[3, 3] == 0.3],
        38,
        32,
    ),
    Case(
        "two layers and a bias held together",
        LAYERS,
        lambda w: [
            w.a.weight.sum(dim=1) == 7,
            w.a.weight.sum(dim=0) == 5,
            families.symmetric(w.b.weight),
            w.b.weight.sum(dim=1) == 1,
            w.a.weight[0, 0] == w.b.weight[1, 1],
            w.a.weight[0, 1] == w.b.bias[2],
            w.b.weight[:, 0].sum() + w.b.bias.sum() == 2,
        ],
        11 + 21 + 3,
        42,
    ),
    Case(
        "equal columns and sums with one tie",
        MATRIX,
        lambda w: [
            w.a.weight[:, 0] == w.a.weight[:, 1],
            w.a.weight.sum(dim=1) == 1,
            w.a.weight[:3, 0] == w.a.weight[4, 0],
        ],
        13,
        22,
    ),
)

OVERLAPPING = (
    Case(
        "kernel sums along pairs of axes",
        KERNELS,
        lambda w: [w.conv.weight.sum(dim=(2, 3)) == 0, w.conv.weight.sum(dim=(1, 2)) == 0],
        16,
        56,
        ("conv.weight.sum(dim=(2, 3)) == 0", "conv.weight.sum(dim=(1, 2)) == 0"),
    ),
    Case(
        "kernel sums that imply each other",
        KERNELS,
        lambda w: [
            w.conv.weight.sum(dim=(2, 3)) == 1,
            w.conv.weight.sum(dim=(1, 2)) == 1.5,
            w.conv.weight.sum(dim=(1, 2, 3)) == 3,
        ],
        16,
        56,
    ),
    Case(
        "kernel sums along every pair of axes",
        KERNELS,
        lambda w: [w.conv.weight.sum(dim=axes) == 0 for axes in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))],
        32,
        40,
    ),
    Case(
        "kernel sums that overlap and a fixed entry",
        KERNELS,
        lambda w: [
            w.conv.weight.sum(dim=(2, 3)) == 0,
            w.conv.weight.sum(dim=(1, 2)) == 0,
            w.conv.weight[0, 0, 0, 0] == 0.3,
        ],
        17,
        55,
    ),
)
