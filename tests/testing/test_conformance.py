"""NumPy and torch give the truth of every case of `affinet.testing`; the cases agree with the tests' own oracle."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

import affinet
import affinet.testing
from affinet.blocks.kinds import AnyBlock
from affinet.testing import Case
from affinet.testing.equation_truth import LinearEquations
from tests.oracle import oracle

CASES = affinet.testing.cases()
each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
UNDER_ADAM = ("sums of rows", "symmetric matrix with sums", "simplex", "ball", "unit rows")


class Torch:
    """The projector for tensors, and training by gradient descent."""

    def __init__(self, plan: affinet.Plan, weights: Mapping[str, np.ndarray]) -> None:
        self.plan, self.projector = plan, plan.projector(tensors(weights))

    def project(self, weights: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        return self.projector.project(tensors(weights))

    def tangent(self, vectors: Mapping[str, np.ndarray], at: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        return self.projector.tangent(tensors(vectors), tensors(at))

    def multipliers(self, gradients: Mapping[str, np.ndarray], at: Mapping[str, np.ndarray]) -> Mapping[str, Any]:
        return self.projector.multipliers(tensors(gradients), tensors(at))

    def minimize(self, case: Case, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        # Curvatures are from 1 to 2: a rate of 2/3 leaves a third of the distance, each time. On spheres the multiplier
        # adds up to 4 to them, so that a quarter leaves at most three quarters.
        round_sets = case.name in ("ball", "unit rows", "orthonormal rows")
        steps, rate = (120, 1 / 4) if round_sets else (40, 2 / 3)
        return self.trained(case, weights, steps=steps, make=lambda p: torch.optim.SGD(p, lr=rate))

    def trained(self, case: Case, weights: Any, *, steps: int, make: Any, falling: bool = False) -> Any:
        model = torch.nn.ParameterDict({name: torch.nn.Parameter(x) for name, x in tensors(weights).items()})
        optimizer = make(model.parameters())
        affinet.project(model, optimizer, self.plan)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps) if falling else None
        parts = [
            (model[n], torch.tensor(case.quadratic.target[n]), torch.tensor(case.quadratic.curvature[n]))
            for n in case.shapes
        ]
        for _ in range(steps):
            optimizer.zero_grad()
            sum((d * (x - t) ** 2).sum() / 2 for x, t, d in parts).backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
        return {name: parameter.detach().numpy() for name, parameter in model.items()}


class TorchUnderAdam(Torch):
    """The same under Adam with a falling rate."""

    def minimize(self, case: Case, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self.trained(case, weights, steps=600, make=lambda p: torch.optim.Adam(p, lr=0.05), falling=True)


def tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(array) for name, array in arrays.items()}


@each_case
@each_dtype
def test_numpy_gives_the_truth(case: Case, dtype: str) -> None:
    measured = affinet.testing.check(affinet.Plan.projector, case, dtype)
    assert len(measured.shares) >= 9
    assert max(measured.shares.values()) <= 1.0


@each_case
@each_dtype
def test_torch_gives_the_truth_and_trains_to_the_optimum(case: Case, dtype: str) -> None:
    measured = affinet.testing.check(Torch, case, dtype)
    assert "training ends at the optimum" in measured.shares


@pytest.mark.parametrize("case", [case for case in CASES if case.name in UNDER_ADAM], ids=str)
def test_torch_trains_to_the_optimum_under_adam(case: Case) -> None:
    affinet.testing.check(TorchUnderAdam, case)


@each_case
def test_the_truth_is_that_of_the_oracle_of_rows(case: Case) -> None:
    """Residuals in NumPy and rules in the language are the same equations, read by two readers."""
    if not isinstance(case.truth, LinearEquations):
        pytest.skip("the oracle of rows is about linear equations")
    rows, truth = oracle(case.plan.system), case.truth
    order = np.concatenate([np.arange(start, start + size) for start, size in places(case, rows.layout.parameters)])
    np.testing.assert_allclose(truth.A[:, order], rows.matrix * rows.scale[:, None], rtol=1e-15)
    np.testing.assert_allclose(truth.b, rows.rhs * rows.scale, rtol=1e-15)


def places(case: Case, parameters: Any) -> list[tuple[int, int]]:
    """First entry and number of entries of each parameter among the entries of the case."""
    sizes = {name: int(np.prod(shape)) for name, shape in case.shapes.items()}
    starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]), strict=False))
    return [(int(starts[p.name]), sizes[p.name]) for p in parameters]


@each_case
def test_no_feasible_point_near_the_optimum_has_a_smaller_loss(case: Case) -> None:
    """The truth about optima, by another way than the formula: projections of 200 points near it."""
    dice, best = np.random.default_rng(0), case.quadratic.value(case.optimum)
    for _ in range(200):
        shifted = {n: x + 0.1 * dice.standard_normal(x.shape) for n, x in case.optimum.items()}
        value = case.quadratic.value(case.truth.nearest(shifted))
        assert value >= best - 1e-12 * abs(best)


@each_case
def test_no_feasible_point_is_nearer_than_the_projection(case: Case) -> None:
    dice = np.random.default_rng(1)
    least = distance(case.projection, case.weights)
    for _ in range(200):
        shifted = {n: x + 0.1 * dice.standard_normal(x.shape) for n, x in case.projection.items()}
        assert distance(case.truth.nearest(shifted), case.weights) >= least * (1 - 1e-12)


@each_case
def test_tangents_are_derivatives_of_projections(case: Case) -> None:
    """`(Π(w + h v) − w) / h` at a point w that satisfies the rules; h² of curvature remains."""
    step = 1e-6
    moved = case.truth.nearest({n: x + step * case.vectors[n] for n, x in case.projection.items()})
    for name, tangent in case.tangent.items():
        difference = (moved[name] - case.projection[name]) / step
        np.testing.assert_allclose(difference, tangent, atol=1e-4)


def distance(weights: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> float:
    return float(np.sqrt(sum(np.sum((weights[name] - other[name]) ** 2) for name in weights)))


def test_the_cases_have_every_kind_of_block_for_equations_and_sets() -> None:
    kinds = {type(block).__name__ for case in CASES for block in case.plan.blocks}
    assert {kind.__name__ for kind in AnyBlock.__args__} == kinds


def test_the_cases_have_different_names() -> None:
    assert max(Counter(map(str, CASES)).values()) == 1


def test_a_result_says_the_share_of_each_bound() -> None:
    text = str(affinet.testing.check(affinet.Plan.projector, CASES[0], "float32"))
    assert text.startswith("sums of rows in float32\n")
    assert "the projection is the nearest point" in text


def test_the_suite_needs_neither_torch_nor_pytest() -> None:
    lines = (
        "import sys, affinet, affinet.testing",
        "[affinet.testing.check(affinet.Plan.projector, case) for case in affinet.testing.cases()[::6]]",
        "assert not {'torch', 'pytest', 'jax'} & set(sys.modules)",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)
