"""Prices of random rules: signs, complementarity, what they add up to, and derivatives of optima by another solver."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import quadprog

import affinet
from affinet import families
from affinet.analysis.prices import SIGNS, Prices, parts_by_rule, prices, rules_that_share
from affinet.analysis.rule_values import Rounding, Weight, at_bound
from affinet.language.constraint import Constraint
from affinet.system.limits import Limits
from affinet.system.system import System
from tests.planning.inequalities.random_sets import RandomRules

DOUBLE = Rounding(float(np.finfo(np.float64).eps), float(np.finfo(np.float64).smallest_subnormal))


def weights_of(system: System, arrays: dict[str, np.ndarray]) -> dict[str, Weight]:
    return {p.name: Weight(np.asarray(arrays[p.name], float).ravel(), DOUBLE) for p in system.layout.parameters}


def flat(system: System, arrays: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([np.asarray(arrays[p.name], float).ravel() for p in system.layout.parameters])


def dense_rows(system: System) -> tuple[np.ndarray, np.ndarray]:
    """All rows as written, and the signs that their prices may have."""
    matrix = system.rows(range(len(system.rules))).matrix(system.layout.size).toarray()
    return matrix, np.concatenate([np.full(rule.equations, SIGNS[rule.sense]) for rule in system.rules])


def at_the_hidden_point(seed: int) -> tuple[System, dict[str, Weight], np.random.Generator]:
    generator = RandomRules(seed)
    # Right-hand sides are sums of tenths, so that a third of the inequalities are at their bound to rounding.
    system = System.of(generator.rules())
    return system, weights_of(system, generator.point), generator.random


@pytest.mark.parametrize("seed", range(300))
def test_at_an_optimum_prices_make_up_the_gradient_with_their_signs(seed: int) -> None:
    system, weights, random = at_the_hidden_point(seed)
    matrix, signs = dense_rows(system)
    active = np.concatenate(
        [np.ones(r.equations, bool) if r.sense == "==" else at_bound(r, weights).ravel() for r in system.rules]
    )
    chosen = np.where(signs == 0, random.normal(size=len(signs)), signs * np.abs(random.normal(size=len(signs))))
    chosen *= active & (random.random(len(signs)) < 0.7)
    gradient = matrix.T @ chosen
    solved = prices(system, gradient, weights)
    # The gradient is a sum of a few rows of length below 10; rounding of their least squares is relative to it.
    scale = 1.0 + np.abs(gradient).max()
    assert np.abs(solved.residual).max() <= 1e-11 * scale
    np.testing.assert_allclose(matrix.T @ solved.values, gradient, atol=1e-11 * scale)
    assert (solved.values * signs >= 0.0).all()
    np.testing.assert_array_equal(solved.active, active)
    assert not solved.values[~active].any()
    assert not solved.shared[~active].any()
    unique = ~solved.shared & active
    np.testing.assert_allclose(solved.values[unique], chosen[unique], atol=1e-9 * scale)


@pytest.mark.parametrize("seed", range(300))
def test_elsewhere_they_are_those_of_the_nearest_point_of_the_cone(seed: int) -> None:
    system, weights, random = at_the_hidden_point(seed)
    matrix, signs = dense_rows(system)
    gradient = random.normal(size=system.layout.size)
    solved = prices(system, gradient, weights)
    # Of a cone, the nearest point p to g has (g − p) ⟂ p, and no generator makes an acute angle with g − p (Moreau).
    along = matrix[solved.active] @ solved.residual / np.linalg.norm(matrix[solved.active], axis=1)
    allowed = signs[solved.active]
    assert np.abs(along[allowed == 0]).max(initial=0.0) <= 1e-11
    assert (along * allowed).max(initial=0.0) <= 1e-11
    assert abs(solved.residual @ (gradient - solved.residual)) <= 1e-10
    np.testing.assert_allclose(gradient - matrix.T @ solved.values, solved.residual, atol=1e-10)
    assert (solved.values * signs >= 0.0).all()


@pytest.mark.parametrize("seed", range(60))
def test_large_components_have_the_prices_of_small_ones(seed: int) -> None:
    system, weights, random = at_the_hidden_point(seed)
    large = System(system.rules, system.layout, system.tolerance, Limits(dense_numbers=0))
    gradient = random.normal(size=system.layout.size)
    small, sparse = prices(system, gradient, weights), prices(large, gradient, weights)
    # Iterations stop at 1e-13 of the gradient, times the condition of the rows, which is below 1e4 here.
    assert np.linalg.norm(sparse.residual) == pytest.approx(np.linalg.norm(small.residual), abs=1e-8)
    np.testing.assert_array_equal(sparse.shared, small.shared)
    unique = ~small.shared
    np.testing.assert_allclose(sparse.values[unique], small.values[unique], atol=1e-7)


def solve(rules: Sequence[Constraint], center: np.ndarray, metric: np.ndarray) -> tuple[np.ndarray, float]:
    """The minimum of `½ Σ metric (w − center)²` under rules, by Goldfarb and Idnani's method."""
    system = System.of(rules)
    matrix, signs = dense_rows(system)
    right = system.rows(range(len(rules))).rhs
    order = np.argsort(signs != 0, kind="stable")
    turned = np.where(signs < 0, -1.0, 1.0)[order]
    answer = quadprog.solve_qp(
        np.diag(metric),
        metric * center,
        (matrix[order] * turned[:, None]).T,
        right[order] * turned,
        int((signs == 0).sum()),
    )
    return answer[0], float(0.5 * (metric * (answer[0] - center) ** 2).sum())


@pytest.mark.parametrize("seed", range(40))
def test_prices_are_derivatives_of_the_optimum(seed: int) -> None:
    random = np.random.default_rng(seed)
    a = affinet.weights({"a": np.zeros((3, 4))})["a"]
    dense = random.normal(size=(3, 12))
    total, low, top = random.normal(size=3), random.normal(size=(3, 4)) - 1.5, random.normal(size=3)
    shifts = [np.zeros(3), np.zeros((3, 4)), np.zeros(3)]

    def rules(change: float, rule: int, place: int) -> list[Constraint]:
        moved = [shift.copy() for shift in shifts]
        moved[rule].reshape(-1)[place] += change
        return [
            a.sum(dim=1) == total + moved[0],
            2.0 * a >= low + moved[1],
            dense @ a.reshape(-1) <= top + moved[2],
        ]

    center, metric = 2.0 * random.normal(size=12), random.uniform(0.5, 2.0, size=12)
    try:
        w, _ = solve(rules(0.0, 0, 0), center, metric)
    except ValueError:
        pytest.skip("these rules have no point")
    system = System.of(rules(0.0, 0, 0))
    # The solver is exact to about 1e-13 here: weights are taken to be known to 1e-12.
    known = {"a": Weight(w, Rounding(1e-12, 0.0))}
    solved = prices(system, metric * (w - center), known)
    assert np.abs(solved.residual).max() <= 1e-10 * (1.0 + np.abs(center).max())
    values, step = parts_by_rule(solved), 1e-4
    for number, (rule, price) in enumerate(zip(system.rules, values.values(), strict=True)):
        assert price.shape == rule.shape
        for place in range(price.size):
            ends = [solve(rules(sign * step, number, place), center, metric)[1] for sign in (1.0, -1.0)]
            # The optimum is quadratic in a right-hand side while the active set stays: the quotient is exact but for
            # rounding of f, 1e-15 · f / step. Where the set changes within the step, it is off by the step's order.
            assert (ends[0] - ends[1]) / (2.0 * step) == pytest.approx(price.reshape(-1)[place], abs=3e-2)
            if solved.active.sum() == np.linalg.matrix_rank(dense_rows(system)[0][solved.active]):
                assert not solved.shared.any()


def entry(shape: tuple[int, ...] = (4,)) -> affinet.Expression:
    return affinet.weights({"w": np.zeros(shape)})["w"]


def priced(rules: Sequence[Constraint], w: np.ndarray, gradient: np.ndarray) -> tuple[System, Prices]:
    system = System.of(rules)
    return system, prices(system, np.asarray(gradient, float).ravel(), weights_of(system, {"w": w}))


def test_a_bound_stated_twice_is_shared_by_its_rules() -> None:
    w = entry()
    rules = [(w >= 0).named("one"), (2 * w >= 0).named("two"), (w <= 5).named("top")]
    _, solved = priced(rules, np.array([0.0, 0.0, 1.0, 5.0]), np.array([4.0, 1.0, 0.0, -3.0]))
    values = parts_by_rule(solved)
    np.testing.assert_allclose(values["one"], [2.0, 0.5, 0.0, 0.0])
    np.testing.assert_allclose(values["two"], [1.0, 0.25, 0.0, 0.0])
    np.testing.assert_allclose(values["top"], [0.0, 0.0, 0.0, -3.0])
    assert rules_that_share(solved) == {"one": ("two",), "two": ("one",)}


def test_a_vertex_with_a_bound_too_many_is_shared() -> None:
    w = entry((2,))
    rules = [(w.sum() == 1).named("sum"), (w >= 0).named("low"), (w <= 1).named("top")]
    _, solved = priced(rules, np.array([0.0, 1.0]), np.array([3.0, 1.0]))
    values = parts_by_rule(solved)
    # Of all (sum, low, top) with sum + low = 3, sum + top = 1, low >= 0 >= top and rows of length one as
    # (sum √2, low, top), the smallest has sum = 1.
    np.testing.assert_allclose([values["sum"], values["low"][0], values["top"][1]], [1.0, 2.0, 0.0], atol=1e-12)
    assert set(rules_that_share(solved)) == {"sum", "low", "top"}


@pytest.mark.parametrize("seed", range(20))
def test_of_several_prices_the_smallest_are_given(seed: int) -> None:
    """More rows than entries at one corner: against quadratic programming over the multipliers."""
    random = np.random.default_rng(seed)
    w, matrix = entry((3,)), random.normal(size=(5, 3))
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    exact = matrix[0]
    rules = [exact @ w == 0, matrix[1:4] @ w <= 0, matrix[4] @ w >= 0]
    signs = np.array([0.0, -1.0, -1.0, -1.0, 1.0])
    chosen = np.where(signs == 0, random.normal(size=5), signs * np.abs(random.normal(size=5)))
    gradient = matrix.T @ chosen
    _, solved = priced(rules, np.zeros(3), gradient)
    answer = quadprog.solve_qp(
        np.eye(5),
        np.zeros(5),
        np.concatenate([matrix, np.diag(signs)[:, 1:]], axis=1),
        np.concatenate([gradient, np.zeros(4)]),
        3,
    )[0]
    np.testing.assert_allclose(solved.values, answer, atol=1e-9)


@pytest.mark.parametrize("order", [1, 2])
def test_the_price_of_a_radius_is_a_derivative(order: int) -> None:
    """Of `½ |w − c|²` over a ball: the distance to the ball, or what soft thresholding takes from each entry."""
    w, center = entry((2, 3)), np.array([[3.0, -1.0, 0.2], [0.1, 0.1, 0.0]])
    ball = families.l2_ball(w, 2.0, dim=-1) if order == 2 else families.l1_ball(w, 2.0, dim=-1)
    nearest = center.copy()
    nearest[0] = 2.0 * center[0] / np.linalg.norm(center[0]) if order == 2 else [2.0, 0.0, 0.0]
    _, solved = priced([ball], nearest, nearest - center)
    wanted = -(np.linalg.norm(center[0]) - 2.0) if order == 2 else -1.0
    np.testing.assert_allclose(solved.values, [wanted, 0.0], atol=1e-12)
    np.testing.assert_allclose(solved.residual, 0.0, atol=1e-12)
    assert solved.active.tolist() == [True, False]


def test_prices_of_large_rules_take_no_number_per_zero_entry() -> None:
    w = entry((300, 400))
    rules = [(w >= 0).named("low"), (w.sum(dim=1) == 1).named("sum")]
    random = np.random.default_rng(0)
    point = np.zeros((300, 400))
    point[:, :3] = 0.25, 0.25, 0.5
    price, total = np.abs(random.normal(size=(300, 400))) * (point == 0), random.normal(size=300)
    _, solved = priced(rules, point, price + total[:, None])
    np.testing.assert_allclose(solved.values, np.concatenate([price.ravel(), total]), atol=1e-12)
    assert not solved.shared.any()
