"""Large components of nonlinear equations: their programs, derivatives and projections, against dense oracles.

The roads are those that `Limits` choose: small random equations take them here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from affinet.blocks.curved import Curved
from affinet.blocks.large_curved_set import LargeCurvedSet
from affinet.blocks.programs.linear_part import Matrix, linear_part
from affinet.language.evaluation import evaluate
from affinet.planning.curved.linearizing import linearized
from affinet.plans.plan import Plan
from tests.limits import planned
from tests.planning.curved.random_equations import RandomEquations

SEEDS = range(40)
ROADS: dict[str, dict[str, int]] = {
    "factor": {"dense_curved": 0, "dense_curved_cells": 0},
    "matrix": {"dense_curved": 0, "dense_curved_cells": 0, "largest_fill": 0},
    "products": {"dense_curved": 0, "dense_curved_cells": 0, "most_written_derivatives": 0},
    "matrix products": {"dense_curved": 0, "dense_curved_cells": 0, "most_written_products": 0},
}


def large_sets(plan: Plan) -> list[tuple[Curved, LargeCurvedSet]]:
    return [(b, b.set) for b in plan.blocks if isinstance(b, Curved) and isinstance(b.set, LargeCurvedSet)]


def flat(plan: Plan, point: dict[str, Any]) -> np.ndarray:
    return np.concatenate([np.asarray(point[parameter.name]).ravel() for parameter in plan.parameters])


def oracle(plan: Plan, point: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, int]:
    """All derivatives at a point, rows of norm one, their right singular vectors, and their rank."""
    system = linearized(plan.system, point)
    matrix = system.rows(range(len(system.rules))).matrix(system.layout.size).toarray()
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    _, s, vt = np.linalg.svd(matrix / np.where(norms > 0, norms, 1.0))
    return matrix, vt, int((s > 1e-6 * s[0]).sum())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("road", ROADS)
def test_projections_are_those_of_a_dense_decomposition(road: str, seed: int) -> None:
    """The tangent against singular vectors of all derivatives, and the return against the equations."""
    generator = RandomEquations(seed)
    plan = planned(generator.rules(), **ROADS[road])
    near = {
        name: value + 0.02 * generator.random.standard_normal(value.shape) for name, value in generator.point.items()
    }
    near = {parameter.name: near[parameter.name] for parameter in plan.parameters}
    projector = plan.projector(near)
    landed = projector.project(near)
    for rule in plan.system.every:
        gaps = np.abs(evaluate(rule.expression, landed))
        scale = float(np.max(np.abs(rule.expression.constant), initial=1e-300))
        assert float(gaps.max()) <= 1e-11 * scale, rule.name
    _, vt, rank = oracle(plan, landed)
    vector = generator.random.standard_normal(plan.system.layout.size)
    expected = vector - vt[:rank].T @ (vt[:rank] @ vector)
    parts, first = {}, 0
    for parameter in plan.parameters:
        parts[parameter.name] = vector[first : first + parameter.size].reshape(parameter.shape)
        first += parameter.size
    found = flat(plan, projector.tangent(parts, at=landed))
    assert np.abs(found - expected).max() <= 1e-8 * np.abs(vector).max()
    again = projector.project(landed)
    assert all(np.allclose(again[name], landed[name], rtol=4e-16, atol=0.0) for name in near)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("road", ROADS)
def test_derivatives_are_those_of_the_rules(road: str, seed: int) -> None:
    """Products with J and Jᵀ, and `Σ|∂c/∂w||w|`, against the written derivatives of each rule."""
    generator = RandomEquations(seed)
    plan = planned(generator.rules(), **ROADS[road])
    point = {parameter.name: generator.point[parameter.name] for parameter in plan.parameters}
    matrix, _, _ = oracle(plan, point)
    entries = flat(plan, point)
    for block, large in large_sets(plan):
        columns = block.entries.columns(np.arange(block.size), plan.system.layout)
        columns = columns if block.order is None else columns[block.order]
        part = linear_part(large.program, large.written, entries[columns])
        assert isinstance(part.derivatives, Matrix) == (large.written is not None)
        jacobian = np.stack([part.times(unit) for unit in np.eye(len(columns))], axis=1)
        transposed = np.stack([part.transposed(unit) for unit in np.eye(large.equations)])
        assert np.allclose(jacobian, transposed, rtol=1e-12, atol=1e-12)
        unscaled = jacobian * part.norms[:, None]
        full = np.zeros((large.equations, matrix.shape[1]))
        full[:, columns] = unscaled
        for row in full:
            assert np.abs(matrix - row).max(axis=1).min() <= 1e-9 * np.abs(row).max()
        reach = part.limits * part.norms - large.program.sizes(large.program.numbers(entries[columns]))
        assert (reach >= np.abs(unscaled) @ np.abs(entries[columns]) * (1.0 - 1e-12)).all()
