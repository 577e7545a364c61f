"""Plans of equations and inequalities: what is shown, counted and explained, and that each is what it is."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from tests.planning.inequalities.random_sets import RandomRules

NAMES = affinet.weights({"W": (3, 4), "b": (5,), "v": (2, 3)})
W, B, V = NAMES["W"], NAMES["b"], NAMES["v"]
MIXED = affinet.plan(
    [
        (W >= 0).named("low"),
        (W.sum(dim=1) == 1).named("rows"),
        (W[:, 0] + W[:, 1] + W[:, 2] + W[:, 3] == 1).named("again"),
        B.diff() >= 0,
        B[1] == 2,
        families.l2_ball(V, 1.0, dim=1).named("ball"),
    ]
)
AT = {
    "W": np.array([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4]),
    "b": np.array([0.0, 2, 2, 3, 4]),
    "v": np.eye(2, 3),
}


def test_equations_and_inequalities_are_counted_separately() -> None:
    assert (MIXED.rows, MIXED.rank, MIXED.redundant, MIXED.inequalities) == (7, 4, 3, 18)
    assert (MIXED.size, MIXED.free) == (23, 19)
    assert repr(MIXED) == "<Plan: 7 equations, rank 4, 18 inequalities, 23 entries, 19 free>"
    text = str(MIXED)
    assert "7 equations, rank 4 (3 redundant) and 18 inequalities over 23 entries; 19 of these stay free within" in text
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert "12 >=" in lines["low"]
    assert "3 ==" in lines["rows"]
    assert "2 <=" in lines["ball"]
    assert '"low" bounds 12 weights from below.' in text
    assert '"b.diff() >= 0" keeps 4 inequalities of 2 weights each.' in text
    assert '"ball" bounds the length of 2 vectors of 3 weights each.' in text
    assert 'the rule "again" follows from "rows"' in text


@pytest.mark.parametrize("seed", range(40))
def test_random_plans_say_everything_without_an_error(seed: int, tmp_path: Path) -> None:
    generator = RandomRules(seed)
    plan = affinet.plan(generator.rules())
    assert plan.rows == sum(rule.equations for rule in plan.system.rules if rule.sense == "==")
    assert str(plan.rows) in str(plan)
    assert plan.table()
    for parameter in plan.parameters:
        assert str(affinet.explain(plan, parameter.name))
        index = ", ".join("0" for _ in parameter.shape)
        assert str(affinet.explain(plan, f"{parameter.name}[{index}]", weights=generator.point))
    plan.save(tmp_path / "plan.safetensors")
    assert str(affinet.Plan.load(tmp_path / "plan.safetensors")) == str(plan)
    assert str(pickle.loads(pickle.dumps(plan))) == str(plan)


def test_an_entry_is_explained_with_its_bounds_and_their_prices() -> None:
    text = str(affinet.explain(MIXED, "W[0, 1]", weights=AT, prices={"low": np.full((3, 4), 0.3)}))
    assert "is held by 2 equations, and not determined by them." in text
    assert 'W[0, 1] >= 0    "low"[0, 1]' in text
    assert "at its lower bound 0, price 0.3" in text
    assert "at its" not in str(affinet.explain(MIXED, "W[0, 0]", weights=AT))
    chained = str(affinet.explain(MIXED, "b[2]", weights=AT))
    assert chained.startswith("b[2] is bounded by 2 inequalities, and in no equation.")
    assert '-b[1] + b[2] >= 0    "b.diff() >= 0"[1] is at its bound' in chained
    ball = str(affinet.explain(MIXED, "v[1, 2]"))
    assert ball.startswith("v[1, 2] is bounded by 1 inequality, and in no equation.")
    assert '"ball"[1]' in ball


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_model_or_its_tensors_serve_as_weights(dtype: torch.dtype) -> None:
    model = torch.nn.Linear(3, 2).to(dtype)
    w = affinet.weights(model)
    rules = [(w.weight >= 0.1).named("low"), families.l2_ball(w.bias, 0.3).named("ball")]
    with torch.no_grad():
        model.weight.zero_()
        model.bias.fill_(1.0)
    handle = affinet.project(model, torch.optim.SGD(model.parameters(), lr=0.1), rules)
    prices = {"low": torch.full((2, 3), 0.5), "ball": torch.tensor(-2.0)}
    for weights in (model, dict(model.named_parameters()), model.state_dict()):
        assert "at its lower bound 0.1, price 0.5" in str(
            affinet.explain(handle.plan, "weight[1, 2]", weights=weights, prices=prices)
        )
        ball = str(affinet.explain(handle.plan, "bias[0]", weights=weights, prices=prices))
        assert "in a vector at its radius 0.3, price -2" in ball
    listed = {name: weight.tolist() for name, weight in model.state_dict().items()}
    if dtype == torch.float64:
        assert "at its lower bound 0.1" in str(affinet.explain(handle.plan, "weight[1, 2]", weights=listed))
    with torch.no_grad():
        model.bias.zero_()
    assert "radius 0.3, price" not in str(affinet.explain(handle.plan, "bias[0]", weights=model, prices=prices))
    with pytest.raises(affinet.AttachError, match=r"a torch.nn.Module, a tree .*, or a mapping .*, and not list"):
        affinet.explain(handle.plan, "bias[0]", weights=[1.0])
    with pytest.raises(affinet.AttachError, match="'weight'"):
        affinet.explain(handle.plan, "weight[1, 2]", weights={"bias": model.bias})


def test_the_ball_of_a_vector_among_several_is_that_of_the_entry() -> None:
    radii = np.array([1.0, 5.0])
    plan = affinet.plan(families.l1_ball(V, radii, dim=1).named("balls"))
    at = {"v": np.array([[0.5, -0.5, 0.0], [1.0, 1.0, 0.0]])}
    told = [str(affinet.explain(plan, f"v[{row}, 0]", weights=at, prices={"balls": [-3.0, 0.0]})) for row in (0, 1)]
    assert "in a vector at its radius 1, price -3" in told[0]
    assert "at its radius" not in told[1]


def test_a_slice_counts_entries_that_are_only_bounded() -> None:
    explained = affinet.explain(MIXED, "b")
    assert (explained.determined, explained.bounded, explained.held, explained.untouched) == (1, 4, 0, 0)
    assert affinet.explain(MIXED, "v").rules == ("ball",)
