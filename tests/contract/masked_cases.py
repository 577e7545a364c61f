"""Cases about many entries that masks, slices and arrays of values fix, alone and beside rules that read them."""

from __future__ import annotations

import numpy as np

from affinet import families
from tests.contract.case import Case, numbers

MATRIX = {"a.weight": (5, 7)}
PAIR = {"a.weight": (5, 7), "b.weight": (7, 5)}
SQUARE = {"a.weight": (6, 6), "a.bias": (6,)}
MASK = numbers(5, 7, seed=7) > -0.3
SOME = numbers(6, 6, seed=8) > 0.4

MASKED = (
    Case("values by a mask", MATRIX, lambda w: [w.a.weight[MASK] == numbers(int(MASK.sum()))], 19, 0),
    Case("zeros by a product with a mask", MATRIX, lambda w: [MASK * w.a.weight == 0], 19, 0),
    Case(
        "rows by a mask in memory of another order",
        MATRIX,
        lambda w: [families.fix(w.a.weight, where=np.arange(5) != 2, value=numbers(4, 7))],
        28,
        0,
        memory={"a.weight": "transposed"},
    ),
    Case("a mask and row sums", MATRIX, lambda w: [w.a.weight[MASK] == 0, w.a.weight.sum(dim=1) == 1], 24, 11),
    Case(
        "values by a mask, rows and columns",
        MATRIX,
        lambda w: [w.a.weight[MASK] == 0.25, w.a.weight.sum(dim=1) == 1.4, w.a.weight.sum(dim=0) == 1],
        30,
        5,
    ),
    Case(
        "columns fixed under row sums",
        MATRIX,
        lambda w: [w.a.weight[:, 2:5] == numbers(3), w.a.weight.sum(dim=1) == 1],
        20,
        15,
    ),
    Case(
        "a mask across a transposed tie", PAIR, lambda w: [w.a.weight[MASK] == 0.5, w.b.weight == -w.a.weight.T], 54, 16
    ),
    Case(
        "a mask of a symmetric matrix",
        SQUARE,
        lambda w: [
            w.a.weight[SOME & SOME.T] == 0.25,
            families.symmetric(w.a.weight),
            w.a.weight[0].sum() == w.a.bias[0],
        ],
        19,
        15,
    ),
    Case(
        "a mask of frozen values",
        PAIR,
        lambda w: [w.a.weight[MASK] == 2 * w.b.weight.T[MASK], w.a.weight[:, 0].sum() == w.b.weight[0, 0]],
        20,
        20,
        frozen=("b.weight",),
    ),
    Case(
        "a mask under a dense matrix",
        MATRIX,
        lambda w: [w.a.weight[MASK] == 1, families.linear([w.a.weight], numbers(3, 35), numbers(3))],
        22,
        13,
    ),
)
