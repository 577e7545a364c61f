"""The violation that docs/numerics.md promises for every kind of block with inequalities, in every dtype."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.kernels.torch import looped

PAGE = Path(__file__).parents[2] / "docs" / "numerics.md"
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
ROWS, WIDTH, SINKS = 12, 260, 16
Measured = tuple[np.ndarray, np.ndarray]
"""By how much inequalities or equations are missed, and the sizes that this is a share of."""


@dataclass(frozen=True, eq=False)
class Kind:
    """`rules(w)` over a (12, 260) weight become a block called `block`; `measure(w)` is by how much each is missed."""

    name: str
    block: str
    rules: Callable[[Any], Any]
    measure: Callable[[np.ndarray], list[Measured]]

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def draw(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


ROW, LOW = draw(1).standard_normal(WIDTH), draw(2).standard_normal((ROWS, WIDTH))


def below(w: np.ndarray, bound: Any) -> Measured:
    """`w >= bound`, where a bound of zero is to hold to the bit."""
    return (bound - w).clip(0), np.abs(w) + np.abs(bound) + np.finfo(np.float64).tiny


def sums(w: np.ndarray, row: Any, rhs: float, *, equation: bool, component: bool = False) -> Measured:
    """`w @ row == rhs`, or at most that, in NumPy's long double."""
    terms = w.astype(np.longdouble) * row
    gap = terms.sum(axis=1) - rhs
    size = np.abs(terms).sum(axis=1) + abs(rhs)
    if component:
        size = size + np.linalg.norm(np.broadcast_to(row, w.shape[1:])) * np.linalg.norm(w)
    return (np.abs(gap) if equation else gap.clip(0)), size


def in_order(w: np.ndarray, gap: float) -> Measured:
    rise = np.diff(w.astype(np.longdouble), axis=1)
    size = np.abs(w[:, 1:]) + np.abs(w[:, :-1]) + np.finfo(np.float64).tiny
    return (gap - rise).clip(0), size + gap + (gap > 0) * np.sqrt(2) * np.linalg.norm(w, axis=1, keepdims=True)


KINDS = (
    Kind("bounds at 0", "Cone", lambda w: [w >= 0], lambda w: [below(w, 0.0)]),
    Kind("bounds", "Cone", lambda w: [w >= LOW], lambda w: [below(w, LOW)]),
    Kind(
        "simplex",
        "Cone",
        lambda w: families.simplex(w, dim=1),
        lambda w: [below(w, 0.0), sums(w, 1.0, 1.0, equation=True)],
    ),
    Kind(
        "sum with bounds",
        "Cone",
        lambda w: [affinet.between(-1, w, 1), w @ ROW <= -3],
        lambda w: [below(w, -1.0), below(-w, -1.0), sums(w, ROW, -3.0, equation=False)],
    ),
    Kind("order", "Chain", lambda w: [families.monotone(w)], lambda w: [in_order(w, 0.0)]),
    Kind("order with gaps", "Chain", lambda w: [families.monotone(w, gap=0.01)], lambda w: [in_order(w, 0.01)]),
    Kind(
        "sum of magnitudes",
        "Ball",
        lambda w: [families.l1_ball(w, 1.0, dim=1)],
        lambda w: [sums(np.abs(w), 1.0, 1.0, equation=False)],
    ),
    Kind(
        "Euclidean length",
        "Ball",
        lambda w: [families.l2_ball(w, 1.0, dim=1)],
        lambda w: [sums(np.linalg.norm(w.astype(np.longdouble), axis=1)[:, None], 1.0, 1.0, equation=False)],
    ),
    Kind(
        "small polyhedra",
        "Polyhedron",
        lambda w: [w[:, :4].sum(dim=1) <= 1, w[:, 2:6] @ ROW[:4] >= 2, w[:, :6] >= -1],
        lambda w: [
            below(w[:, :6], -1.0),
            *(sums(row[None, :4], 1.0, 1.0, equation=False, component=True) for row in w),
            *(sums(row[None, 2:6], -ROW[:4], -2.0, equation=False, component=True) for row in w),
        ],
    ),
    Kind(
        "one polyhedron",
        "Polyhedron",
        lambda w: families.transport(w[:, :SINKS], 1, ROWS / SINKS),
        lambda w: [
            below(w[:, :SINKS], 0.0),
            sums(w[:, :SINKS], 1.0, 1.0, equation=True, component=True),
            sums(w[:, :SINKS].T, 1.0, ROWS / SINKS, equation=True, component=True),
        ],
    ),
)


@cache
def promised() -> dict[str, tuple[str, tuple[float, ...]]]:
    """Kind → its block, and spacings by dtype: read from the table of the page."""
    text = PAGE.read_text(encoding="utf-8")
    lines = text.split("<!-- promises of inequalities -->")[1].split("<!-- end of promises of inequalities -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines.strip().splitlines()[2:]]
    return {row[0]: (row[1], tuple(map(float, row[3:7]))) for row in rows}


def hard() -> Iterator[tuple[str, np.ndarray]]:
    """Weights that are hard on sums: far away, of many sizes, and with one that is much larger than the rest."""
    normal = draw(3).standard_normal((ROWS, WIDTH))
    yield "normal", normal
    yield "far", 1e3 * normal
    yield "many sizes", normal * 10.0 ** draw(4).uniform(-4, 4, normal.shape)
    yield "one large", np.concatenate([np.full((ROWS, 1), 1e4), normal[:, 1:]], axis=1)


def test_the_page_lists_every_kind() -> None:
    assert [(name, block) for name, (block, _) in promised().items()] == [(kind.name, kind.block) for kind in KINDS]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_rules_hold_to_what_is_promised(kind: Kind, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = affinet.plan(kind.rules(affinet.weights({"w": (ROWS, WIDTH)}).w))
    assert {type(block).__name__ for block in plan.blocks} == {kind.block}
    limit, found = promised()[kind.name][1][DTYPES.index(dtype)], {}
    for way in ("compiled", "torch"):
        monkeypatch.setattr(looped, "available", looped.available if way == "compiled" else lambda: False)
        for name, numbers in hard():
            given = {"w": torch.tensor(numbers).to(dtype)}
            w = plan.projector(given).project(given)["w"].double().numpy()
            shares = [float((gap / size).max()) for gap, size in kind.measure(w)]
            found[f"{name}, {way}"] = max(shares) / torch.finfo(dtype).eps
    worst = max(found, key=lambda name: found[name])
    assert found[worst] <= limit, f"{worst}: {found[worst]:.3g} spacings"
