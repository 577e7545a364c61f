"""What people have asked in public for bounds, simplices and monotone weights: each is right at an active bound.

Each test names the thread that it comes from. The truth is an independent solver, or a solution by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import quadprog
import torch
from scipy.optimize import brentq, linprog, lsq_linear, nnls
from sklearn.datasets import load_diabetes
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LinearRegression, lars_path
from torch import Tensor, optim

import affinet
from affinet import families
from tests.training.inequality_problems import cosine

Make = Callable[[Any], optim.Optimizer]
ADAM: Make = lambda p: optim.Adam(p, lr=0.05)  # noqa: E731
SGD: Make = lambda p: optim.SGD(p, lr=0.1, momentum=0.9)  # noqa: E731
BOTH = pytest.mark.parametrize("make", [ADAM, SGD], ids=["Adam", "SGD"])
NEAR = 1e-6
"""How near the weights come: these losses have a condition below 1e3, so that some hundred steps leave less. A clamp
or a projection after the step ends 1e-2 away and more."""
ROUNDING = 1e-13
"""Sums of at most a thousand float64 weights of size one: 1,000 roundings of 1.1e-16."""


class Vector(torch.nn.Module):
    """A model whose weights are one tensor."""

    def __init__(self, start: Any) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(np.array(start), dtype=torch.float64))


def fit(
    start: Any,
    loss: Callable[[Tensor], Tensor],
    rules: Callable[[Any], Any],
    make: Make,
    steps: int = 600,
    watch: Callable[[Tensor], None] = lambda _: None,
) -> tuple[np.ndarray, affinet.Handle]:
    """Train one tensor under rules; what `watch` asserts holds after every step."""
    model = Vector(start)
    optimizer = make(model.parameters())
    handle = affinet.project(model, optimizer, rules(affinet.weights(model).weight))
    scheduler = cosine(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model.weight).backward()
        optimizer.step()
        scheduler.step()
        watch(model.weight.detach())
    return model.weight.detach().numpy().copy(), handle


def diabetes() -> tuple[np.ndarray, np.ndarray]:
    """Ten columns of variance one, of which three have a negative coefficient, and the outcome likewise."""
    inputs, outputs = load_diabetes(return_X_y=True)
    return inputs / inputs.std(axis=0), (outputs - outputs.mean()) / outputs.std()


def squares(X: np.ndarray, y: np.ndarray) -> Callable[[Tensor], Tensor]:
    """Half the mean squared error of `X w`."""
    inputs, outputs = torch.tensor(X), torch.tensor(y)
    return lambda w: 0.5 * (inputs @ w - outputs).square().mean()


def quadratic_program(X: np.ndarray, y: np.ndarray, rows: np.ndarray, rhs: np.ndarray, equations: int) -> np.ndarray:
    """The least squares solution with `rows @ w >= rhs`, the first of them equations, by quadprog."""
    return np.array(quadprog.solve_qp(X.T @ X / len(y), X.T @ y / len(y), rows.T, rhs, equations)[0])


@BOTH
def test_a_weight_that_starts_below_its_bound_does_not_die(make: Make) -> None:
    """`relu(w)` has no gradient where `w < 0`, so that such weights are stuck for ever.

    Source: https://github.com/pytorch/pytorch/issues/97452
    """
    X, y = diabetes()
    best, _ = nnls(X, y)
    w, _ = fit(np.full(10, -1.0), squares(X, y), families.nonnegative, make, 700)
    np.testing.assert_allclose(w, best, atol=NEAR)
    assert (best == 0).sum() >= 2
    assert ((w == 0) == (best == 0)).all()


def test_clamping_by_hand_after_the_step_is_not_needed_in_lightning_style_loops() -> None:
    """`clamp(min=0)` after each update, and where to put it: affinet does the same, to the bit, inside the step.

    Source: https://github.com/Lightning-AI/pytorch-lightning/issues/2382
    """
    X, y = diabetes()
    loss, by_hand = squares(X, y), Vector(np.full(10, 0.1))
    optimizer = ADAM(by_hand.parameters())
    scheduler = cosine(optimizer, 200)
    for _ in range(200):
        optimizer.zero_grad()
        loss(by_hand.weight).backward()
        optimizer.step()
        scheduler.step()
        with torch.no_grad():
            by_hand.weight.clamp_(min=0.0)
    w, _ = fit(np.full(10, 0.1), loss, families.nonnegative, ADAM, 200)
    np.testing.assert_array_equal(w, by_hand.weight.detach().numpy())
    assert (w == 0).any()


@pytest.mark.parametrize("sizes", [np.ones(10), np.logspace(-1, 1, 10)], ids=["even", "uneven"])
def test_positive_coefficients_are_those_of_scikit_learn(sizes: np.ndarray) -> None:
    """`LinearRegression(positive=True)`.

    Source: https://github.com/scikit-learn/scikit-learn/pull/17578, and a doubt about its zeros in
    https://github.com/scikit-learn/scikit-learn/issues/19553
    """
    X, y = diabetes()
    X = X * sizes
    best = LinearRegression(positive=True, fit_intercept=False).fit(X, y).coef_
    # In units of the columns, so that one learning rate fits.
    w, _ = fit(np.full(10, 0.1), lambda v: squares(X / sizes, y)(v), lambda v: v >= 0, ADAM, 700)
    np.testing.assert_allclose(w / sizes, best, atol=NEAR / sizes.min())
    assert ((w == 0) == (best == 0)).all()
    assert (best == 0).any()


@BOTH
def test_coefficients_have_bounds_of_their_own(make: Make) -> None:
    """Some coefficients are to be positive, some at most a number, and others free.

    Source: https://github.com/statsmodels/statsmodels/issues/7060, https://github.com/Quantco/glum/issues/577
    """
    X, y = diabetes()
    lower = np.array([0, -np.inf, 0, -np.inf, -0.1, -np.inf, 0, 0, -np.inf, -np.inf])
    upper = np.array([np.inf, 0, 0.2, np.inf, np.inf, 0.05, np.inf, np.inf, 0.25, np.inf])
    best = lsq_linear(X, y, bounds=(lower, upper), method="bvls", tol=1e-14).x
    w, _ = fit(np.zeros(10), squares(X, y), lambda v: families.between(lower, v, upper), make, 1000)
    np.testing.assert_allclose(w, best, atol=NEAR)
    assert ((w == lower) == (np.abs(best - lower) < 1e-9)).all()
    assert (w == lower).any()
    assert (w == upper).any()


@BOTH
def test_shares_that_sum_to_one_and_are_not_negative(make: Make) -> None:
    """`B + C == 1, B >= 0, C >= 0`, beside free coefficients, which a package for inequalities alone does not take.

    Source: https://github.com/avidale/constrained-linear-regression/issues/9
    """
    X, y = diabetes()
    rows = np.concatenate([[np.r_[np.zeros(2), np.ones(8)]], np.eye(10)[2:]])
    best = quadratic_program(X, y, rows, np.r_[1.0, np.zeros(8)], 1)
    w, _ = fit(np.full(10, 0.1), squares(X, y), lambda v: families.simplex(v[2:]), make, 700)
    np.testing.assert_allclose(w, best, atol=NEAR)
    assert abs(w[2:].sum() - 1) <= ROUNDING
    assert ((w[2:] == 0) == (np.abs(best[2:]) < 1e-9)).all()
    assert (w[2:] == 0).any()


@BOTH
def test_a_portfolio_is_fully_invested_after_every_step(make: Make) -> None:
    """Layers that solve a program give weights that do not sum to one where the solver stops early.

    Source: https://github.com/jankrepl/deepdow/issues/41
    """
    draw = np.random.default_rng(5)
    returns = draw.normal(size=(300, 8)) @ (np.eye(8) + 0.4 * draw.normal(size=(8, 8))) + 0.3 * draw.normal(size=8)
    covariance, mean = np.cov(returns.T), returns.mean(axis=0)
    rows = np.concatenate([np.ones((1, 8)), np.eye(8)])
    best = np.array(quadprog.solve_qp(covariance, mean, rows.T, np.r_[1.0, np.zeros(8)], 1)[0])
    square, linear = torch.tensor(covariance), torch.tensor(mean)

    def invested(w: Tensor) -> None:
        assert abs(float(w.sum()) - 1) <= ROUNDING
        assert float(w.min()) >= 0

    w, _ = fit(np.zeros(8), lambda v: 0.5 * v @ square @ v - linear @ v, families.simplex, make, 700, invested)
    np.testing.assert_allclose(w, best, atol=NEAR)
    assert ((w == 0) == (best < 1e-9)).all()
    assert (w == 0).any()


def test_a_thousand_shares_of_at_most_two_thousandths() -> None:
    """`x >= 0, x <= 0.002, sum(x) == 1`, maximising `mu @ x`: a layer's answers do not add up and change between runs.

    The best are the 500 largest. Source: https://github.com/cvxpy/cvxpylayers/issues/205
    """
    gains = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def allowed(x: Tensor) -> None:
        assert float(x.min()) >= 0
        assert float(x.max()) <= 0.002
        assert abs(float(x.sum()) - 1) <= ROUNDING

    x, handle = fit(
        np.full(1000, 0.001),
        lambda v: -gains @ v,
        lambda v: [affinet.between(0, v, 0.002), v.sum() == 1],
        lambda p: optim.Adam(p, lr=1e-3),
        300,
        allowed,
    )
    order = np.argsort(-gains.numpy())
    np.testing.assert_allclose(x[order[:500]], 0.002, atol=ROUNDING)
    np.testing.assert_allclose(x[order[500:]], 0.0, atol=ROUNDING)
    # Adding to the total buys the 501st, and gives up none: its price lies between the gains of the two at the border.
    (total,) = (value for name, value in handle.multipliers().items() if "sum" in name)
    assert -gains[order[499]] - NEAR <= float(total) <= -gains[order[500]] + NEAR


@BOTH
def test_norms_of_filters_are_bounded_along_the_right_axes(make: Make) -> None:
    """`MaxNorm` on convolutions took norms over hard-coded axes.

    For one filter: the least squares solution of norm at most r solves `(XᵀX + λ) w = Xᵀy` with the λ that meets the
    bound. Source: https://github.com/keras-team/keras/issues/474
    """
    draw = np.random.default_rng(0)
    images, truth = (
        draw.normal(size=(200, 2, 3, 3)),
        draw.normal(size=(3, 2, 3, 3)) * np.array([0.05, 1, 2])[:, None, None, None],
    )
    y = np.einsum("ncij,fcij->nf", images, truth)
    flat, target = torch.tensor(images.reshape(200, -1)), torch.tensor(y)
    w, _ = fit(
        np.zeros((3, 2, 3, 3)),
        lambda v: 0.5 * (flat @ v.flatten(1).T - target).square().sum() / 200,
        lambda v: families.l2_ball(v.reshape(3, 18), 1.0, dim=1),
        make,
        700,
    )
    X = flat.numpy()

    def ridge(penalty: float, k: int) -> np.ndarray:
        return np.linalg.solve(X.T @ X + penalty * np.eye(18), X.T @ y[:, k])

    for k, filter_ in enumerate(w.reshape(3, 18)):
        best = ridge(0.0, k)
        if np.linalg.norm(best) > 1:
            best = ridge(brentq(lambda p, k=k: np.linalg.norm(ridge(p, k)) - 1, 0, 1e6, xtol=1e-12), k)
            assert abs(np.linalg.norm(filter_) - 1) <= ROUNDING
        np.testing.assert_allclose(filter_, best, atol=NEAR)


@BOTH
def test_a_lattice_is_monotone_along_both_axes_at_every_read(make: Make) -> None:
    """Kernels of lattices were read that were not monotone, since the projection is approximate.

    Source: https://github.com/tensorflow/lattice/issues/50
    """
    draw = np.random.default_rng(2)
    seen = np.add.outer(np.arange(5.0), np.arange(4.0)) / 4 + draw.normal(size=(5, 4))
    numbers = np.eye(20).reshape(20, 5, 4)
    rows = np.concatenate([np.diff(numbers, axis=axis).reshape(20, -1) for axis in (1, 2)], axis=1).T
    best = quadratic_program(np.eye(20), seen.ravel(), rows, np.zeros(len(rows)), 0).reshape(5, 4)
    target = torch.tensor(seen)

    def monotone(w: Tensor) -> None:
        # Off the exact chain by one rounding of each of the two entries.
        assert min(float(w.diff(dim=dim).min()) for dim in (0, 1)) >= -4e-16 * float(w.abs().max())

    w, _ = fit(
        np.zeros((5, 4)),
        lambda v: 0.5 * (v - target).square().sum(),
        lambda v: [families.monotone(v, dim=0), families.monotone(v, dim=1)],
        make,
        400,
        monotone,
    )
    np.testing.assert_allclose(w, best, atol=NEAR)
    assert (np.diff(best, axis=0) < 1e-9).any()
    assert (np.diff(best, axis=1) < 1e-9).any()


@BOTH
@pytest.mark.parametrize("increasing", [True, False])
def test_heights_in_order_are_isotonic_regression(make: Make, increasing: bool) -> None:
    """Isotonic regression in torch, weights of samples included.

    Source: https://github.com/scipy/scipy/pull/17722, https://github.com/statsmodels/statsmodels/issues/9337
    """
    draw = np.random.default_rng(3)
    y, importance = draw.normal(size=30) + np.linspace(-1, 1, 30), draw.uniform(0.5, 2, 30)
    best = IsotonicRegression(increasing=increasing).fit_transform(np.arange(30), y, sample_weight=importance)
    target, sizes = torch.tensor(y), torch.tensor(importance)
    w, _ = fit(
        np.zeros(30),
        lambda v: 0.5 * (sizes * (v - target).square()).sum(),
        lambda v: families.monotone(v, increasing=increasing),
        make,
        400,
    )
    np.testing.assert_allclose(w, best, atol=NEAR)
    assert ((np.diff(w) == 0) == (np.abs(np.diff(best)) < 1e-9)).all()


@BOTH
def test_heights_of_a_concave_fit_are_those_of_a_quadratic_program(make: Make) -> None:
    """Second differences of one sign, for convex and concave estimates.

    Source: https://github.com/statsmodels/statsmodels/issues/9337
    """
    draw = np.random.default_rng(4)
    y = -(np.linspace(-1, 1, 15) ** 2) + 0.2 * draw.normal(size=15)
    rows = -np.diff(np.eye(15), n=2, axis=0)
    best = quadratic_program(np.eye(15), y, rows, np.zeros(13), 0)
    target = torch.tensor(y)
    w, _ = fit(np.zeros(15), lambda v: 0.5 * (v - target).square().sum(), families.concave, make, 400)
    np.testing.assert_allclose(w, best, atol=NEAR)
    assert 1 <= (np.abs(np.diff(best, n=2)) < 1e-9).sum() <= 12


@BOTH
def test_a_budget_of_magnitudes_is_the_lasso(make: Make) -> None:
    """The lasso of a given budget, from scikit-learn's path, which is linear between its corners.

    Source: https://github.com/scikit-learn/scikit-learn/issues/10746 (positive and l1 terms for gradient methods)
    """
    X, y = diabetes()
    _, _, corners = lars_path(X, y, method="lasso")
    budget = 0.8
    magnitudes = np.abs(corners).sum(axis=0)
    after = int(np.argmax(magnitudes >= budget))
    share = (budget - magnitudes[after - 1]) / (magnitudes[after] - magnitudes[after - 1])
    best = (1 - share) * corners[:, after - 1] + share * corners[:, after]
    w, _ = fit(np.zeros(10), squares(X, y), lambda v: families.l1_ball(v, budget), make, 700)
    np.testing.assert_allclose(w, best, atol=NEAR)
    assert abs(np.abs(w).sum() - budget) <= ROUNDING
    assert ((w == 0) == (best == 0)).all()
    assert (w == 0).any()


def test_rules_that_say_nothing_are_not_called_empty() -> None:
    """`0 @ x == 0` and `0 @ x <= 0` hold for all x, and a solver's check called them empty.

    Source: https://github.com/google/jaxopt/issues/469, whose second example has `x₀ == −1` with bounds around it
    """
    w, _ = fit(
        np.zeros(2),
        lambda v: -(2 * v[0] + v[1]),
        lambda v: [v.sum() * 0 <= 0, v[0] == -1, affinet.between(-1, v, 1)],
        ADAM,
        200,
    )
    best = linprog([-2.0, -1.0], A_eq=[[1, 0]], b_eq=[-1], bounds=[(-1, 1), (-1, 1)]).x
    np.testing.assert_array_equal(w, best)
    np.testing.assert_array_equal(w, [-1, 1])
