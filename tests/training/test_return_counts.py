"""Counts of shortened, refused and slow steps under nonlinear equations, and the warnings of long runs of them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import optim

import affinet
from affinet.errors import ShortenedStepsWarning, SlowReturnWarning
from affinet.training.return_counts import IN_SEQUENCE


def attached(start: Any, rules: Any, rate: float) -> tuple[Any, optim.Optimizer, affinet.Handle]:
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    stepper = optim.SGD(model.parameters(), lr=rate)
    return model, stepper, affinet.project(model, stepper, rules(affinet.weights(model).w))


def pulled(model: Any, stepper: optim.Optimizer, gradient: Any, steps: int = 1) -> None:
    for _ in range(steps):
        model.w.grad = torch.tensor(gradient, dtype=torch.float64)
        stepper.step()


@pytest.mark.filterwarnings("ignore::affinet.SlowReturnWarning", "ignore::affinet.StepUndoneWarning")
def test_steps_onto_a_cusp_are_counted_and_warned_of_once() -> None:
    """Trap 10: `min x` on `y² = x³` rests nowhere: beyond the cusp at 0 there is no point."""
    model, stepper, handle = attached([1.0, 1.0], lambda w: (w[1] ** 2 == w[0] ** 3).named("cusp"), 0.3)
    watch = handle.watch()
    with pytest.warns(ShortenedStepsWarning, match=r'the last 10 steps under "cusp".*cusp') as caught:
        pulled(model, stepper, [1.0, 0.0], 60)
    assert len([each for each in caught if each.category is ShortenedStepsWarning]) == 1
    counts = watch.history[-1].returns["cusp"]
    assert counts.steps == 60
    assert counts.shortened + counts.refused >= IN_SEQUENCE
    assert watch.history[-1].numbers()["shortened/cusp"] == counts.shortened
    report = str(handle.report())
    assert f"steps under 'cusp': 60, of which {counts.shortened} shortened" in report
    assert float(model.w.detach()[0]) >= 0.0


def test_the_square_of_an_equation_is_returned_to_slowly_and_warned_of_once() -> None:
    """Trap 6: Newton's method goes half of the way at each step; doubled steps arrive all the same."""
    model, stepper, handle = attached([0.6, 0.8], lambda w: ((w @ w - 1) ** 2 == 0).named("square"), 0.1)
    with pytest.warns(SlowReturnWarning, match=r'the way back to "square" converges slowly') as caught:
        pulled(model, stepper, [1.0, 0.0], 5)
    assert len(caught) == 1
    assert handle.report().returns["square"].slow == 5
    assert "5, of which 5 with a slow way back to the equations" in str(handle.report())
    assert float(model.w.detach().norm()) == pytest.approx(1.0, abs=1e-7)  # half the digits
    assert float(model.w.detach()[0]) < 0.6


def test_the_textbook_equations_of_a_wavelet_are_reached() -> None:
    """Trap 6: with rank 3 of 4 at the solution; Daubechies' coefficients, to half the digits and better."""
    moments = np.array([0.0, -1.0, 2.0, -3.0])
    model, _, handle = attached(
        [0.5, 0.8, 0.2, -0.1],
        lambda w: [w @ w == 1, w[0] * w[2] + w[1] * w[3] == 0, w.sum() == 2**0.5, moments @ w == 0],
        0.1,
    )
    root = 3.0**0.5
    expected = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / (4 * 2**0.5)
    np.testing.assert_allclose(model.w.detach().numpy(), expected, rtol=0, atol=1e-8)
    assert max(handle.violation().values()) <= 1e-15
    assert handle.report(lambda: model.w.sum()).ranks == (3, 4)
    assert "have rank 3 at these weights, and 4 at almost all points" in str(handle.report(lambda: model.w.sum()))


def test_full_steps_are_counted_as_such_and_warn_of_nothing() -> None:
    model, stepper, handle = attached([0.6, 0.8], lambda w: [(w @ w * w[0] == 0.6).named("cubic")], 0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pulled(model, stepper, [1.0, 0.5], 20)
    counts = handle.report().returns["cubic"]
    assert (counts.steps, counts.shortened, counts.refused, counts.slow) == (20, 0, 0, 0)
    assert "steps under 'cubic': 20, all of them in full" in str(handle.report())


def test_runs_belong_to_cells() -> None:
    """Two cells that are shortened at every other step in turn make no run."""
    model, stepper, handle = attached(
        [[1.0, 1.0], [1.0, 1.0]], lambda w: (w[:, 1] ** 2 == w[:, 0] ** 3).named("cusps"), 30.0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", ShortenedStepsWarning)
        for step in range(2 * IN_SEQUENCE + 4):
            with torch.no_grad():
                model.w.copy_(torch.ones(2, 2))
            gradient = np.zeros((2, 2))
            gradient[step % 2, 0] = 1.0
            pulled(model, stepper, gradient.tolist())
    counts = handle.report().returns["cusps"]
    assert counts.shortened + counts.refused == counts.steps == 2 * IN_SEQUENCE + 4


def test_skipped_steps_are_not_counted_and_linear_rules_have_no_counts() -> None:
    model, stepper, handle = attached([0.6, 0.8], lambda w: [(w @ w * w[0] == 0.6).named("cubic")], 0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    for gradient in (float("inf"), 1.0):
        stepper.zero_grad()
        scaler.scale((model.w * gradient).sum()).backward()
        scaler.step(stepper)
        scaler.update()
    assert handle.report().returns["cubic"].steps == 1
    model, stepper, handle = attached([0.6, 0.8], lambda w: w.sum() == 1.4, 0.01)
    watch = handle.watch()
    pulled(model, stepper, [1.0, 0.0])
    assert handle.report().returns == {}
    assert not [name for name in watch.history[-1].numbers() if name.startswith(("shortened", "refused", "slow"))]
