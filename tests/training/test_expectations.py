"""Rules about expected values over the data: trained in batches, priced, not harmed by batches without samples."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn, optim
from torch.nn.functional import cross_entropy

import affinet
from affinet.errors import GradientError

BOUND, CLASS, DECAY = 0.02, 8, 0.01


def loss_of_the_class(output: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(output[y == CLASS], y[y == CLASS], reduction="none")


def test_the_loss_of_one_class_of_digits_is_bounded() -> None:
    """Batches of 64: the price is within 15 % of the one that least squares fit to the full data at the end.

    Decay keeps the bound active: without it the network learns every digit.
    """
    torch.manual_seed(0)
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    optimizer = optim.Adam(model.parameters(), lr=3e-3, weight_decay=DECAY)
    small = (affinet.expectation(loss_of_the_class) <= BOUND).named("eights")
    handle = affinet.lagrange(model, optimizer, small)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 100 * 29)
    for _ in range(100):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            output = model(x[batch])
            (cross_entropy(output, y[batch]) + handle.terms(output, y[batch])).backward()
            optimizer.step()
            schedule.step()
    parameters, output = list(model.parameters()), model(x)
    loss = cross_entropy(output, y) + 0.5 * DECAY * sum(p.square().sum() for p in parameters)
    expected = loss_of_the_class(output, y).mean()
    g, j = (
        torch.cat([part.reshape(-1) for part in torch.autograd.grad(value, parameters, retain_graph=True)])
        for value in (loss, expected)
    )
    fitted = float(g @ j / (j @ j))
    assert float(expected.detach()) <= BOUND
    assert float((g - fitted * j).norm()) <= 0.15 * float(g.norm())  # otherwise the fitted price means nothing
    assert fitted < -1.0  # the bound is active
    assert float(handle.multipliers()["eights"]) == pytest.approx(fitted, rel=0.15)


SWING = 0.1
"""Expected values are averages over ten batches, so that weights and prices, which are between 1 and 5 here, swing
around their limits by some tens of Adam's steps of 0.01, less and less as the rate falls. And Adam remembers the
squared gradients of the way to the bound for a thousand steps, a third of the training."""


class Line(nn.Module):
    """`w` is moved by a loss of ½ |w − 3|² per sample; expected values are of `w` times features."""

    def __init__(self, size: int = 1) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(size, dtype=torch.float64))

    def loss(self) -> Tensor:
        return 0.5 * (self.w - 3).square().sum()


def fit(rule: Any, batches: list[Any], size: int = 1, steps: int = 3000) -> tuple[Tensor, affinet.LagrangeHandle]:
    """The weights after training, a batch per step in turn; batches are what the function gets, with the model."""
    model = Line(size)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    handle = affinet.lagrange(model, optimizer, rule)
    for step in range(steps):
        optimizer.zero_grad()
        (model.loss() + handle.terms(model, batches[step % len(batches)])).backward()
        optimizer.step()
        schedule.step()
    return model.w.detach(), handle


def value(model: Line, features: Tensor) -> Tensor:
    return features * model.w[0]


@pytest.mark.parametrize(
    ("rule", "w", "price"),
    [
        (affinet.expectation(value) == 2, 1.0, -1.0),
        (affinet.expectation(value) <= 2, 1.0, -1.0),
        (affinet.expectation(value) >= 10, 5.0, 1.0),
        (affinet.expectation(value) >= 2, 3.0, 0.0),
        (affinet.expectation(value) <= 10, 3.0, 0.0),
    ],
)
def test_prices_of_a_full_batch(rule: Any, w: float, price: float) -> None:
    """E[2 w] compares with b: at the bound w = b / 2 and ν = (w − 3) / 2 = ∂f*/∂b."""
    found, handle = fit(rule, [torch.tensor([1.0, 3.0], dtype=torch.float64)])
    assert float(found[0]) == pytest.approx(w, abs=SWING)
    (multiplier,) = handle.multipliers().values()
    assert float(multiplier) == pytest.approx(price, abs=SWING)
    (violation,) = handle.violation().values()
    assert violation <= SWING
    assert handle.stationarity() <= 1.0


def test_batches_without_samples_change_neither_the_limit_nor_the_price() -> None:
    """Of three batches two are empty: the price is that of the mean over all samples, and not a third of it."""
    full, empty = torch.tensor([1.0, 3.0], dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    found, handle = fit((affinet.expectation(value) <= 2).named("mean"), [empty, full, empty], steps=3000)
    # averages over ten batches of which a third counts move by some tenths of a step's violation from batch to batch
    assert float(found[0]) == pytest.approx(1.0, abs=1e-2)
    assert float(handle.multipliers()["mean"]) == pytest.approx(-1.0, rel=0.05)


def test_a_mean_over_all_samples_weighs_batches_by_their_samples() -> None:
    """Batches of one sample of 4, and of three of 0: the mean is w, not 2 w."""
    batches = [torch.tensor([4.0], dtype=torch.float64), torch.zeros(3, dtype=torch.float64)]
    found, _ = fit((affinet.expectation(value) <= 2).named("mean"), batches, steps=3000)
    # the averaged numerator swings by ±5 % between the two batches, and so does the averaged value
    assert float(found[0]) == pytest.approx(2.0, rel=0.1)


def test_batches_before_the_first_sample_give_zero_terms_and_no_nan() -> None:
    model = Line()
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    handle = affinet.lagrange(model, optimizer, (affinet.expectation(value) <= 2).named("mean"))
    for features in ([], [], [1.0, 3.0], []):
        optimizer.zero_grad()
        (model.loss() + handle.terms(model, torch.tensor(features, dtype=torch.float64))).backward()
        optimizer.step()
        assert bool(torch.isfinite(model.w).all())
    assert handle.violation()["mean"] == 0.0


def test_several_numbers_per_sample_have_a_price_each() -> None:
    def both(model: Line, features: Tensor) -> Tensor:
        return features[:, None] * model.w

    rule = (affinet.expectation(both) <= [2.0, 10.0]).named("both")
    found, handle = fit(rule, [torch.tensor([1.0, 3.0], dtype=torch.float64)], size=2)
    torch.testing.assert_close(found, torch.tensor([1.0, 3.0], dtype=torch.float64), atol=SWING, rtol=0)
    prices = handle.multipliers()["both"]
    torch.testing.assert_close(prices, torch.tensor([-1.0, 0.0], dtype=torch.float64), atol=SWING, rtol=0)


def test_evaluating_without_gradients_learns_nothing() -> None:
    model = Line()
    handle = affinet.lagrange(model, optim.SGD(model.parameters(), lr=0.1), affinet.expectation(value) <= 2)
    with torch.no_grad():
        handle.terms(model, torch.ones(3, dtype=torch.float64))
    assert all(violation != violation for violation in handle.violation().values())  # nan: nothing was seen


def test_rules_about_weights_and_expectations_hold_together() -> None:
    def first(model: Line, features: Tensor) -> Tensor:
        return features * model.w[0]

    model = Line(2)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 3000)
    w = affinet.weights(model).w
    handle = affinet.lagrange(model, optimizer, [w.sum() == 3, (affinet.expectation(first) <= 2).named("mean")])
    for _ in range(3000):
        optimizer.zero_grad()
        (model.loss() + handle.terms(model, torch.tensor([1.0, 3.0], dtype=torch.float64))).backward()
        optimizer.step()
        schedule.step()
    # w0 <= 1 and w1 = 3 − w0: nearest to (3, 3) is w = (1, 2), with ν of the sum −1 and 2 ν of the mean −1
    torch.testing.assert_close(model.w.detach(), torch.tensor([1.0, 2.0], dtype=torch.float64), atol=SWING, rtol=0)
    prices = handle.multipliers()
    assert float(prices["w.sum() == 3"]) == pytest.approx(-1.0, abs=SWING)
    assert float(prices["mean"]) == pytest.approx(-0.5, abs=SWING)
    assert handle.stationarity() <= SWING
    handle.terms(model, torch.tensor([9.0, 9.0], dtype=torch.float64))  # brings the average far above 2
    with pytest.raises(affinet.AttachError, match='"mean"'):
        handle.finish()
    with pytest.warns(affinet.LeftOutWarning, match='"mean"'):
        handle.finish(partial=True)
    assert handle.violation()["w.sum() == 3"] <= 1e-15


def test_a_line_search_compares_values_of_one_function() -> None:
    model = Line()
    optimizer = optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe")
    handle = affinet.lagrange(model, optimizer, (affinet.expectation(value) <= 2).named("mean"))
    features = torch.tensor([1.0, 3.0], dtype=torch.float64)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model.loss() + handle.terms(model, features)
        loss.backward()
        return loss

    for _ in range(30):
        optimizer.step(closure)
    # the method of multipliers converges linearly, by 1 / (1 + ρ / curvature) a step: far below 1/2 here
    assert float(model.w.detach()[0]) == pytest.approx(1.0, abs=1e-4)
    assert float(handle.multipliers()["mean"]) == pytest.approx(-1.0, abs=1e-4)


def test_a_step_without_the_terms_is_not_taken() -> None:
    model = Line()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = affinet.lagrange(model, optimizer, affinet.expectation(value) <= 2)
    (model.loss() + handle.terms(model, torch.ones(3, dtype=torch.float64))).backward()
    optimizer.step()
    before = model.w.detach().clone()
    optimizer.zero_grad()
    model.loss().backward()
    with pytest.raises(GradientError, match=r"the terms of .* were not computed for this step"):
        optimizer.step()
    assert torch.equal(model.w.detach(), before)
