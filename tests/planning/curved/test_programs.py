"""Programs of nonlinear equations against the oracles: evaluation in plain NumPy, and autograd's derivatives."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

import affinet
from affinet.blocks.curved import Curved
from affinet.blocks.curved_set import CurvedSet
from affinet.blocks.namespace import NumPy
from affinet.errors import InfeasibleError
from affinet.kernels.torch.torch_namespace import Torch
from affinet.language.evaluation import evaluate
from affinet.planning.curved.curved_blocks import separate_curved
from affinet.planning.curved.linearizing import derivatives_at, linearized
from affinet.planning.overlaps.fixed_entries import FixedEntries, OtherRules, rows_without
from affinet.system.rows import concatenate
from affinet.system.system import System
from tests.planning.curved.random_equations import SHAPES, RandomEquations

SEEDS = range(60)


def flat(point: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([point[name].ravel() for name in sorted(point)])


def differences(system: System, point: dict[str, np.ndarray]) -> np.ndarray:
    """`∂c/∂w` by central differences."""
    names = [parameter.name for parameter in system.layout.parameters]
    columns = []
    for name in names:
        for place in range(point[name].size):
            sides = []
            for step in (1e-5, -1e-5):
                moved = {k: v.copy() for k, v in point.items()}
                moved[name].reshape(-1)[place] += step
                sides.append(np.concatenate([evaluate(r.expression, moved).ravel() for r in system.curved]))
            columns.append((sides[0] - sides[1]) / 2e-5)
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("seed", SEEDS)
def test_derivatives_are_those_of_differences(seed: int) -> None:
    generator = RandomEquations(seed)
    system = System.of(generator.rules())
    if not system.curved:
        return
    derivatives = derivatives_at(system, list(system.curved_rules), generator.point).toarray()
    expected = differences(system, generator.point)
    size = np.abs(expected).max(axis=1, keepdims=True)
    assert np.abs(derivatives - expected).max() <= 1e-6 * size.max()
    assert (np.abs(derivatives - expected) <= 1e-6 * size + 1e-9).all()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("xp", [NumPy(), Torch()], ids=["numpy", "torch"])
def test_cells_compute_values_and_derivatives_of_the_rules(seed: int, xp: Any) -> None:
    generator = RandomEquations(seed)
    point = {
        name: value + 0.1 * generator.random.standard_normal(value.shape) for name, value in generator.point.items()
    }
    system = System.of(generator.rules())
    linear = system.rows(range(len(system.rules)))
    fixed = FixedEntries([], system)
    over_free = partial(rows_without, fixed=fixed, layout=system.layout)
    blocks, near = separate_curved(OtherRules([], [], [], linear), system, fixed, over_free)
    others = near.equations
    rows = linearized(system, point).rows(range(len(system.every)))
    w = flat({parameter.name: point[parameter.name] for parameter in system.layout.parameters})
    expected, values = rows.matrix(len(w)).toarray(), []
    found = []
    for block in blocks:
        columns = block.entries.columns(np.arange(block.size), system.layout)
        if not isinstance(block.set, CurvedSet):
            continue
        order = np.arange(block.size) if block.order is None else block.order
        cells = columns[order].reshape(block.set.shape)
        entries = w[cells] if isinstance(xp, NumPy) else torch.tensor(w[cells])
        value, _, derivative = (np.asarray(part) for part in block.set.program.linearized(xp, entries))
        values.append(value.ravel())
        for cell in range(len(cells)):
            for row in derivative[cell]:
                full = np.zeros(len(w))
                full[cells[cell]] = row
                found.append(full)
    in_generic = [n for block in blocks if isinstance(block.set, CurvedSet) for n in block.rules]
    chosen = np.isin(rows.rule, in_generic) & ~np.isin(np.arange(rows.count), _rows_elsewhere(rows, others))
    assert len(found) == int(chosen.sum())
    if len(found):
        first, second = (part[np.lexsort(np.round(part, 9).T)] for part in (np.array(found), expected[chosen]))
        assert np.allclose(first, second, rtol=1e-9, atol=1e-9 * np.abs(second).max())


def _rows_elsewhere(rows: Any, others: OtherRules) -> list[int]:
    """The rows of linear equations that share no entry with nonlinear ones."""
    pairs = set(zip(others.rows.rule.tolist(), others.rows.index.tolist(), strict=True))
    return [k for k in range(rows.count) if (int(rows.rule[k]), int(rows.index[k])) in pairs]


@pytest.mark.parametrize("seed", SEEDS)
def test_projections_are_those_of_a_dense_decomposition(seed: int) -> None:
    """The tangent against singular vectors of all derivatives, and the return against the equations."""
    generator = RandomEquations(seed)
    plan = affinet.plan(generator.rules())
    near = {
        name: value + 0.02 * generator.random.standard_normal(value.shape) for name, value in generator.point.items()
    }
    names = [parameter.name for parameter in plan.parameters]
    projector = plan.projector({name: near[name] for name in names})
    landed = projector.project({name: near[name] for name in names})
    for rule in plan.system.every:
        terms = np.abs(evaluate(rule.expression, landed))
        scale = float(np.max(np.abs(rule.expression.constant), initial=1e-300))
        assert float(terms.max()) <= 1e-11 * scale, rule.name
    system = linearized(plan.system, landed)
    matrix = system.rows(range(len(system.rules))).matrix(system.layout.size).toarray()
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    _, s, vt = np.linalg.svd(matrix / np.where(norms > 0, norms, 1.0))
    rank = int((s > 1e-6 * s[0]).sum())
    vector = generator.random.standard_normal(system.layout.size)
    expected = vector - vt[:rank].T @ (vt[:rank] @ vector)
    parts, first = {}, 0
    for parameter in plan.parameters:
        parts[parameter.name] = vector[first : first + parameter.size].reshape(parameter.shape)
        first += parameter.size
    tangent = projector.tangent(parts, at=landed)
    found = np.concatenate([tangent[name].ravel() for name in names])
    assert np.abs(found - expected).max() <= 1e-8 * np.abs(vector).max()
    again = projector.project(landed)
    assert all(np.allclose(again[name], landed[name], rtol=4e-16, atol=0.0) for name in names)


def test_equal_components_are_cells_of_one_program() -> None:
    w = affinet.weights({"w": (500, 2, 2)}).w
    (block,) = affinet.plan([w.det() == 1.0]).blocks
    assert isinstance(block, Curved)
    assert isinstance(block.set, CurvedSet)
    assert block.set.shape == (500, 4)
    assert block.rank == 500


def test_shapes_are_listed() -> None:
    assert sorted(SHAPES) == ["a", "b", "c", "s"]
    assert concatenate([]).count == 0


def test_equations_between_fixed_weights_are_judged() -> None:
    large = affinet.weights({"large": (400, 400)}).large
    (fixed,) = affinet.plan([large == 2.0, large[0, 0] ** 2 + large[0, 1] == 6.0]).blocks
    assert not isinstance(fixed, Curved)
    with pytest.raises(InfeasibleError):
        affinet.plan([large == 2.0, large[0, 0] ** 2 == 3.0])


def test_fixed_weights_are_constants_of_the_others() -> None:
    w = affinet.weights({"large": (400, 400), "b": (3,)})
    plan = affinet.plan([w.large == 2.0, w.large[0, 0] * w.b[0] ** 2 + w.b[1] == 6.0])
    (curved,) = (block for block in plan.blocks if isinstance(block, Curved))
    assert curved.size == 2
    landed = plan.projector({"large": np.zeros((400, 400)), "b": np.ones(3)}).project(
        {"large": np.zeros((400, 400)), "b": np.ones(3)}
    )
    assert 2.0 * landed["b"][0] ** 2 + landed["b"][1] == pytest.approx(6.0, abs=1e-14)
