"""Prices, active bounds, reports and stationarity of trainings with inequalities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import affinet

CENTER = torch.tensor([3.0, 1.0, -1.0, 0.5], dtype=torch.float64)


def trained(*, maximize: bool = False) -> affinet.Handle:
    """`½ |w − c|²` over the simplex: w = (1, 0, 0, 0), with the gradient (−2, −1, 1, −.5)."""
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.full((4,), 0.25, dtype=torch.float64))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, maximize=maximize)
    w = affinet.weights(model)["w"]
    rules = [(w >= 0).named("low"), (w.sum() == 1).named("sum")]
    handle = affinet.project(model, optimizer, rules)
    for _ in range(300):
        optimizer.zero_grad()
        loss = 0.5 * ((model.w - CENTER) ** 2).sum()
        (-loss if maximize else loss).backward()
        optimizer.step()
    handle.kept_alive = model, optimizer
    return handle


@pytest.mark.parametrize("maximize", [False, True])
def test_prices_have_the_signs_of_what_bounds_cost(maximize: bool) -> None:
    handle = trained(maximize=maximize)
    sign = -1.0 if maximize else 1.0
    multipliers = handle.multipliers()
    # g = ν_sum + ν_low, ν_low = 0 at the first entry: ν_sum = −2, ν_low = g + 2. Averages over 300 steps at rest are
    # exact but for 0.9^250.
    np.testing.assert_allclose(multipliers["sum"], -2.0 * sign, atol=1e-7)
    np.testing.assert_allclose(multipliers["low"], sign * np.array([0.0, 1.0, 3.0, 1.5]), atol=1e-7)
    assert handle.stationarity() < 1e-7
    report = handle.report()
    assert [rule.name for rule in report.rules] == ["low", "sum"]
    assert report.rules[0].change == pytest.approx(-0.055 * sign, abs=1e-8)


def test_active_bounds_are_counted_and_named() -> None:
    handle = trained()
    active = handle.active()
    assert set(active) == {"low"}
    assert (active["low"].count, active["low"].places) == (3, [(1,), (2,), (3,)])
    assert str(active["low"]) == "3 of 4 inequalities at the bound: 1, 2, 3"


def test_projectors_of_numpy_and_torch_price_alike() -> None:
    w = affinet.weights({"w": (4,)})["w"]
    plan = affinet.plan([(w >= 0).named("low"), (w.sum() == 1).named("sum"), (2 * w >= 0).named("again")])
    at, g = np.array([1.0, 0.0, 0.0, 0.0]), np.array([-2.0, -1.0, 1.0, -0.5])
    arrays, tensors = plan.projector({"w": at}), plan.projector({"w": torch.tensor(at)})
    expected = arrays.multipliers({"w": g}, at={"w": at})
    for name, nu in tensors.multipliers({"w": torch.tensor(g)}, at={"w": torch.tensor(at)}).items():
        np.testing.assert_array_equal(nu.numpy(), expected[name])
    np.testing.assert_allclose(expected["low"] + 2 * expected["again"], [0.0, 1.0, 3.0, 1.5], atol=1e-14)
    shared = {"low": ("again",), "again": ("low",)}
    assert arrays.shared_multipliers({"w": at}) == tensors.shared_multipliers({"w": torch.tensor(at)}) == shared
    assert arrays.active({"w": at})["again"].count == tensors.active({"w": torch.tensor(at)})["low"].count == 3


@pytest.mark.filterwarnings("ignore::affinet.errors.NothingToTrainWarning")
def test_inequalities_that_a_plan_holds_as_equations_have_signs_and_slack() -> None:
    """Blocks of equations alone: a bound that others imply costs nothing, and two bounds share by their signs."""
    w = affinet.weights({"w": (3,)})["w"]
    at, g = np.ones(3), np.array([1.0, -2.0, 3.0])
    slack = affinet.plan([(w == 1).named("exact"), (w <= 2).named("slack")])
    both = affinet.plan([(w <= 1).named("top"), (w >= 1).named("low")])
    for plan, expected, shared in (
        (slack, {"exact": g, "slack": np.zeros(3)}, {}),
        (both, {"top": np.minimum(g, 0.0), "low": np.maximum(g, 0.0)}, {"top": ("low",), "low": ("top",)}),
    ):
        arrays, tensors = plan.projector({"w": at}), plan.projector({"w": torch.tensor(at)})
        found = tensors.multipliers({"w": torch.tensor(g)}, at={"w": torch.tensor(at)})
        assert not tensors.has_inequalities
        for name, nu in arrays.multipliers({"w": g}, at={"w": at}).items():
            np.testing.assert_allclose(nu, expected[name], atol=1e-14)
            np.testing.assert_array_equal(found[name].numpy(), nu)
        assert arrays.shared_multipliers({"w": at}) == tensors.shared_multipliers({"w": torch.tensor(at)}) == shared
        with pytest.raises(affinet.AttachError, match="Give the weights too"):
            tensors.multipliers({"w": torch.tensor(g)})
        with pytest.raises(affinet.AttachError, match="Give the weights too"):
            arrays.multipliers({"w": g})


def test_prices_and_what_shares_them_are_solved_for_together() -> None:
    w = affinet.weights({"w": (4,)})["w"]
    plan = affinet.plan([(w >= 0).named("low"), (w.sum() == 1).named("sum"), (2 * w >= 0).named("again")])
    at, g = {"w": np.array([1.0, 0.0, 0.0, 0.0])}, {"w": np.array([-2.0, -1.0, 1.0, -0.5])}
    tensors = [{name: torch.tensor(values) for name, values in pair.items()} for pair in (g, at)]
    for projector, (gradients, weights) in ((plan.projector(at), (g, at)), (plan.projector(tensors[1]), tensors)):
        multipliers, shared_with = projector.priced(gradients, weights)
        assert shared_with == projector.shared_multipliers(weights) == {"low": ("again",), "again": ("low",)}
        for name, nu in projector.multipliers(gradients, weights).items():
            np.testing.assert_array_equal(multipliers[name], nu)


def test_logs_have_the_number_of_active_bounds(tmp_path: Path) -> None:
    model = torch.nn.Linear(4, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    w = affinet.weights(model)["weight"]
    handle = affinet.project(model, optimizer, [(w >= 0).named("low"), w.sum() == 1])
    watch = handle.watch(affinet.CsvLog(tmp_path / "log.csv"))
    for _ in range(40):
        optimizer.zero_grad()
        (model.weight * torch.tensor([[1.0, 2.0, 3.0, 4.0]])).sum().backward()
        optimizer.step()
    watch.stop()
    header, *_, last = (tmp_path / "log.csv").read_text().splitlines()
    assert header.split(",")[-1] == "active/low"
    assert last.split(",")[-1] == "3.0"
