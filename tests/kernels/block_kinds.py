"""Rules that become one block of a given kind, for every kind and every kernel of it, at any size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

import affinet
from affinet import families

Rules = Callable[[Any, int], list[affinet.Constraint]]


@dataclass(frozen=True)
class Kind:
    """`rules(w, n)` over square weights a and b of n rows, more than 256, become a block called `block`.

    `exact`: they say ±1 ties, which hold to the bit. `iterated`: no factor is kept, as where it is too large.
    """

    name: str
    block: str
    rules: Rules
    exact: bool = False
    iterated: bool = False

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def draw(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def _groups(w: Any, n: int, *, entries: int = 4, apart: int = 1) -> list[affinet.Constraint]:
    """Disjoint groups of two dense equations each."""
    places = draw(1).permutation(n * n)[: n * n // entries * entries].reshape(-1, entries)[::apart]
    numbers = draw(2).standard_normal((len(places), 2, entries))
    chosen = w.a.flatten()[places]
    return [(numbers[:, k] * chosen).sum(dim=1) == draw(3, k).standard_normal(len(places)) for k in range(2)]


def _tied_groups(w: Any, n: int) -> list[affinet.Constraint]:
    return [*_groups(w, n, apart=2), w.a == -0.5 * w.b]


def _component(w: Any, n: int) -> list[affinet.Constraint]:
    """Random equations of three terms that hang together in one large component."""
    count = n * n // 16
    terms = draw(4).integers(0, 2 * count, (count, 3))
    return [(draw(5).standard_normal((count, 3)) * w.a.flatten()[terms]).sum(dim=1) == draw(6).standard_normal(count)]


def _wide(w: Any, n: int) -> list[affinet.Constraint]:
    entries = n * n
    rows = max(3, 2**20 // entries + 1)
    return [families.linear([w.a], draw(7).standard_normal((rows, entries)), draw(8).standard_normal(rows))]


def _few(w: Any, n: int) -> list[affinet.Constraint]:
    chosen = w.a.flatten()[draw(9).choice(n * n, 200, replace=False)]
    return [families.linear([chosen], draw(9).standard_normal((9, 200)), draw(8).standard_normal(9))]


def _kept(w: Any, n: int) -> list[affinet.Constraint]:
    return [w.a.sum(dim=1) == 1, w.a.sum(dim=0) == 1]


def _tied_columns(w: Any, n: int) -> list[affinet.Constraint]:
    """A third of the columns, more than a border holds."""
    return [*_kept_by_both(w), w.a[:, : n // 3] == w.b[:, n // 3 : 2 * (n // 3)]]


def _columns_of_columns(w: Any, n: int) -> list[affinet.Constraint]:
    """Dense equations about the columns of two matrices, of which one lies transposed."""
    numbers = draw(5).standard_normal((3, n))
    return [*_kept_by_both(w), w.a @ numbers.T == w.b.T @ numbers[:, ::-1].T]


def _kept_by_both(w: Any) -> list[affinet.Constraint]:
    return [weight.sum(dim=dim) == 1 for weight in (w.a, w.b) for dim in (0, 1)]


KINDS = (
    Kind("fixed", "Fixed", lambda w, n: [w.a[:, ::2] == draw(0).standard_normal((n, (n + 1) // 2))]),
    Kind("ties", "Ties", lambda w, n: [families.share(w.a, draw(1).integers(0, n * n // 3, (n, n)))], exact=True),
    Kind("ties of pairs", "Ties", lambda w, n: [w.a.flatten()[_order(n)] == w.b.flatten()], exact=True),
    Kind(
        "opposite ties",
        "Ties",
        lambda w, n: [w.a.flatten()[_order(n)][: n * n // 2] == -w.a.flatten()[_order(n)][n * n // 2 :]],
        exact=True,
    ),
    Kind("scaled ties", "Ties", lambda w, n: [w.a.flatten()[_order(n)] == 3 * w.b.flatten() + 0.7]),
    Kind("even sums", "Slices", lambda w, n: [w.a.sum(dim=1) == draw(2).standard_normal(n)]),
    Kind("slices", "Slices", lambda w, n: [draw(3).standard_normal((3, n)) @ w.a == draw(4).standard_normal((3, n))]),
    Kind("sums both ways", "Commuting", _kept),
    Kind(
        "product",
        "Commuting",
        lambda w, n: [draw(5).standard_normal((2, n)) @ w.a == 0, w.a @ draw(6).standard_normal((n, 2)) == 0],
    ),
    Kind("symmetric", "Mirror", lambda w, n: [families.symmetric(w.a)], exact=True),
    Kind("shifted mirror", "Mirror", lambda w, n: [w.a - w.a.T == _skew(n)]),
    Kind("symmetric sums", "Commuting", lambda w, n: [families.symmetric(w.a), w.a.sum(dim=1) == 1]),
    Kind("transposed", "Pairs", lambda w, n: [w.a == w.b.T], exact=True),
    Kind("multiples", "Pairs", lambda w, n: [w.a == 3 * w.b.T]),
    Kind("shifted pairs", "Pairs", lambda w, n: [w.a == 0.3 * w.b + draw(7).standard_normal((n, n))]),
    Kind("groups", "Dense", _groups),
    Kind("tied groups", "Dense", _tied_groups),
    Kind("few equations", "Dense", _few),
    Kind("wide", "Dense", _wide),
    Kind("factored", "Sparse", _component),
    Kind("iterated", "Sparse", _component, iterated=True),
    Kind("tied columns", "Joined", _tied_columns),
    Kind("columns of columns", "Joined", _columns_of_columns),
    Kind("bordered", "Bordered", lambda w, n: [*_kept(w, n), w.a[1, 2] == 0.3, w.a[0, :3].sum() == 0.5]),
)


def _order(n: int) -> np.ndarray:
    return draw(8).permutation(n * n)


def _skew(n: int) -> np.ndarray:
    x = draw(9).standard_normal((n, n))
    return x - x.T


@cache
def plan_of(kind: Kind, n: int) -> affinet.Plan:
    """The plan of a kind; that a block of its kind is in it is the first thing that tests check."""
    w: Any = affinet.weights({"a": (n, n), "b": (n, n)})
    plan = affinet.plan(kind.rules(w, n))
    if not kind.iterated:
        return plan
    blocks = [replace(block, factored=False) if type(block).__name__ == "Sparse" else block for block in plan.blocks]
    return replace(plan, blocks=tuple(blocks))


def weights(plan: affinet.Plan, dtype: torch.dtype, seed: int = 0) -> dict[str, Tensor]:
    """Random weights of a plan's parameters."""
    generator = torch.Generator().manual_seed(seed)
    return {p.name: torch.randn(p.shape, generator=generator, dtype=torch.float64).to(dtype) for p in plan.parameters}
