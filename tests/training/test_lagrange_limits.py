"""`affinet.lagrange` where rules have no finite value or derivative, and at the end of a training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn, optim

import affinet
from affinet.errors import AttachError, GradientError, LeftOutWarning
from tests.limits import limit_every_plan


def model_at(*numbers: float) -> Any:
    model = nn.Module()
    model.w = nn.Parameter(torch.tensor(numbers, dtype=torch.float64))
    return model


def approach(model: Any, optimizer: optim.Optimizer, steps: int) -> None:
    """Steps towards (2, 2)."""
    for _ in range(steps):
        optimizer.zero_grad()
        (model.w - 2.0).square().sum().backward()
        optimizer.step()


def settled(model: Any, rule: Callable[[Any], Any], **options: Any) -> affinet.LagrangeHandle:
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    handle = affinet.lagrange(model, optimizer, rule(affinet.weights(model).w), **options)
    approach(model, optimizer, 1500)
    return handle


@pytest.mark.parametrize(
    ("rule", "optimum"),
    [
        (lambda w: w.norm() <= 1, 0.5**0.5),
        (lambda w: w.sqrt().sum() <= 1, 0.25),
        (lambda w: w.sqrt() <= 1, 1.0),
        (lambda w: -(1 / w).sum() <= 1, 2.0),
    ],
)
def test_a_rule_that_holds_adds_nothing_where_it_has_no_derivatives(rule: Callable[[Any], Any], optimum: float) -> None:
    """Adam ends within 1e-3 of the point of the rule nearest to (2, 2); before, the weights were nan after a step."""
    model = model_at(0.0, 0.0)
    settled(model, rule)
    torch.testing.assert_close(model.w.detach(), torch.full((2,), optimum, dtype=torch.float64), atol=1e-3, rtol=0)


def test_the_gradients_of_a_step_are_those_of_the_loss_where_a_rule_holds_without_derivatives() -> None:
    model = model_at(0.0, 0.0)
    optimizer = optim.SGD(model.parameters(), lr=0.25)
    affinet.lagrange(model, optimizer, affinet.weights(model).w.norm() <= 5)
    approach(model, optimizer, 1)
    assert model.w.tolist() == [1.0, 1.0]  # 0.25 times the gradient -4


def test_other_rows_of_a_rule_are_approached_from_where_one_has_no_derivative() -> None:
    """Rows that hold add 0 where their derivative is infinite, and rows that are violated add theirs."""
    model = model_at(0.0, 4.0)
    optimizer = optim.SGD(model.parameters(), lr=1e-3)
    affinet.lagrange(model, optimizer, affinet.weights(model).w.sqrt() <= 1, feasible_start=False)
    approach(model, optimizer, 1)
    first, second = model.w.tolist()
    assert first == pytest.approx(4e-3, rel=1e-12)  # as without the rule
    assert second < 4.0 - 1e-3 * 4.0  # lower than by the loss alone


@pytest.mark.parametrize(
    ("start", "rule"),
    [
        ((0.0, 4.0), lambda w: w.sqrt().sum() <= 1),
        ((0.0, 0.0), lambda w: w.norm() == 1),
        ((1.0, 1.0), lambda w: (3 - 2 * w).log().sum() <= 3),
    ],
)
def test_a_rule_without_finite_derivatives_is_refused_before_weights_move(
    start: tuple[float, float], rule: Callable[[Any], Any]
) -> None:
    model = model_at(*start)
    optimizer = optim.SGD(model.parameters(), lr=0.4)
    affinet.lagrange(model, optimizer, rule(affinet.weights(model).w).named("root"), feasible_start=False)
    seen = []

    def refused() -> None:
        for _ in range(3):
            seen.append(model.w.detach().clone())
            approach(model, optimizer, 1)

    with pytest.raises(GradientError, match='at the present weights "root" has no finite value'):
        refused()
    assert torch.equal(model.w.detach(), seen[-1])


def test_finish_takes_rules_that_hold_although_no_plan_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_every_plan(monkeypatch, most_mixed=0)
    model = model_at(3.0, 4.0)
    w = affinet.weights(model).w
    rules = [(w.sum() == 1).named("sum"), (w.norm() <= 5).named("length")]
    handle = affinet.lagrange(model, optim.Adam(model.parameters()), rules, feasible_start=False)
    assert handle.plan is not None
    assert handle.plan.system.equations == 1
    assert handle.violated() == {"sum": 6.0}
    assert handle.finish()["w"] == pytest.approx(6 / 2**0.5)
    assert model.w.tolist() == [0.0, 1.0]


def test_finish_moves_nothing_where_the_move_breaks_another_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """(0, 1) satisfies the product, and the nearest point with sum 3, (1, 2), does not: 2 > 1."""
    limit_every_plan(monkeypatch, most_mixed=0)
    model = model_at(0.0, 1.0)
    w = affinet.weights(model).w
    rules = [(w.sum() == 3).named("sum"), (w[0] * w[1] <= 1).named("product")]
    handle = affinet.lagrange(model, optim.Adam(model.parameters()), rules, feasible_start=False)
    with pytest.raises(AttachError, match=r'cannot be moved onto "product" \(violated by 1\)'):
        handle.finish()
    assert model.w.tolist() == [0.0, 1.0]
    with pytest.warns(LeftOutWarning, match=r'violate "product" \(violated by 1\)'):
        handle.finish(partial=True)
    assert model.w.tolist() == [1.0, 2.0]


def test_a_second_call_on_an_optimizer_is_told_what_both_calls_take() -> None:
    model = model_at(0.0, 1.0)
    optimizer, rule = optim.Adam(model.parameters()), affinet.weights(model).w.sum() == 1
    affinet.project(model, optimizer, rule)
    with pytest.raises(AttachError, match=r"one call, of affinet\.project or of affinet\.lagrange, not of both"):
        affinet.lagrange(model, optimizer, rule)


def test_a_certificate_after_lagrange_is_made_by_project() -> None:
    model = model_at(0.6, 0.8)
    w = affinet.weights(model).w
    handle = settled(model, lambda w: w.norm() == 1)
    handle.finish()
    handle.remove()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    projected = affinet.project(model, optimizer, w.norm() == 1)
    approach(model, optimizer, 100)
    certificate = projected.certificate(lambda: (model.w - 2.0).square().sum())
    assert certificate.verdict == "local minimum"


def test_what_no_plan_holds_is_told_without_advice_to_use_lagrange(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_every_plan(monkeypatch, most_mixed=0)
    model = model_at(0.6, -0.8)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    w = affinet.weights(model).w
    handle = affinet.lagrange(model, optimizer, [(w @ w == 1).named("length"), (w >= 0).named("signs")])
    approach(model, optimizer, 2)
    with pytest.raises(AttachError, match=r'"signs" \(violated by') as caught:
        handle.finish()
    assert "affinet.lagrange" not in str(caught.value)
    with pytest.warns(LeftOutWarning) as warned:
        handle.finish(partial=True)
    assert "affinet.lagrange" not in str(warned[0].message)
