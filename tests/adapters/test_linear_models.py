"""Linear models under rules: the optimum of independent solvers, features that depend on each other, and warnings."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression

import affinet
from affinet.sklearn import ConstrainedLinearRegression, ConstrainedLogisticRegression
from tests.adapters import conic_programs

Array = NDArray[Any]
NEAR = 1e-6
"""What is promised of coefficients, relative to the largest: the independent solvers stop at about 1e-9."""


class System(NamedTuple):
    """`A z = b`, `G z <= h` about coefficients (rows, features and intercept) flattened row-major; z0 satisfies it."""

    A: Array
    b: Array
    G: Array
    h: Array

    def rules(self, rows: int | None, width: int) -> Any:
        """The same as a function of named coefficients."""

        def of(coef: Any, intercept: Any) -> list[Any]:
            written = []
            for matrix, rhs, sense in ((self.A, self.b, "=="), (self.G, self.h, "<=")):
                for row, value in zip(matrix.reshape(len(matrix), rows or 1, width), rhs, strict=True):
                    row = row[0] if rows is None else row
                    left = (row[..., :-1] * coef).sum() + (row[..., -1] * intercept).sum()
                    written.append(left == value if sense == "==" else left <= value)
            return written

        return of


def drawn(draw: np.random.Generator, n: int, equations: int, inequalities: int) -> System:
    """Dense rows around a point, at which some inequalities hold with equality, and which they leave room to move."""
    point, A, G = draw.standard_normal(n), draw.standard_normal((equations, n)), draw.standard_normal((inequalities, n))
    slack = draw.exponential(1.0, inequalities)
    slack[: (n - equations) // 2] = 0.0
    return System(A, A @ point, G, G @ point + slack)


def with_ones(X: Array) -> Array:
    return np.concatenate([X, np.ones((len(X), 1))], axis=1)


def assert_near(coefficients: Array, truth: Array) -> None:
    assert np.abs(coefficients - truth).max() <= NEAR * np.abs(truth).max()


@pytest.mark.parametrize("seed", range(20))
def test_least_squares_are_those_of_a_solver_of_quadratic_programs(seed: int) -> None:
    """Features of scales 1/30 to 30, weights of samples, with and without a penalty, up to 30 rules."""
    draw = np.random.default_rng(seed)
    p = int(draw.integers(2, 9))
    X = draw.standard_normal((int(draw.integers(p + 5, 80)), p)) * 30.0 ** draw.uniform(-1, 1, p) + draw.normal(0, 5, p)
    y, weights = 3.0 * draw.standard_normal(len(X)), draw.exponential(1.0, len(X))
    alpha = float(draw.choice([0.0, 0.5]))
    system = drawn(draw, p + 1, int(draw.integers(0, p // 2 + 1)), int(draw.integers(1, 30)))
    model = ConstrainedLinearRegression(rules=system.rules(None, p + 1), alpha=alpha).fit(X, y, weights)
    penalties = np.append(np.full(p, alpha), 0.0)
    truth = conic_programs.least_squares(with_ones(X), y, weights, penalties, *system)
    assert_near(np.append(model.coef_, model.intercept_), truth)
    z = np.append(model.coef_, model.intercept_)
    sizes = np.abs(system.G) @ np.abs(z) + np.abs(system.h)
    assert (system.G @ z - system.h <= 1e-12 * sizes).all()  # to rounding: 1e-12 is 4,500 spacings, p + 1 terms a row
    assert model.plan_.inequalities == len(system.h)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("seed", range(8))
def test_logistic_regressions_are_those_of_a_conic_solver(seed: int, classes: int) -> None:
    draw = np.random.default_rng([seed, classes])
    p, rows = int(draw.integers(2, 6)), None if classes == 2 else classes
    X = draw.standard_normal((int(draw.integers(30, 60)), p))
    y = draw.permutation(np.arange(len(X)) % classes)
    weights, C = draw.exponential(1.0, len(X)), float(draw.choice([0.1, 1.0, 30.0]))
    n = (rows or 1) * (p + 1)
    system = drawn(draw, n, int(draw.integers(0, 2)), int(draw.integers(1, 9)))
    model = ConstrainedLogisticRegression(rules=system.rules(rows, p + 1), C=C).fit(X, y, weights)
    penalties = np.append(np.full(p, 1.0 / C), 0.0)
    truth = conic_programs.log_loss(with_ones(X), y, classes, weights, penalties, *system)
    z = np.hstack([model.coef_, model.intercept_[:, None]])
    slope = conic_programs.gradient(with_ones(X), y, weights, penalties, z)
    assert (
        conic_programs.distance_to_kkt(slope, z, *system) <= NEAR * weights.sum()
    )  # of a gradient summed over samples
    if np.abs(model.coef_ - truth[:, :-1]).max() > NEAR * np.abs(truth).max():
        # Rounding may keep the solver from its tolerance, by the processor: then only the point of affinet is feasible.
        assert (system.G @ z.ravel() - system.h).max(initial=0.0) <= 1e-12 * np.abs(z).sum()
        return
    assert_near(model.coef_, truth[:, :-1])  # the intercepts of three classes can shift where no rule prevents it
    assert_near(_centred(model.coef_ @ X.T + model.intercept_[:, None]), _centred(truth[:, :-1] @ X.T + truth[:, -1:]))


def _centred(scores: Array) -> Array:
    return scores if len(scores) == 1 else scores - scores.mean(axis=0)


@pytest.mark.parametrize("classes", [2, 3])
def test_without_penalty_the_optimum_is_that_of_a_conic_solver(classes: int) -> None:
    draw = np.random.default_rng(classes)
    X = draw.standard_normal((120, 3))
    y = draw.permutation(np.arange(120) % classes)
    rows = None if classes == 2 else classes
    system = drawn(draw, (rows or 1) * 4, 1, 4)
    model = ConstrainedLogisticRegression(rules=system.rules(rows, 4), C=np.inf).fit(X, y)
    truth = conic_programs.log_loss(with_ones(X), y, classes, np.ones(120), np.zeros(4), *system)
    assert_near(_centred(model.coef_ @ X.T + model.intercept_[:, None]), _centred(truth[:, :-1] @ X.T + truth[:, -1:]))


def test_without_rules_the_models_are_those_of_scikit_learn() -> None:
    X, y = load_diabetes(return_X_y=True)
    assert_near(ConstrainedLinearRegression().fit(X, y).coef_, LinearRegression().fit(X, y).coef_)
    bare = ConstrainedLinearRegression(fit_intercept=False).fit(X, y)
    assert_near(bare.coef_, LinearRegression(fit_intercept=False).fit(X, y).coef_)
    assert bare.intercept_ == 0.0
    X, y = load_iris(return_X_y=True)
    for rows in (slice(None), slice(0, 100)):
        ours = ConstrainedLogisticRegression(class_weight={0: 2.0, 1: 1.0, 2: 0.5}).fit(X[rows], y[rows])
        theirs = LogisticRegression(class_weight={0: 2.0, 1: 1.0, 2: 0.5}, tol=1e-12, max_iter=10_000).fit(
            X[rows], y[rows]
        )
        # lbfgs stops where the loss no longer falls, at the root of rounding: 1e-8 of the loss, 1e-4 of coefficients.
        assert np.abs(ours.coef_ - theirs.coef_).max() <= 1e-4 * np.abs(theirs.coef_).max()
        assert np.abs(ours.intercept_ - theirs.intercept_).max() <= 1e-4 * np.abs(theirs.intercept_).max()


def test_signs_are_those_of_positive_least_squares_with_zeros_that_are_zero() -> None:
    X, y = load_diabetes(return_X_y=True)
    ours = ConstrainedLinearRegression(rules="coef >= 0").fit(X, y)
    theirs = LinearRegression(positive=True).fit(X, y)
    assert_near(ours.coef_, theirs.coef_)
    assert ((ours.coef_ == 0.0) == (theirs.coef_ == 0.0)).all()
    assert (ours.coef_ == 0.0).sum() >= 3
    assert (ours.coef_ >= 0.0).all()


@pytest.mark.parametrize("seed", range(6))
def test_of_features_that_depend_on_each_other_the_coefficients_are_the_smallest(seed: int) -> None:
    """The limit of a penalty that goes to zero; at 1e-7 of the curvature it is within about 1e-7 of the limit."""
    draw = np.random.default_rng(seed)
    base = draw.standard_normal((60, 3))
    X = np.stack([base[:, 0], base[:, 0], base[:, 1], base[:, 1] + base[:, 2], base[:, 2], np.full(60, 4.0)], axis=1)
    y = draw.standard_normal(60)
    system = drawn(draw, 7, 1, 5)
    model = ConstrainedLinearRegression(rules=system.rules(None, 7)).fit(X, y)
    A, G = (_centred_rows(rows, X.mean(axis=0)) for rows in (system.A, system.G))
    design = with_ones(X - X.mean(axis=0))
    truth = conic_programs.least_squares(design, y, np.ones(60), np.full(7, 1e-6), A, system.b, G, system.h)
    z = np.append(model.coef_, model.intercept_ + model.coef_ @ X.mean(axis=0))
    loss, best = (np.square(design @ point - y).sum() for point in (z, truth))
    assert loss <= best * (1 + 1e-9)
    assert np.linalg.norm(z) <= np.linalg.norm(truth) * (1 + NEAR)
    assert np.abs(z - truth).max() <= 30 * NEAR  # the penalty has 1e-6 of a curvature of 60 / 30 and more


@pytest.mark.parametrize("rules", [None, "coef[0] <= 5"])
@pytest.mark.parametrize("samples", [30, 200, 2000])
def test_features_that_are_far_from_zero_and_depend_on_each_other(samples: int, rules: str | None) -> None:
    """Offsets of 100 to 1e8 spreads: the last column is the mean of the others, rounded at the offset.

    What rounding leaves of it is no feature: the loss is that of two columns, and coefficients are those of the
    smallest norm. With a third column that does not depend on them nothing is left out.
    """
    for power in range(2, 9):
        draw = np.random.default_rng([samples, power])
        spread = draw.standard_normal((samples, 3))
        X = 10.0**power + spread
        y = spread[:, 0] + draw.standard_normal(samples)
        dependent = np.stack([X[:, 0], X[:, 1], (X[:, 0] + X[:, 1]) / 2], axis=1)
        for features, columns in ((dependent, 2), (X, 3)):
            coef = ConstrainedLinearRegression(rules=rules).fit(features, y).coef_
            exact = np.asarray(features - features.astype(np.longdouble).mean(axis=0), np.float64)
            rest = y - y.mean()
            truth = np.linalg.lstsq(exact[:, :columns], rest, rcond=None)[0]
            loss, best = np.square(rest - exact @ coef).sum(), np.square(rest - exact[:, :columns] @ truth).sum()
            assert loss <= best * (1 + NEAR)
            if columns == 2:  # a x + b (1, 1, −2) has its smallest norm where coef[2] is the mean of the others
                assert np.abs(coef[2] - (coef[0] + coef[1]) / 2) <= 10.0 ** (power - 14)


def _centred_rows(rows: Array, means: Array) -> Array:
    return np.concatenate([rows[:, :-1] - rows[:, -1:] * means, rows[:, -1:]], axis=1)


def test_nearly_collinear_features_have_the_digits_that_their_condition_leaves() -> None:
    """Condition 1e6: the truth is computed in the two coordinates in which the columns are orthogonal."""
    draw = np.random.default_rng(0)
    basis = np.linalg.qr(draw.standard_normal((50, 3)))[0]
    X = np.stack([basis[:, 0], basis[:, 0] + 1e-6 * basis[:, 1], basis[:, 2]], axis=1)
    coef = np.array([2.0, -1.0, 0.5])
    y = X @ coef + 1e-3 * (np.eye(50) - basis @ basis.T)[0]  # orthogonal to the columns
    model = ConstrainedLinearRegression(rules="sum(coef) == 1.5", fit_intercept=False).fit(X, y)
    assert np.abs(model.coef_ - coef).max() <= 1e-8  # 1e6 spacings of numbers of size 2, times the 50 terms of a sum
    bounded = ConstrainedLinearRegression(rules="coef[1] >= -1", fit_intercept=False).fit(X, y)
    assert np.abs(bounded.coef_ - coef).max() <= 1e-8


def test_many_rules_that_bind_at_once() -> None:
    """30 ordered coefficients between bounds, under 60 more rows: the optimum is a vertex."""
    draw = np.random.default_rng(1)
    X, y = draw.standard_normal((200, 30)), 10.0 * draw.standard_normal(200)
    rows, point = draw.standard_normal((60, 30)), np.sort(draw.uniform(-0.5, 0.5, 30))
    limits = rows @ point + np.where(np.arange(60) % 4, 0.05, 0.0)
    rules = [lambda coef: rows @ coef <= limits, "coef.diff() >= 0", "between(-0.5, coef, 0.5)"]
    model = ConstrainedLinearRegression(rules=rules, fit_intercept=False).fit(X, y)
    unit = np.eye(30)
    G = np.concatenate([rows, -np.diff(unit, axis=0), unit, -unit])
    h = np.concatenate([limits, np.zeros(29), np.full(60, 0.5)])
    truth = conic_programs.least_squares(X, y, np.ones(200), np.zeros(30), np.zeros((0, 30)), np.zeros(0), G, h)
    assert_near(model.coef_, truth)
    assert (h - G @ model.coef_ < 1e-12).sum() >= 30


@pytest.mark.parametrize(
    "seed", [*range(1, 25), 70, 130, 412, 436, 619, 912, 957, 1026, 1033, 1182, 1235, 1585, 2059, 2672, 2798]
)
def test_integer_rules_that_meet_in_a_point_and_features_of_all_scales(seed: int) -> None:
    """Few samples, copies and constants, offsets of 1,000 at a spread of 1e-3, and rules that depend on each other.

    The later seeds ended at wrong coefficients, or after 100 steps, while rounding decided what depends on what.
    """
    draw = np.random.default_rng(seed)
    p, n = int(draw.integers(1, 8)), int(draw.integers(2, 30))
    X = draw.integers(-3, 4, (n, p)) * 10.0 ** draw.integers(-3, 4, p)
    if draw.random() < 0.4 and p > 1:
        X[:, 0] = X[:, -1]
    if draw.random() < 0.3:
        X[:, draw.integers(p)] = draw.integers(-2, 3)
    if draw.random() < 0.3:
        X += draw.integers(-1000, 1000, p)
    y = draw.integers(-5, 6, n).astype(float)
    A, G = (draw.integers(-2, 3, (int(draw.integers(*most)), p)).astype(float) for most in ((0, 3), (0, 12)))
    A, G = A[np.abs(A).sum(axis=1) > 0], G[np.abs(G).sum(axis=1) > 0]
    point = draw.integers(-2, 3, p)
    b, h = A @ point, G @ point + draw.integers(0, 2, len(G))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", affinet.NothingToTrainWarning)
        rules = [lambda coef: A @ coef == b] * bool(len(A)) + [lambda coef: G @ coef <= h] * bool(len(G))
        coef = ConstrainedLinearRegression(rules=rules).fit(X, y).coef_
    assert (np.abs(A @ coef - b) <= 1e-11 * (1 + np.abs(A) @ np.abs(coef) + np.abs(b))).all()
    assert (G @ coef - h <= 1e-11 * (1 + np.abs(G) @ np.abs(coef) + np.abs(h))).all()
    centred, rest = X - X.mean(axis=0), y - y.mean()
    scales = np.linalg.norm(centred, axis=0)
    scales[scales == 0.0] = 1.0
    truth, gap = conic_programs.quadratic(centred / scales, rest, A / scales, b, G / scales, h)
    if gap < 1e-8:  # else the truth is not known
        losses = [0.5 * np.square(centred @ each - rest).sum() for each in (coef, truth / scales)]
        assert losses[0] <= losses[1] + NEAR * (losses[0] + NEAR * rest @ rest) + 1e-9


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_logistic_regressions_whose_rules_begin_where_all_probabilities_are_0_or_1(seed: int, classes: int) -> None:
    """Rules ask for coefficients of some hundred: the nearest point to zero that obeys them has scores as large."""
    draw = np.random.default_rng([seed, classes])
    X, y = 10.0 * draw.standard_normal((20, 4)), draw.permutation(np.arange(20) % classes)
    n = 5 * (1 if classes == 2 else classes)
    G = np.zeros((2, n))
    G[0, :4], G[1, 4], G[1, 1] = 1.0, -1.0, -1.0
    system = System(np.zeros((0, n)), np.zeros(0), G, np.array([-300.0, -80.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model = ConstrainedLogisticRegression(rules=system.rules(None if classes == 2 else classes, 5)).fit(X, y)
    penalties = np.append(np.ones(4), 0.0)
    truth = conic_programs.log_loss(with_ones(X), y, classes, np.ones(20), penalties, *system)
    assert_near(model.coef_, truth[:, :-1])


@pytest.mark.parametrize("seed", [0, 1, 11, 30, 115])
def test_rules_in_the_hundreds_end_at_the_optimum(seed: int) -> None:
    """Seed 115 left the optimum along directions in which the Hessian, not the loss, was flat; others stopped."""
    draw = np.random.default_rng([seed, 77])
    classes, p, samples = (int(draw.integers(*between)) for between in ((2, 5), (2, 6), (10, 50)))
    X = draw.standard_normal((samples, p)) * 10.0 ** draw.integers(-1, 3, p)
    y = draw.permutation(np.arange(samples) % classes)
    rows = None if classes == 2 else classes
    n, C = (rows or 1) * (p + 1), float(draw.choice([0.1, 1, 10]))
    system = drawn(draw, n, int(draw.integers(0, 2)), int(draw.integers(1, 6)))
    size = 10.0 ** draw.integers(0, 4)
    system = System(system.A, system.b * size, system.G, system.h * size)
    model = ConstrainedLogisticRegression(rules=system.rules(rows, p + 1), C=C).fit(X, y)
    penalties = np.append(np.full(p, 1.0 / C), 0.0)
    truth = conic_programs.log_loss(with_ones(X), y, classes, np.ones(samples), penalties, *system)
    assert_near(model.coef_, truth[:, :-1])


@pytest.mark.parametrize("coupled", [False, True])
def test_targets_are_fitted_together_where_rules_couple_them(coupled: bool) -> None:
    draw = np.random.default_rng(2)
    X, Y = draw.standard_normal((40, 3)), draw.standard_normal((40, 2)) * [1.0, 100.0]
    rules = ["coef.sum(dim=1) == 1"] + ["coef[0, 'x0'] == coef[1, 'x0']", "coef[:, 2].sum() <= -3"] * coupled
    model = ConstrainedLinearRegression(rules=rules).fit(X, Y)
    A = np.array([[1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1, 0], [1, 0, 0, 0, -1, 0, 0, 0]], float)[: 2 + coupled]
    b = np.array([1.0, 1.0, 0.0])[: 2 + coupled]
    G, h = np.array([[0, 0, 1, 0, 0, 0, 1, 0]], float)[: int(coupled)], np.array([-3.0])[: int(coupled)]
    design = np.kron(np.eye(2), with_ones(X))
    truth = conic_programs.least_squares(design, Y.T.ravel(), np.ones(80), np.zeros(8), A, b, G, h).reshape(2, 4)
    assert_near(np.concatenate([model.coef_, model.intercept_[:, None]], axis=1), truth)
    assert model.predict(X).shape == (40, 2)


def test_rules_about_a_constant_feature_are_kept_where_the_data_say_nothing() -> None:
    draw = np.random.default_rng(3)
    X = np.stack([draw.standard_normal(30), np.full(30, 7.0)], axis=1)
    y = 2.0 * X[:, 0] + 1.0
    model = ConstrainedLinearRegression(rules=["coef['x1'] >= 3"]).fit(X, y)
    assert np.allclose(model.coef_, [2.0, 3.0], atol=1e-12)
    assert np.allclose(model.predict(X), y, atol=1e-12)


def test_a_rule_that_fixes_everything_leaves_nothing_to_fit() -> None:
    X = np.random.default_rng(4).standard_normal((20, 2))
    with pytest.warns(affinet.NothingToTrainWarning):
        model = ConstrainedLinearRegression(rules=["coef.sum() == 1", "coef[0] - coef[1] == 3", "intercept == 5"]).fit(
            X, X[:, 0]
        )
    assert np.allclose(model.coef_, [2.0, -1.0], atol=1e-14)
    assert model.intercept_ == 5.0


@pytest.mark.parametrize("seed", range(3))
def test_multipliers_are_what_a_right_hand_side_costs(seed: int) -> None:
    """Central differences over 1e-5: third derivatives are below 1e3, and losses of 1e2 are known to 1e-13."""
    draw = np.random.default_rng(seed)
    X, noise = draw.standard_normal((60, 3)) + 2.0, draw.standard_normal(60)
    weights = draw.exponential(1.0, 60)
    kinds: list[tuple[Any, Array]] = [
        (ConstrainedLinearRegression(alpha=0.3), X @ [1.0, -2.0, 0.5] + noise),
        (ConstrainedLogisticRegression(C=0.7), (X @ [1.0, -2.0, 0.5] + noise > 0).astype(int)),
    ]

    def fitted(model: Any, y: Array, total: float, bound: float) -> Any:
        rules = [f"sum(coef) + intercept == {total!r}", f"coef['x1'] >= {bound!r}", "coef['x0'] <= 1000"]
        return model.set_params(rules=rules).fit(X, y, weights)

    def loss(model: Any, y: Array) -> float:
        scores = X @ np.ravel(model.coef_) + float(np.ravel(model.intercept_)[0])
        if isinstance(model, ConstrainedLinearRegression):
            return float(0.5 * weights @ (y - scores) ** 2 + 0.15 * model.coef_ @ model.coef_)
        return float(0.7 * weights @ np.logaddexp(0.0, -(2 * y - 1) * scores) + 0.5 * np.sum(model.coef_**2))

    for model, y in kinds:
        total, bound, slack = (float(each) for each in fitted(model, y, 1.0, 0.25).multipliers_.values())
        step = 1e-5
        by_total = loss(fitted(model, y, 1 + step, 0.25), y) - loss(fitted(model, y, 1 - step, 0.25), y)
        by_bound = loss(fitted(model, y, 1, 0.25 + step), y) - loss(fitted(model, y, 1, 0.25 - step), y)
        assert total == pytest.approx(by_total / (2 * step), abs=1e-5)
        assert bound == pytest.approx(by_bound / (2 * step), abs=1e-5)
        assert bound > 0.1
        assert slack == 0.0
    assert ConstrainedLinearRegression().fit(X, noise).multipliers_ == {}


def test_coefficients_that_are_equal_or_opposite_are_so_to_the_bit() -> None:
    X, y = load_diabetes(return_X_y=True)
    rules = ["coef[2] == coef[8]", "coef[8] == -coef[0]", "coef[:2] * 3 == coef[4:6] * 3", "coef[3] == 2 * coef[9]"]
    coef = ConstrainedLinearRegression(rules=[*rules, "sum(coef) == 100", "coef[6] <= 0"]).fit(X, y).coef_
    assert coef[2] == coef[8] == -coef[0] == -coef[4]
    assert coef[1] == coef[5]
    assert abs(coef[3] - 2 * coef[9]) < 1e-10  # some spacings of 500, times the ten terms of the sum
    assert abs(coef.sum() - 100) < 1e-10
    bounded = ConstrainedLinearRegression(rules=["coef[2] == coef[8]", "coef[8] <= 10", "coef[0] == coef[8]"]).fit(X, y)
    assert set(bounded.coef_[[0, 2, 8]].tolist()) == {10.0}


def test_negative_weights_of_samples_are_refused() -> None:
    X = np.random.default_rng(6).standard_normal((10, 2))
    for model in (ConstrainedLinearRegression(), ConstrainedLogisticRegression()):
        with pytest.raises(ValueError, match="Negative values"):
            model.fit(X, X[:, 0] > 0, np.append(np.ones(9), -1.0))


def test_steps_that_are_too_few_are_warned_of_with_figures() -> None:
    draw = np.random.default_rng(5)
    X = draw.standard_normal((50, 2))
    with pytest.warns(ConvergenceWarning, match=r"the last of 1 steps \(max_iter\) moved the coefficients by \S+ of"):
        ConstrainedLogisticRegression(max_iter=1, rules="coef >= 0").fit(X, X[:, 0] > draw.standard_normal(50))
    with pytest.warns(ConvergenceWarning, match=r"Raise max_iter, scale the features, or drop rules"):
        ConstrainedLogisticRegression(max_iter=1).fit(X, X[:, 0] > 0)
    with pytest.warns(ConvergenceWarning, match="classes that a line can separate"):
        ConstrainedLogisticRegression(C=np.inf).fit(X, X[:, 0] > 0)
    bounded = ConstrainedLogisticRegression(C=np.inf, rules="linf_ball(coef, 10)").fit(X, X[:, 0] > 0)
    assert bounded.coef_[0, 0] == 10.0
