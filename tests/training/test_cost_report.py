"""The certificate: stationarity, the table of what rules cost, the gradients it is made of, and gradients gone bad."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import optim

import affinet
from affinet.report.cost import cost_report
from affinet.training import capture
from tests.training.test_multipliers import Two, attached, solved


def rules_for(model: Any) -> list[affinet.Constraint]:
    w = affinet.weights(model)
    return [
        (w.b.sum() == 1).named("cheap"),
        (w.a.sum(dim=1) == 4).named("dear rows"),
        (w.a[0, 0] == w.a[0, 1]).named("tie"),
    ]


def at_the_optimum() -> tuple[Two, affinet.Handle]:
    model, _, handle = attached(
        lambda a, b, t: [
            (b.sum() == 1).named("cheap"),
            (a.sum(dim=1) == 4).named("dear rows"),
            (a[0, 0] == a[0, 1]).named("tie"),
        ]
    )
    return model, handle


def test_the_report_names_the_rules_dearest_first() -> None:
    _, handle = at_the_optimum()
    report, found = handle.report(), handle.multipliers()
    changes = [rule.change for rule in report.rules]
    assert report.rules[0].name == "dear rows"
    assert {rule.name for rule in report.rules} == {"cheap", "dear rows", "tie"}
    assert changes == sorted(changes)
    for rule in report.rules:
        assert rule.largest == pytest.approx(float(found[rule.name].abs().max()), rel=1e-12)
        assert rule.change == pytest.approx(-0.01 * float(found[rule.name].abs().sum()), rel=1e-12)
        assert rule.shared_with == ()
    assert report.stationarity < 1e-12


def test_loosening_changes_the_optimum_by_about_what_the_report_says() -> None:
    """To first order: every row of the dear rule looser by 0.01 in the direction that helps, solved anew."""
    _, handle = at_the_optimum()
    said = next(rule.change for rule in handle.report().rules if rule.name == "dear rows")
    signs = handle.multipliers()["dear rows"].sign().numpy()
    w = affinet.weights({"a": (3, 4), "b": (4, 2)})

    def value(total: Any) -> float:
        return solved([w["b"].sum() == 1, w["a"].sum(dim=1) == total, w["a"][0, 0] == w["a"][0, 1]])[1]

    assert value(4 - 0.01 * signs) - value(4 + 0 * signs) == pytest.approx(said, rel=0.02)


def test_the_report_reads_as_a_table() -> None:
    lines = str(at_the_optimum()[1].report()).splitlines()
    assert lines[0].split("  ")[0].strip() == "rule"
    assert "loosened by 0.01, the loss would change by about" in lines[0]
    assert lines[1].startswith("dear rows")
    assert lines[-1].startswith("stationarity ‖Pg‖/‖g‖ = ")
    assert "far from an optimum" not in lines[-1]


def test_a_rule_that_costs_nothing_changes_the_loss_by_zero_and_not_by_minus_zero() -> None:
    model = torch.nn.Linear(2, 1, bias=False)
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    handle = affinet.project(model, optimizer, (affinet.weights(model).weight <= 100).named("far"))
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    line = next(line for line in str(handle.report()).splitlines() if line.startswith("far"))
    assert line.split() == ["far", "0", "0"]


def test_a_report_far_from_an_optimum_says_so() -> None:
    model = Two()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = affinet.project(model, optimizer, rules_for(model))
    model().backward()
    optimizer.step()
    assert 0.1 < handle.stationarity() <= 1.0
    assert "far from an optimum" in str(handle.report())


def test_a_report_of_a_loss_function_needs_no_step_and_touches_nothing() -> None:
    model, handle = at_the_optimum()
    before = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    of_loss, of_step = handle.report(model), handle.report()
    for one, other in zip(of_loss.rules, of_step.rules, strict=True):
        assert one.name == other.name
        assert one.largest == pytest.approx(other.largest, rel=1e-9)
    for p, kept in zip(model.parameters(), before, strict=True):
        assert p.grad is not None
        assert kept is not None
        assert torch.equal(p.grad, kept)
    fresh = Two()
    untouched = affinet.project(fresh, optim.SGD(fresh.parameters(), lr=0.1), rules_for(fresh))
    with torch.no_grad():
        assert len(untouched.report(fresh).rules) == 3
    assert all(p.grad is None for p in fresh.parameters())


def test_before_any_step_there_is_nothing_to_report() -> None:
    model = Two()
    handle = affinet.project(model, optim.SGD(model.parameters(), lr=0.1), rules_for(model))
    for ask in (handle.multipliers, handle.stationarity, handle.report):
        with pytest.raises(affinet.AttachError, match=r"no gradients were captured.*handle\.capture\(\).*loss_fn"):
            ask()


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("times", [1, 2])
def test_gradients_projected_early_are_captured_as_they_were(times: int, clip: float | None, decay: float) -> None:
    """What the projection and the clipping took is in the multipliers all the same, at every step."""
    ends = []
    for early in (0, times):
        model = Two()
        optimizer = optim.SGD(model.parameters(), lr=0.0, weight_decay=decay)
        handle = affinet.project(model, optimizer, rules_for(model))
        for scale in (3.0, 1.0):
            optimizer.zero_grad(set_to_none=False)
            (model() * scale).backward()
            for _ in range(early):
                handle.project_gradients()
            if early and clip is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
        ends.append(handle.multipliers())
    for name, wanted in ends[0].items():
        assert torch.allclose(ends[1][name], wanted, rtol=0, atol=1e-12), name


def test_large_models_are_captured_only_when_asked_for() -> None:
    model = torch.nn.Module()
    model.register_parameter("a", torch.nn.Parameter(torch.randn(2, capture.SMALL // 2 + 1)))
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    handle = affinet.project(model, optimizer, (affinet.weights(model).a.sum(dim=1) == 1).named("rows"))

    def step(value: float) -> None:
        model.a.grad = torch.full_like(model.a, value)
        optimizer.step()

    step(1.0)
    with pytest.raises(affinet.AttachError, match=r"65,536.*handle\.capture"):
        handle.multipliers()
    handle.capture()
    step(2.0)
    step(3.0)
    assert handle.multipliers()["rows"].tolist() == pytest.approx([2.0, 2.0], rel=1e-5)


def test_multipliers_of_scaled_gradients_are_unscaled() -> None:
    """A fused optimizer under a GradScaler sees scaled gradients."""
    ends = []
    for scaled in (False, True):
        model = Two()
        optimizer = optim.Adam(model.parameters(), lr=0.0, fused=True, weight_decay=0.3)
        handle = affinet.project(model, optimizer, rules_for(model))
        if scaled:
            scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
            scaler.scale(model()).backward()
            scaler.step(optimizer)
        else:
            model().backward()
            optimizer.step()
        ends.append(handle.multipliers())
    for name, wanted in ends[0].items():
        assert torch.allclose(ends[1][name], wanted, rtol=1e-9, atol=1e-12), name


# Gradients that are not finite


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_pass_as_in_stock_training(bad: float) -> None:
    """Weights coupled with a bad number become NaN, as a stock step would make its own; nothing raises or waits."""
    model = Two()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    affinet.project(model, optimizer, rules_for(model))
    model().backward()
    before = model.b.detach().clone()
    assert model.a.grad is not None
    model.a.grad[1, 2] = bad
    optimizer.step()
    assert torch.isnan(model.a[1]).all()
    assert torch.isfinite(model.a[[0, 2]]).all()
    assert torch.isfinite(model.b).all()
    assert not torch.equal(model.b, before)


@pytest.mark.parametrize("count", [1, 2])
def test_check_finite_names_the_parameter_and_no_step_is_taken(count: int) -> None:
    model = Two()
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    affinet.project(model, optimizer, rules_for(model), check_finite=True)
    model().backward()
    assert model.b.grad is not None
    model.b.grad.view(-1)[:count] = float("nan")
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(affinet.GradientError, match=rf"gradient of b holds {count} number.*step was not taken"):
        optimizer.step()
    assert all(torch.equal(p, kept) for p, kept in zip(model.parameters(), before, strict=True))
    assert not optimizer.state
    optimizer.zero_grad()
    model().backward()
    optimizer.step()
    assert not torch.equal(model.a, before[0])


def test_under_maximize_loosening_raises_the_objective() -> None:
    model = torch.nn.ParameterDict({"a": torch.zeros(3, dtype=torch.float64)})
    optimizer = optim.SGD(model.parameters(), lr=0.2, maximize=True)
    handle = affinet.project(model, optimizer, (affinet.weights(model).a.sum() == 1).named("sum"))
    target = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    for _ in range(60):
        optimizer.zero_grad()
        (-(model["a"] - target).square().sum()).backward()
        optimizer.step()
    (rule,) = handle.report().rules
    assert rule.change == pytest.approx(0.01 * 10 / 3, rel=1e-6)
    assert "loosening 'sum' by 0.01 would change the loss by about 0.0333" in str(handle.report())


def test_a_loss_given_to_the_report_gets_the_decay_that_the_optimizer_adds() -> None:
    model = torch.nn.ParameterDict({"a": torch.zeros(3, dtype=torch.float64)})
    optimizer = optim.SGD(model.parameters(), lr=0.2, weight_decay=1.0)
    handle = affinet.project(model, optimizer, affinet.weights(model).a.sum() == 1)
    target = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)

    def loss() -> torch.Tensor:
        return (model["a"] - target).square().sum()

    for _ in range(80):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    (kept,), (given,) = handle.report().rules, handle.report(loss).rules
    assert given.largest == pytest.approx(kept.largest, rel=1e-9)
    assert handle.report(loss).stationarity < 1e-9


def test_redundant_rules_stand_together() -> None:
    w = affinet.weights({"a": (3,), "b": (2,)})
    rules = [(w.a.sum() == 1).named("one"), (w.b.sum() == 1).named("between"), (2 * w.a.sum() == 2).named("two")]
    like = {"a": torch.zeros(3), "b": torch.zeros(2)}
    gradients = {"a": torch.full((3,), 3.0), "b": torch.full((2,), 1.0)}  # costs 0.006, 0.01 and 0.012
    report = cost_report(affinet.plan(rules).projector(like), gradients)
    assert [rule.name for rule in report.rules] in (
        ["one", "two", "between"],
        ["two", "one", "between"],
        ["between", "two", "one"],
    )
    assert "together with the rules that it is redundant with" in str(report) or report.rules[0].name == "between"


def test_stationarity_of_gradients_that_are_not_finite_is_not_zero() -> None:
    w = affinet.weights({"a": (3,)})
    projector = affinet.plan(w.a.sum() == 1).projector({"a": torch.zeros(3)})
    assert projector.stationarity({"a": torch.tensor([1.0, float("nan"), 2.0])}) != 0.0
    assert projector.stationarity({"a": torch.zeros(3)}) == 0.0


def test_a_scaler_that_skips_a_fused_step_is_not_interrupted_by_the_check() -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = optim.AdamW(model.parameters(), lr=0.1, fused=True)
    affinet.project(model, optimizer, affinet.weights(model).weight.sum(dim=1) == 1, check_finite=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = model.weight.detach().clone()
    scaler.scale(model(torch.ones(2, 3)).sum() * float("inf")).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(model.weight, before)
    assert scaler.get_scale() == 2.0
