"""Cases of equations that tie the rows of several matrices, crossed by sums of their columns."""

from __future__ import annotations

import numpy as np

from tests.contract.case import EVERY_WAY, Case

PAIR = {"a.weight": (5, 7), "b.weight": (5, 4)}
STEPS = np.arange(5.0)[:, None] / 10 + 0.2


JOINED = (
    Case(
        "tied columns of doubly centred matrices",
        PAIR,
        lambda w: [
            w.a.weight.sum(dim=0) == 0,
            w.a.weight.sum(dim=1) == 0,
            w.b.weight.sum(dim=0) == 0,
            w.b.weight.sum(dim=1) == 0,
            w.a.weight[:, :2] == w.b.weight[:, 1:3],
        ],
        27,
        28,
        (
            "a.weight.sum(dim=0) == 0",
            "a.weight.sum(dim=1) == 0",
            "b.weight.sum(dim=0) == 0",
            "b.weight.sum(dim=1) == 0",
            "a.weight[:, :2] == b.weight[:, 1:3]",
        ),
        tags=frozenset({EVERY_WAY}),
    ),
    Case(
        "columns opposite to rows but for a shift",
        {"a.weight": (5, 7), "b.weight": (4, 5)},
        lambda w: [
            w.a.weight.sum(dim=0) == 1,
            w.a.weight.sum(dim=1) == 1.4,
            w.b.weight.sum(dim=0) == 0.8,
            w.b.weight.sum(dim=1) == 1,
            w.a.weight[:, :2] == STEPS - w.b.weight[1:3].T,
        ],
        27,
        28,
    ),
    Case(
        "combinations of columns of three matrices",
        {**PAIR, "c.weight": (5, 3)},
        lambda w: [
            *(layer.weight.sum(dim=dim) == 0 for layer in (w.a, w.b, w.c) for dim in (0, 1)),
            2 * w.a.weight[:, 0] + w.b.weight[:, 1] == 3 * w.c.weight[:, 2],
            w.a.weight[:, 3] == -w.c.weight[:, 0],
        ],
        34,
        36,
    ),
    Case(
        "columns that are equal and opposite to others",
        PAIR,
        lambda w: [
            w.a.weight.sum(dim=0) == 0,
            w.a.weight.sum(dim=1) == 0,
            w.b.weight.mean(dim=0) == 0,
            w.b.weight.mean(dim=1) == 0,
            w.a.weight[:, 0] == w.b.weight[:, 0],
            w.a.weight[:, 0] == -w.b.weight[:, 0],
            w.a.weight[:, 1] == w.a.weight[:, 2],
            w.a.weight[:, 2] == -w.b.weight[:, 3],
        ],
        35,
        20,
    ),
    Case(
        "tied columns of one doubly centred matrix",
        {"a.weight": (5, 7)},
        lambda w: [
            w.a.weight.sum(dim=0) == 0,
            w.a.weight.sum(dim=1) == 0,
            w.a.weight[:, :2] == w.a.weight[:, 3:5],
        ],
        19,
        16,
    ),
)
