"""Random equations between columns of several matrices that have sums of rows and columns, against the dense oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import affinet
from affinet.plans.plan import Plan
from affinet.system.system import System
from tests.limits import plan_within
from tests.oracle import oracle

EPS = float(np.finfo(np.float64).eps)
SEEDS = 80


def drawn(seed: int) -> Plan:
    """The plan of rules that a random point satisfies, read from their terms."""
    draw = np.random.default_rng([7, seed])
    rows = int(draw.integers(2, 9))
    names = "abc"[: int(draw.integers(1, 4))]
    turned = {name: bool(draw.random() < 0.3) for name in names}
    widths = {name: int(draw.integers(2, 7)) for name in names}
    shapes = {name: (widths[name], rows) if turned[name] else (rows, widths[name]) for name in names}
    point = {name: draw.standard_normal(shape) for name, shape in shapes.items()}
    w: Any = affinet.weights(shapes)
    symbols = {name: w[name].T if turned[name] else w[name] for name in names}
    values = {name: point[name].T if turned[name] else point[name] for name in names}
    across = np.ones((1, rows)) if draw.random() < 0.7 else draw.integers(-2, 3, (2, rows)).astype(float)
    rules = []
    for name in names:
        rules.append(across @ symbols[name] == across @ values[name])
        if draw.random() < 0.8:
            even = draw.random() < 0.6
            within = np.ones((widths[name], 1)) if even else draw.integers(-2, 3, (widths[name], 2)).astype(float)
            rules.append(symbols[name] @ within == values[name] @ within)
    for _ in range(int(draw.integers(1, 4))):
        first, second = draw.choice(list(names), 2)
        i, j = int(draw.integers(widths[first])), int(draw.integers(widths[second]))
        factor = float(draw.choice([1.0, -1.0, 2.0]))
        if (first, i) != (second, j):
            said, wanted = (of[first][:, i] - factor * of[second][:, j] for of in (symbols, values))
            rules.append(said == wanted)
    system = System.of(rules)
    return plan_within(system, one_by_one=0, most_extra=int(draw.choice([2, 2_000])))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_projections_are_those_of_the_oracle(seed: int) -> None:
    plan = drawn(seed)
    truth = oracle(plan.system)
    assert plan.rank == truth.rank
    draw = np.random.default_rng(seed)
    given = {p.name: draw.standard_normal(p.shape) for p in plan.parameters}
    weights = {name: torch.tensor(numbers) for name, numbers in given.items()}
    gradients = {name: torch.tensor(numbers) for name, numbers in given.items()}
    projector = plan.projector(weights)
    projector.project_(weights, passes=2)
    projector.project_gradients_(gradients, weights, {})
    sizes = np.linalg.svd(truth.matrix, compute_uv=False)
    # The pseudo-inverse and the factors are off by float64's rounding times the condition number; sums have at most all
    # entries. 8: the norm of the points, which are standard normal, per entry.
    bound = 8 * truth.matrix.shape[1] * EPS * sizes[0] / sizes[truth.rank - 1]
    for found, wanted in ((weights, truth.project(given)), (gradients, truth.tangent(given))):
        for name, numbers in wanted.items():
            np.testing.assert_allclose(found[name].numpy(), numbers, rtol=0, atol=bound)


def test_some_of_them_are_joined() -> None:
    kinds = {type(block).__name__ for seed in range(SEEDS) for block in drawn(seed).blocks}
    assert {"Joined", "Commuting", "Bordered"} <= kinds
