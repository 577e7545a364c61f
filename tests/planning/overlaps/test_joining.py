"""Matrices whose rows are tied to each other stay regular: one block with the sums over their columns."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.blocks.bordered import Bordered
from affinet.blocks.commuting import Commuting
from affinet.blocks.joined import Joined
from affinet.plans.plan import Plan
from affinet.system.system import System
from tests.limits import plan_within
from tests.oracle import oracle

EPS = float(np.finfo(np.float64).eps)


def centred(*weights: Any) -> list[affinet.Constraint]:
    return [weight.sum(dim=dim) == 0 for weight in weights for dim in (0, 1)]


def planned(rules: list[affinet.Constraint], **limits: int) -> Plan:
    system = System.of(rules)
    return plan_within(system, one_by_one=0, **limits)


def assert_exact(plan: Plan, condition: float = 1.0) -> None:
    """Rank, projection and tangent are those of the dense oracle.

    Both round sums of at most all entries once per factor: a few times `size · eps`, times the condition number of the
    equations, of which those here have at most 10.
    """
    truth = oracle(plan.system)
    assert plan.rank == truth.rank
    draw = np.random.default_rng(0)
    given = {p.name: draw.standard_normal(p.shape) for p in plan.parameters}
    tensors = {name: torch.tensor(values) for name, values in given.items()}
    projector = plan.projector(tensors)
    bound = 10 * sum(p.size for p in plan.parameters) * EPS * condition
    in_place = {name: tensor.clone() for name, tensor in tensors.items()}
    projector.project_(in_place)
    gradients = {name: tensor.clone() for name, tensor in tensors.items()}
    projector.project_gradients_(gradients, in_place, {})
    for found, wanted in (
        (projector.project(tensors), truth.project(given)),
        (in_place, truth.project(given)),
        (projector.tangent(tensors), truth.tangent(given)),
        (gradients, truth.tangent(given)),
    ):
        for name, values in wanted.items():
            np.testing.assert_allclose(found[name].numpy(), values, rtol=0, atol=bound)


def test_eight_tied_columns_of_two_doubly_centred_matrices() -> None:
    w = affinet.weights({"a": (600, 200), "b": (600, 200)})
    plan = affinet.plan([*centred(w.a, w.b), w.a[:, :8] == w.b[:, :8]])
    # Either matrix has 600 + 200 - 1 equations; of a column's 600 ties one follows from the sums of both columns.
    assert plan.rank == 2 * 799 + 8 * 599
    assert [type(block) for block in plan.blocks] == [Joined]


@pytest.mark.parametrize("basis", ["orthonormal", "free", "projection"])
def test_all_bases_train_tied_columns_of_doubly_centred_matrices(basis: str) -> None:
    model = torch.nn.Module()
    torch.manual_seed(0)
    for name in ("a", "b"):
        setattr(model, name, torch.nn.Parameter(torch.randn(90, 30, dtype=torch.float64)))
    w = affinet.weights(model)
    rules = [*centred(w.a, w.b), *(w.a[:, k] == w.b[:, 7 - k] for k in range(8))]
    plan = planned(rules)
    assert isinstance(plan.blocks[0], Joined)
    target = {name: torch.randn(90, 30, dtype=torch.float64) for name in ("a", "b")}
    wanted = plan.projector(target).project(target)
    far = pytest.warns(affinet.LongStepsWarning, match=r"computed from \d,\d{3} free numbers")
    with far if basis == "free" else nullcontext():
        handle = affinet.reparametrize(model, plan, basis=basis)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=60, tolerance_grad=1e-12, tolerance_change=0.0)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = sum(((getattr(model, name) - target[name]) ** 2).sum() for name in ("a", "b"))
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    assert max(handle.violation().values()) < 1e-12
    for name in ("a", "b"):
        # The gradient is within 1e-12 of zero, and the curvature along a free number is at least 2.
        torch.testing.assert_close(getattr(model, name).detach(), wanted[name], rtol=0, atol=1e-10)


def test_entries_that_are_equal_stay_so_to_the_bit() -> None:
    w = affinet.weights({"a": (70, 33), "b": (70, 19)})
    plan = planned([*centred(w.a, w.b), w.a[:, :5] == w.b[:, 3:8], w.a[:, 20] == -w.b[:, 18]])
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        tensors = {name: torch.randn(shape).to(dtype) for name, shape in (("a", (70, 33)), ("b", (70, 19)))}
        projector = plan.projector(tensors)
        projector.project_(tensors)
        assert torch.equal(tensors["a"][:, :5], tensors["b"][:, 3:8])
        assert torch.equal(tensors["a"][:, 20], -tensors["b"][:, 18])


def test_a_missing_gradient_counts_as_zero() -> None:
    w = affinet.weights({"a": (12, 9), "b": (12, 7)})
    plan = planned([*centred(w.a, w.b), w.a[:, :3] == w.b[:, 2:5]])
    given = np.random.default_rng(1).standard_normal((12, 9))
    gradients: dict[str, torch.Tensor | None] = {"a": torch.tensor(given), "b": None}
    weights = {"a": torch.zeros(12, 9, dtype=torch.float64), "b": torch.zeros(12, 7, dtype=torch.float64)}
    plan.projector(weights).project_gradients_(gradients, weights, {})
    wanted = oracle(plan.system).tangent({"a": given, "b": np.zeros((12, 7))})["a"]
    assert gradients["a"] is not None
    np.testing.assert_allclose(gradients["a"].numpy(), wanted, rtol=0, atol=10 * 171 * EPS)


def test_other_equations_stand_on_top() -> None:
    w = affinet.weights({"a": (12, 9), "b": (12, 7)})
    rules = [*centred(w.a, w.b), w.a[:, :3] == w.b[:, 2:5], w.a[1, 4] == 3 * w.b[2, 6], w.b[4, 5] + w.a[7, 7] == 1]
    plan = planned(rules, most_extra=20)
    (block,) = plan.blocks
    assert isinstance(block, Bordered)
    assert [type(base) for base in block.bases] == [Joined]
    assert block.extra == 2
    assert_exact(plan)


def test_columns_of_one_matrix_are_a_product() -> None:
    w = affinet.weights({"a": (11, 12)})
    plan = planned([*centred(w.a), w.a[:, :3] == w.a[:, 5:8], w.a[:, 9] == -2 * w.a[:, 11]])
    assert [type(block) for block in plan.blocks] == [Commuting]
    assert_exact(plan)


def test_rows_that_only_some_cells_have_are_not_joined() -> None:
    w = affinet.weights({"a": (12, 9), "b": (12, 7)})
    plan = planned([*centred(w.a, w.b), w.a[1:, :3] == w.b[1:, 2:5], w.a[0, 0] == 2 * w.b[0, 2]])
    assert not any(isinstance(block, Joined) for block in plan.blocks)
    assert_exact(plan)


def test_sums_over_the_columns_of_one_matrix_alone_are_not_joined() -> None:
    w = affinet.weights({"a": (12, 9), "b": (12, 7)})
    plan = planned([*centred(w.a), w.b.sum(dim=1) == 0, w.a[:, :3] == w.b[:, 2:5]])
    assert_exact(plan)


def test_entry_by_entry_ties_of_large_boxes_are_joined() -> None:
    w = affinet.weights({"a": (12, 9), "b": (9, 12)})
    plan = planned([*centred(w.a, w.b), w.a == w.b.T])
    assert_exact(plan)


def test_a_contradiction_names_its_rules() -> None:
    w = affinet.weights({"a": (12, 9), "b": (12, 7)})
    rules = [
        (w.a.sum(dim=0) == 1).named("columns of a"),
        w.a.sum(dim=1) == 0.75,
        (w.b.sum(dim=0) == 2).named("columns of b"),
        w.b.sum(dim=1) == 7 / 6,
        (w.a[:, :3] == w.b[:, 2:5]).named("tied"),
    ]
    with pytest.raises(affinet.InfeasibleError, match="columns of a") as caught:
        affinet.plan(rules)
    assert "columns of b" in str(caught.value)
    assert "tied" in str(caught.value)


def test_what_a_plan_says_of_single_entries() -> None:
    w = affinet.weights({"a": (80, 90), "b": (90, 80)})
    rules = [*centred(w.a, w.b), w.a[:, :40] == w.b[:40].T]
    plan = planned(rules)
    assert isinstance(plan.blocks[0], Joined)
    said = affinet.explain(plan, "a[3, 5]")
    assert "b[5, 3]" in str(said)


def test_free_numbers_of_each_weight_are_exact() -> None:
    w = affinet.weights({"a": (12, 9), "b": (12, 7)})
    plan = planned([*centred(w.a, w.b), w.a[:, :3] == w.b[:, 2:5], w.a[:, 8] == 2 * w.b[:, 0]])
    # Of each matrix by itself only its own sums take numbers away: 12 + 9 - 1 and 12 + 7 - 1.
    assert f"b {12 * 7 - 18} of 84, a {12 * 9 - 20} of 108" in str(plan)


def test_zero_sums_by_family_and_by_rule_are_the_same() -> None:
    w = affinet.weights({"a": (12, 9), "b": (12, 7)})
    said = [families.zero_mean(w.a, 0), families.zero_mean(w.a, 1), *centred(w.b), w.a[:, :3] == w.b[:, 2:5]]
    plan = planned(said)
    assert [type(block) for block in plan.blocks] == [Joined]
    assert_exact(plan)
