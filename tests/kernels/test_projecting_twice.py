"""Projecting onto inequalities twice is projecting once: law 2 and law 11, of every kind and dtype."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import affinet
from affinet import families

RISING = np.arange(1.0, 9.0)
MIXED = np.array([1.0, -2.0, 0.5, 3.0, -1.0, 0.3, 2.0, 1.0])

RULES: dict[str, Callable[[affinet.Expression], list[affinet.Constraint]]] = {
    "simplex": lambda w: [families.simplex(w, 1)],
    "knapsack": lambda w: [(w * RISING).sum(dim=1) <= 1.5, w >= 0],
    "box with an equation": lambda w: [(w * MIXED).sum(dim=1) == 0.7, affinet.between(-0.5, w, 0.8)],
    "bounds": lambda w: [w >= 0],
    "chain": lambda w: [families.monotone(w, 1)],
    "chain in a box": lambda w: [families.monotone(w, 1), affinet.between(-0.5, w, 0.5)],
    "l2 ball": lambda w: [families.l2_ball(w, 0.3, dim=1)],
    "l1 ball": lambda w: [families.l1_ball(w, 0.3, dim=1)],
    "small polyhedra": lambda w: [w[:, 0] + w[:, 1] >= 0.4 + w[:, 2], w[:, 1] + w[:, 2] + w[:, 3] == 0.2, w >= -0.3],
    "a large polyhedron": lambda w: [w.sum(dim=0) <= 0.2, w.sum(dim=1) >= -0.1, w >= -0.3],
    "transport": lambda w: [families.transport(w, [1.25] * 64, [10.0] * 8)],
    "tied simplex": lambda w: [families.simplex(w, 1), w[:, 0] == w[:, 1]],
}
BESIDE_LARGE: dict[str, Callable[[affinet.Expression], list[affinet.Constraint]]] = {
    "polyhedron": lambda w: [w[:, 0] + w[:, 1] <= 1.0, w[:, 1] + w[:, 7] >= -9.0, w[:, 0] >= -5.0],
    "knapsack": lambda w: [w[:, 0] + w[:, 1] + 0.0001 * w[:, 7] <= 1.0, w >= -5.0],
    "tie": lambda w: [w[:, 0] == w[:, 1], affinet.between(-5.0, w[:, 1] + w[:, 7], 60000.0), w[:, 0] >= -5.0],
}
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def projector_and_weights(rule: str, dtype: torch.dtype) -> tuple[affinet.Projector, torch.Tensor]:
    model = torch.nn.Linear(8, 64, bias=False).to(dtype)
    w = torch.randn(64, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    return affinet.plan(RULES[rule](affinet.weights(model).weight)).projector(model), w


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rule", RULES)
def test_projecting_twice_keeps_every_bit(rule: str, dtype: torch.dtype) -> None:
    projector, w = projector_and_weights(rule, dtype)
    once = projector.project({"weight": w})
    assert not torch.equal(once["weight"], w)
    assert torch.equal(projector.project(once)["weight"], once["weight"])


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("rule", RULES)
def test_arrays_keep_every_bit_too(rule: str, dtype: type[np.floating]) -> None:
    projector, w = projector_and_weights(rule, torch.float64)
    arrays = {"weight": w.numpy().astype(dtype)}
    projector = projector.plan.projector(arrays)
    once = projector.project(arrays)
    assert np.array_equal(projector.project(once)["weight"], once["weight"])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_shares_of_one_keep_their_bits(dtype: torch.dtype) -> None:
    """What softmax gives sums to one up to the rounding of its entries, and has entries far below that rounding."""
    projector, w = projector_and_weights("simplex", dtype)
    shares = torch.softmax(4.0 * w.double(), 1).to(dtype)
    assert torch.equal(projector.project({"weight": shares})["weight"], shares)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_bound_holds_exactly_even_where_the_rest_holds_to_rounding(dtype: torch.dtype) -> None:
    projector, w = projector_and_weights("simplex", dtype)
    shares = projector.project({"weight": w})["weight"]
    tiny = torch.finfo(dtype).tiny
    below = torch.where(shares == 0.0, -tiny, shares)
    assert bool((below < 0.0).any())
    assert torch.equal(projector.project({"weight": below})["weight"], shares)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rule", ["chain", "chain in a box"])
def test_an_order_holds_exactly(rule: str, dtype: torch.dtype) -> None:
    projector, w = projector_and_weights(rule, dtype)
    rising = projector.project({"weight": w})["weight"]
    below = rising.clone()
    below[:, 4] = rising[:, 3] - torch.finfo(dtype).eps * rising[:, 3].abs()
    assert bool((below.diff(dim=1) < 0.0).any())
    projected = projector.project({"weight": below})["weight"]
    assert bool((projected.diff(dim=1) >= 0.0).all())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", BESIDE_LARGE)
def test_a_rule_holds_to_the_rounding_of_its_own_terms_beside_large_weights(name: str, dtype: torch.dtype) -> None:
    """A large weight of the same block that is not in the rule, or hardly, does not excuse a violation."""
    model = torch.nn.Linear(8, 4, bias=False).to(dtype)
    projector = affinet.plan(BESIDE_LARGE[name](affinet.weights(model).weight)).projector(model)
    w = torch.zeros(4, 8, dtype=dtype)
    w[:, 0], w[:, 1], w[:, 7] = 0.5, 1.5, 30000.0
    projected = projector.project({"weight": w})["weight"].double()
    x, y, far = projected[:, 0], projected[:, 1], projected[:, 7]
    sums = {"polyhedron": x + y - 1.0, "knapsack": x + y + 0.0001 * far - 1.0, "tie": (x - y).abs()}
    assert float(sums[name].max()) <= 3.0 * torch.finfo(dtype).eps
    assert torch.equal(projector.project({"weight": projected.to(dtype)})["weight"].double(), projected)
