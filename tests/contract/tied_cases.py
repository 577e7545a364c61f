"""Cases about entries that are equal, opposite, scaled or fixed, and about square matrices."""

from __future__ import annotations

import numpy as np

from affinet import families
from tests.contract.case import EVERY_WAY, Case, numbers

TWO = {"a.weight": (3, 4), "b.weight": (4, 3)}
SQUARE = {"a.weight": (6, 6)}
MATRIX = {"a.weight": (5, 7)}
MASK = np.add.outer(np.arange(5), np.arange(7)) % 2 == 0
PATTERN = np.array([[0, 1, 2, 0], [1, 2, 0, 1], [-1, 3, 3, -1]])


TIES = (
    Case("one tie", TWO, lambda w: [w.a.weight[0, 1] == w.a.weight[2, 3]], 1, 1, ("a.weight[0, 1] == a.weight[2, 3]",)),
    Case(
        "tie across layers",
        TWO,
        lambda w: [w.a.weight[0, 1] == w.b.weight[3, 0]],
        1,
        1,
        ("a.weight[0, 1] == b.weight[3, 0]",),
    ),
    Case(
        "scaled tie",
        TWO,
        lambda w: [w.a.weight[0, 0] == 3 * w.b.weight[0, 0]],
        1,
        1,
        ("a.weight[0, 0] == 3*b.weight[0, 0]",),
    ),
    Case(
        "shifted and signed ties",
        TWO,
        lambda w: [
            w.a.weight[0, 0] == -w.a.weight[1, 1],
            2 * w.a.weight[0, 1] - w.a.weight[0, 2] == 0.5,
            w.a.weight[2, 0] == 1 - w.b.weight[1, 1],
        ],
        3,
        3,
        (
            "a.weight[0, 0] == -a.weight[1, 1]",
            "2*a.weight[0, 1] - a.weight[0, 2] == 0.5",
            "a.weight[2, 0] == 1 - b.weight[1, 1]",
        ),
    ),
    Case(
        "zeros that meet an index",
        {"a.weight": (3, 4), "b.weight": (3,)},
        lambda w: [
            *(([0, 1, 1] * w.b.weight)[i] == 0 for i in range(3)),
            ([0, 1, 1] * w.b.weight)[0] == w.a.weight[0, 0],
            w.a.weight[1, 1] - w.a.weight[1, 1] == 2 * w.a.weight[0, 1],
            w.a.weight.triu()[2, 0] == w.a.weight.triu()[1, 2] - w.a.weight[2, 3],
        ],
        5,
        1,
        (
            "([0, 1, 1] * b.weight)[0] == 0",
            "([0, 1, 1] * b.weight)[1] == 0",
            "([0, 1, 1] * b.weight)[2] == 0",
            "([0, 1, 1] * b.weight)[0] == a.weight[0, 0]",
            "a.weight[1, 1] - a.weight[1, 1] == 2 * a.weight[0, 1]",
            "a.weight.triu()[2, 0] == a.weight.triu()[1, 2] - a.weight[2, 3]",
        ),
    ),
    Case("opposite rows", TWO, lambda w: [w.a.weight[0] == -w.a.weight[1]], 4, 4, ("a.weight[0] == -a.weight[1]",)),
    Case(
        "three layers tied",
        {"a": (3, 2), "b": (3, 2), "c": (3, 2)},
        lambda w: [families.tie(w.a, w.b, w.c)],
        12,
        6,
        ("tie(a, b, c)",),
    ),
    Case(
        "one row for all",
        {"a.weight": (6, 5)},
        lambda w: [w.a.weight == w.a.weight[:1]],
        25,
        5,
        ("a.weight == a.weight[:1]",),
    ),
    Case(
        "chain of scaled ties",
        {"a.weight": (1000,)},
        lambda w: [w.a.weight[:-1] == 3 * w.a.weight[1:]],
        999,
        1,
        ("a.weight[:-1] == 3*a.weight[1:]",),
    ),
    Case("chain of ties", {"a.weight": (300,)}, lambda w: [w.a.weight.diff() == 0], 299, 1, ("a.weight.diff() == 0",)),
    Case(
        "chain of shifted ties",
        {"a.weight": (40,)},
        lambda w: [w.a.weight.diff() == 0.25],
        39,
        1,
        ("a.weight.diff() == 0.25",),
    ),
    Case(
        "second ratio on a cycle",
        {"a.weight": (4,)},
        lambda w: [w.a.weight[:3] == 2 * w.a.weight[:3].roll(-1)],
        3,
        0,
        ("a.weight[:3] == 2*a.weight[:3].roll(-1)",),
    ),
    Case(
        "second ratio with a shift",
        {"a.weight": (4,)},
        lambda w: [w.a.weight[0] == 2 * w.a.weight[1], w.a.weight[0] == w.a.weight[1] + 1],
        2,
        0,
        ("a.weight[0] == 2*a.weight[1]", "a.weight[0] == a.weight[1] + 1"),
    ),
    Case(
        "cross-layer tie with transpose",
        {"decoder.weight": (6, 4), "encoder.weight": (4, 6)},
        lambda w: [w.decoder.weight == w.encoder.weight.T],
        24,
        24,
        ("decoder.weight == encoder.weight.T",),
    ),
    Case("scaled layers with shifts", {"a": (3, 4), "b": (3, 4)}, lambda w: [w.a == 2 * w.b + numbers(3, 4)], 12, 12),
    Case("shared pattern", {"a.weight": (3, 4)}, lambda w: [families.share(w.a.weight, PATTERN)], 6, 4),
    Case(
        "embedding tied to the head",
        {"embed.weight": (6, 4)},
        lambda w: [w.embed.weight.sum(dim=1) == 1, w.head.weight[0, 0] == w.head.weight[1, 1]],
        7,
        17,
        ("embed.weight.sum(dim=1) == 1", "head.weight[0, 0] == head.weight[1, 1]"),
        tied={"head.weight": "embed.weight"},
    ),
)

MATRICES = (
    Case("symmetric", SQUARE, lambda w: [families.symmetric(w.a.weight)], 15, 15, ("symmetric(a.weight)",)),
    Case(
        "symmetric at another scale",
        SQUARE,
        lambda w: [2 * w.a.weight == 2 * w.a.weight.T],
        15,
        15,
        ("2*a.weight == 2*a.weight.T",),
    ),
    Case("skew", SQUARE, lambda w: [families.skew(w.a.weight)], 21, 15, ("skew(a.weight)",)),
    Case(
        "symmetric with zero diagonal",
        SQUARE,
        lambda w: [families.symmetric(w.a.weight), w.a.weight.diagonal() == 0],
        21,
        15,
        ("symmetric(a.weight)", "a.weight.diagonal() == 0"),
    ),
    Case(
        "symmetric with row sums",
        SQUARE,
        lambda w: [families.symmetric(w.a.weight), w.a.weight.sum(dim=1) == 1],
        21,
        15,
        ("symmetric(a.weight)", "a.weight.sum(dim=1) == 1"),
        tags=frozenset({EVERY_WAY}),
    ),
    Case(
        "symmetric with fixed entries",
        SQUARE,
        lambda w: [families.symmetric(w.a.weight), w.a.weight[0, 3:] == [0.5, 1, -2], w.a.weight[4, 4] == 3],
        19,
        12,
        ("symmetric(a.weight)", "a.weight[0, 3:] == [0.5, 1, -2]", "a.weight[4, 4] == 3"),
    ),
    Case(
        "skew with fixed entries",
        SQUARE,
        lambda w: [families.skew(w.a.weight), w.a.weight[1, 2:4] == 0.25, w.a.weight[3, 1] == -0.25],
        23,
        13,
        ("skew(a.weight)", "a.weight[1, 2:4] == 0.25", "a.weight[3, 1] == -0.25"),
    ),
    Case(
        "symmetric with entries tied elsewhere",
        {**SQUARE, "a.bias": (6,)},
        lambda w: [
            families.symmetric(w.a.weight),
            w.a.bias[:2] == w.a.weight[5, :2],
            w.a.weight[2, 2] + w.a.bias[3] == 1,
        ],
        18,
        16,
        ("symmetric(a.weight)", "a.bias[:2] == a.weight[5, :2]", "a.weight[2, 2] + a.bias[3] == 1"),
    ),
    Case(
        "skew with row sums",
        SQUARE,
        lambda w: [families.skew(w.a.weight), w.a.weight.sum(dim=1) == 0],
        26,
        10,
        ("skew(a.weight)", "a.weight.sum(dim=1) == 0"),
    ),
    Case(
        "symmetric with row sums of their own",
        SQUARE,
        lambda w: [w.a.weight.sum(dim=1) == np.arange(6.0), families.symmetric(w.a.weight)],
        21,
        15,
    ),
    Case(
        "layers tied but for fixed entries",
        {"decoder.weight": (6, 4), "encoder.weight": (4, 6)},
        lambda w: [w.decoder.weight == w.encoder.weight.T, w.encoder.weight[:, 0] == 1, w.decoder.weight[5, 3] == 2],
        29,
        19,
        ("decoder.weight == encoder.weight.T", "encoder.weight[:, 0] == 1", "decoder.weight[5, 3] == 2"),
    ),
    Case(
        "symmetric corner",
        SQUARE,
        lambda w: [w.a.weight[1:4, 1:4] == w.a.weight[1:4, 1:4].T],
        3,
        3,
        ("a.weight[1:4, 1:4] == a.weight[1:4, 1:4].T",),
    ),
    Case("toeplitz", {"a.weight": (4, 6)}, lambda w: [families.toeplitz(w.a.weight)], 15, 7, ("toeplitz(a.weight)",)),
    Case(
        "circulant", {"a.weight": (5, 5)}, lambda w: [families.circulant(w.a.weight)], 20, 5, ("circulant(a.weight)",)
    ),
    Case(
        "circulant with row sums",
        {"a.weight": (5, 5)},
        lambda w: [families.circulant(w.a.weight), w.a.weight.sum(dim=1) == 1],
        21,
        4,
        ("circulant(a.weight)", "a.weight.sum(dim=1) == 1"),
    ),
    Case("trace", SQUARE, lambda w: [w.a.weight.trace() == 2], 1, 5, ("a.weight.trace() == 2",)),
    Case("lower triangular", SQUARE, lambda w: [w.a.weight.triu(1) == 0], 15, 0, ("a.weight.triu(1) == 0",)),
    Case("masked entries", MATRIX, lambda w: [families.fix(w.a.weight, MASK, 0)], 18, 0),
    Case("masked entries at values", MATRIX, lambda w: [families.fix(w.a.weight, MASK, numbers(18))], 18, 0),
    Case(
        "masked entries with row sums",
        MATRIX,
        lambda w: [families.fix(w.a.weight, MASK, 0), w.a.weight.sum(dim=1) == 1],
        23,
        12,
    ),
)
