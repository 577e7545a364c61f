"""Plans in scipy.optimize: published optima, assignment as a linear program, weights without rules, refusals."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy
import torch
from scipy.optimize import OptimizeResult, linear_sum_assignment, linprog, milp, minimize

import affinet
import affinet.scipy
from affinet import families
from affinet.scipy import PlanConstraints
from tests.training import curved_problems, published_problems
from tests.training.published_problems import Problem

TIGHT = {
    "SLSQP": {"ftol": 1e-12, "maxiter": 500},
    "trust-constr": {"gtol": 1e-9, "xtol": 1e-13, "barrier_tol": 1e-10, "maxiter": 5000},
}
NEAR = 1e-6
"""Share of the objective within which solvers stop: trust-constr ends where its barrier, of one number per inequality,
has fallen to 1e-10, and single steps of quasi-Newton methods are not exact."""
INEQUALITIES = {name: make() for name, make in published_problems.PROBLEMS.items()}


def value_of(problem: Problem, shape: tuple[int, ...]) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """The loss and its gradient at a vector."""

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        w = torch.tensor(x.reshape(shape), requires_grad=True)
        loss = problem.loss(w)
        loss.backward()
        assert w.grad is not None
        return loss.item(), w.grad.numpy().reshape(-1)

    return value


def posed(problem: Problem) -> tuple[PlanConstraints, np.ndarray]:
    plan = affinet.plan(problem.rules(affinet.weights({"w": problem.start.shape}).w))
    made = affinet.scipy.linear_constraints(plan)
    return made, made.to_vector({"w": problem.start})


def solved(problem: Problem, method: str) -> OptimizeResult:
    made, x = posed(problem)
    value = value_of(problem, problem.start.shape)
    return minimize(
        value, x, jac=True, method=method, constraints=made.constraints, bounds=made.bounds, options=TIGHT[method]
    )


INTERIOR = ("nnls", "rows=", "rows<=", "dense20", "budget", "HS21", "HS35", "HS76", "HS42", "HS60", "HS78")
"""Problems for trust-constr: an interior-point method ends at another stationary point, or after thousands of steps,
where the objective is not convex over the set."""
UNBOUNDED = ("least eigenvalue",)
"""SLSQP searches along lines for the least objective plus a multiple of the violation. This objective falls with the
square of the length of w, its violation grows with the length: there is no least value."""
CASES = [("SLSQP", name) for name in (*INEQUALITIES, *curved_problems.PROBLEMS) if name not in UNBOUNDED]
CASES += [("trust-constr", name) for name in INTERIOR]


@pytest.mark.parametrize(("method", "name"), CASES)
@pytest.mark.filterwarnings("ignore:delta_grad == 0.0", "ignore:Values in x were outside bounds")
def test_published_optima(method: str, name: str) -> None:
    problem = INEQUALITIES[name] if name in INEQUALITIES else curved_problems.PROBLEMS[name]
    assert solved(problem, method).fun == pytest.approx(problem.optimum, rel=NEAR, abs=NEAR)


def test_the_optimum_is_that_of_a_training() -> None:
    """Least squares under equations and bounds: SLSQP, SLSQP without equations, and Adam under `project`."""
    draw = np.random.default_rng(0)
    features, targets = torch.from_numpy(draw.standard_normal((40, 12))), torch.from_numpy(draw.standard_normal(40))
    start = np.full((3, 4), 0.25)
    problem = Problem(
        start,
        lambda w: 0.5 * (features @ w.reshape(-1) - targets).square().mean(),
        lambda w: [w.sum(dim=1) == 1, w[0, 0] == 2 * w[1, 1], w <= 0.6],
        0.0,
    )
    made, x = posed(problem)
    value = value_of(problem, start.shape)
    given = {"jac": True, "method": "SLSQP", "options": TIGHT["SLSQP"]}
    found = minimize(value, x, constraints=made.constraints, bounds=made.bounds, **given)
    space = made.null_space()

    def reduced(v: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = value(space.from_free(v))
        return loss, space.basis.T @ gradient

    free = minimize(reduced, space.to_free(x), constraints=made.reduced_constraints(space), **given)
    assert len(free.x) == 12 - 4
    assert free.fun == pytest.approx(found.fun, rel=1e-9)
    model = problem.model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    affinet.project(model, optimizer, problem.rules(affinet.weights(model).w))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1500)
    for _ in range(1500):
        optimizer.zero_grad()
        problem.loss(model.w).backward()
        optimizer.step()
        scheduler.step()
    assert value(model.w.detach().numpy().reshape(-1))[0] == pytest.approx(found.fun, rel=1e-9)


@pytest.mark.parametrize("method", ["COBYLA", "COBYQA"])
def test_solvers_without_derivatives_take_rows_of_equations_and_inequalities(method: str) -> None:
    if tuple(map(int, scipy.__version__.split(".")[:2])) < (1, 14) and method == "COBYQA":
        pytest.skip("COBYQA came with SciPy 1.14")
    w = affinet.weights({"w": (2, 3)})
    plan = affinet.plan([w.w.sum(dim=1) == 1, w.w[0, 0] + w.w[1, 0] >= 0, w.w <= 2])
    problem = affinet.scipy.linear_constraints(plan)
    target, start = np.array([-2.0, 1, 2, -1, 1, 2]), problem.to_vector({"w": np.full((2, 3), 1 / 3)})
    solvers = {name: {"constraints": problem.constraints, "bounds": problem.bounds} for name in (method, "SLSQP")}
    found = [minimize(lambda x: ((x - target) ** 2).sum(), start, method=m, **given).x for m, given in solvers.items()]
    np.testing.assert_allclose(*found, atol=2e-3)  # their own accuracy: without derivatives they end at 1e-4 to 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_linear_programs_over_doubly_stochastic_matrices_are_assignments(seed: int) -> None:
    """Birkhoff: the least cost over matrices with rows and columns of sum 1 is that of the best permutation."""
    cost = np.random.default_rng(seed).standard_normal((5, 5))
    w = affinet.weights({"w": (5, 5)}).w
    made = affinet.scipy.linear_constraints(affinet.plan([w.sum(dim=0) == 1, w.sum(dim=1) == 1, w >= 0]))
    best = cost[linear_sum_assignment(cost)].sum()
    assert made.A.shape == (9, 25)
    assert linprog(cost.ravel(), **made.linprog()).fun == pytest.approx(best, rel=1e-9)
    whole = milp(cost.ravel(), constraints=made.constraints, bounds=made.bounds, integrality=np.ones(25))
    assert whole.fun == pytest.approx(best, rel=1e-9)
    np.testing.assert_array_equal(np.unique(made.from_vector(np.round(whole.x))["w"]), [0, 1])


def test_rows_bounds_and_their_senses() -> None:
    w = affinet.weights({"b": (3,), "a": (2, 2)})
    rules = [
        -2 * w.b[0] <= 4,
        w.b[0] <= 7,
        w.b[0] <= 5,
        w.b[1] + w.b[2] >= 1,
        w.a[0, 1] == 3,
        w.a[1] <= np.array([np.inf, 2]),
        w.a[0, 0] - w.a[0, 0] <= 1,
    ]
    made = affinet.scipy.linear_constraints(affinet.plan(rules))
    np.testing.assert_array_equal(made.bounds.lb, [-np.inf] * 4 + [-2] + [-np.inf] * 2)
    np.testing.assert_array_equal(made.bounds.ub, [np.inf] * 3 + [2, 5, np.inf, np.inf])
    np.testing.assert_array_equal(made.G.toarray(), [[0, 0, 0, 0, 0, -1, -1]])
    np.testing.assert_array_equal(made.h, [-1])
    np.testing.assert_array_equal(made.A.toarray(), [[0, 1, 0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(made.b, [3])


def test_bounds_that_differ_by_rounding_are_one_number() -> None:
    w = affinet.weights({"w": (1,)}).w
    with pytest.warns(affinet.NothingToTrainWarning):
        plan = affinet.plan([3 * w <= 1, w >= np.nextafter(1 / 3, 1)])
    made = affinet.scipy.linear_constraints(plan)
    assert made.bounds.lb[0] == made.bounds.ub[0] == pytest.approx(1 / 3)


def test_weights_without_rules_are_in_the_vector() -> None:
    shapes = {"c": (2,), "b": (3,), "a": (2, 2)}
    w = affinet.weights(shapes)
    plan = affinet.plan([w.b.sum() == 1, w.b >= 0])
    made = affinet.scipy.linear_constraints(plan, shapes)
    arrays = {name: np.arange(np.prod(shape), dtype=float).reshape(shape) for name, shape in shapes.items()}
    vector = made.to_vector(arrays)
    np.testing.assert_array_equal(vector, [0, 1, 2, 3, 0, 1, 2, 0, 1])
    np.testing.assert_array_equal(made.A.toarray(), [[0, 0, 0, 0, 1, 1, 1, 0, 0]])
    np.testing.assert_array_equal(made.bounds.lb, [-np.inf] * 4 + [0] * 3 + [-np.inf] * 2)
    space = made.null_space()
    assert space.free == 8
    np.testing.assert_allclose(space.point, [0, 0, 0, 0, 1 / 3, 1 / 3, 1 / 3, 0, 0], atol=1e-15)
    for name, array in made.from_vector(vector).items():
        np.testing.assert_array_equal(array, arrays[name])


def test_nonlinear_constraints_read_the_weights_among_others() -> None:
    shapes = {"a": (2,), "b": (3,), "c": (2, 3)}
    w = affinet.weights(shapes)
    plan = affinet.plan([w.b @ w.b == 1, families.l2_ball(w.c, [1.0, 2.0], dim=1)])
    made = affinet.scipy.linear_constraints(plan, shapes)
    x = np.random.default_rng(0).standard_normal(made.size)
    weights = made.from_vector(x)
    equation, ball = made.nonlinear
    np.testing.assert_allclose(equation.fun(x), [weights["b"] @ weights["b"] - 1], atol=1e-14)
    np.testing.assert_allclose(equation.jac(x).toarray(), [[0, 0, *(2 * weights["b"]), *np.zeros(6)]], atol=1e-14)
    np.testing.assert_allclose(ball.fun(x), (weights["c"] ** 2).sum(axis=1), atol=1e-14)
    np.testing.assert_array_equal(ball.ub, [1, 4])
    wanted = np.zeros((2, 11))
    wanted[0, 5:8], wanted[1, 8:] = 2 * weights["c"]
    np.testing.assert_allclose(ball.jac(x).toarray(), wanted, atol=1e-14)


def test_the_nearest_point_of_a_ball() -> None:
    w = affinet.weights({"w": (2, 3)}).w
    made = affinet.scipy.linear_constraints(affinet.plan(families.l2_ball(w, [1.0, 9.0], dim=1)))
    target = np.array([3.0, 0.0, 4.0, 1.0, 2.0, 3.0])
    result = minimize(
        lambda x: (0.5 * ((x - target) ** 2).sum(), x - target), np.full(6, 0.1), jac=True, method="SLSQP",
        constraints=made.constraints, options=TIGHT["SLSQP"],
    )  # fmt: skip
    np.testing.assert_allclose(result.x, [0.6, 0, 0.8, 1, 2, 3], atol=1e-6)


def test_equations_that_are_written_twice_are_one_constraint() -> None:
    w = affinet.weights({"w": (4, 3)}).w
    made = affinet.scipy.linear_constraints(affinet.plan([w.T @ w == np.eye(3), 1 - w[:, 0] @ w[:, 0] == 0]))
    assert len(made.nonlinear[0].fun(np.ones(12))) == 6
    different = affinet.scipy.linear_constraints(affinet.plan([w[0, 0] ** 2 == 1, w[0, 0] ** 2 + w[0, 1] ** 2 == 1]))
    assert len(different.nonlinear[0].fun(np.ones(2) if different.size == 2 else np.ones(12))) == 2


def test_reduced_nonlinear_constraints_have_the_derivatives_of_the_free_numbers() -> None:
    w = affinet.weights({"w": (3,), "u": (2,)})
    made = affinet.scipy.linear_constraints(affinet.plan([w.w.sum() == 1, w.u @ w.u == 1]))
    space = made.null_space()
    (constraint,) = made.reduced_constraints(space)
    v, step = np.random.default_rng(0).standard_normal(space.free), 1e-6
    slopes = [(constraint.fun(v + step * e) - constraint.fun(v - step * e)) / (2 * step) for e in np.eye(space.free)]
    # Central differences of a quadratic are exact but for rounding, u / step.
    np.testing.assert_allclose(constraint.jac(v), np.transpose(slopes), atol=1e-9)


def test_a_large_plan_of_small_rules_is_written_in_seconds() -> None:
    w = affinet.weights({"w": (20_000, 5)}).w
    made = affinet.scipy.linear_constraints(affinet.plan([w.sum(dim=1) == 1, w >= 0]))
    assert made.A.nnz == 100_000
    assert made.null_space().basis.shape == (100_000, 80_000)


def test_a_plan_without_rules() -> None:
    made = affinet.scipy.linear_constraints(affinet.plan([]))
    assert (made.size, made.constraints, made.from_vector([])) == (0, [], {})
    assert made.null_space().basis.shape == (0, 0)


@pytest.mark.parametrize(
    ("code", "absent"),
    [("import affinet", "affinet.scipy"), ("import affinet.scipy; affinet.scipy.linear_constraints", "torch")],
)
def test_nothing_is_imported_that_is_not_needed(code: str, absent: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print({absent!r} in sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout.strip() == "False"


def test_the_module_is_there_once_it_is_asked_for() -> None:
    code = "import affinet; print(affinet.scipy.linear_constraints.__name__, 'scipy' in affinet.__all__)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["linear_constraints", "False"]


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(affinet.AffinetError) as caught:
        call()
    return str(caught.value)


def test_what_has_no_derivatives_is_refused_by_name() -> None:
    w = affinet.weights({"w": (2, 3)}).w
    plan = affinet.plan(families.l1_ball(w, 1.0).named("sparse"))
    message = refusal(lambda: affinet.scipy.linear_constraints(plan))
    assert message.startswith('rule "sparse" bounds a sum of magnitudes')
    curved = affinet.scipy.linear_constraints(affinet.plan((w[0] @ w[0] == 1).named("unit")))
    assert refusal(curved.linprog).startswith('rule "unit" is not linear')


def test_vectors_and_weights_that_do_not_belong_to_the_plan() -> None:
    w = affinet.weights({"w": (2, 3)}).w
    plan = affinet.plan([w.sum() == 1])
    assert "Did you mean 'w'" not in refusal(lambda: affinet.scipy.to_vector(plan, {"v": np.ones((2, 3))}))
    assert "shape (3, 2)" in refusal(lambda: affinet.scipy.to_vector(plan, {"w": np.ones((3, 2))}))
    assert "dtype is complex128" in refusal(lambda: affinet.scipy.to_vector(plan, {"w": np.ones((2, 3), complex)}))
    assert "take shape (6,)" in refusal(lambda: affinet.scipy.from_vector(plan, np.ones(5)))
    assert "shape (3, 2)" in refusal(lambda: affinet.scipy.linear_constraints(plan, {"w": (3, 2)}))


def test_weights_of_any_library_make_a_vector() -> None:
    w = affinet.weights({"w": (2, 3)}).w
    plan, numbers = affinet.plan([w.sum() == 1]), np.arange(6.0).reshape(2, 3)
    for array in (
        torch.nn.Parameter(torch.tensor(numbers)),
        torch.tensor(numbers, dtype=torch.bfloat16),
        numbers.astype(np.float16),
        numbers.tolist(),
        numbers.astype(object),
    ):
        np.testing.assert_array_equal(affinet.scipy.to_vector(plan, {"w": array}), np.arange(6.0))
    ragged = refusal(lambda: affinet.scipy.to_vector(plan, {"w": [[1.0, 2.0], [3.0]]}))
    assert ragged.startswith("w cannot be constrained: ")
    assert "masked" in refusal(lambda: affinet.scipy.to_vector(plan, {"w": np.ma.masked_array(numbers, numbers > 2)}))
    assert "dtype complex128" in refusal(lambda: affinet.scipy.from_vector(plan, np.ones(6) * 1j))


def test_a_basis_that_takes_too_much_memory_is_refused_before() -> None:
    w = affinet.weights({"w": (50_000,)}).w
    made = affinet.scipy.linear_constraints(affinet.plan([w.sum() == 1]))
    assert "affinet.project, which needs no basis" in refusal(made.null_space)


def test_nonlinear_inequalities_keep_their_sides() -> None:
    """Hock and Schittkowski's problem 43, written with both senses; its least value is −44."""
    w = affinet.weights({"w": (4,)}).w
    rules = [
        8 - w @ w - w[0] + w[1] - w[2] + w[3] >= 0,
        w @ w + w[1] ** 2 + w[3] ** 2 - w[0] - w[3] <= 10,
        2 * w[0] ** 2 + w[1] ** 2 + w[2] ** 2 + 2 * w[0] - w[1] - w[3] <= 5,
        w[:2] * w[2:] <= np.array([np.inf, 100.0]),
    ]
    made = affinet.scipy.linear_constraints(affinet.plan(rules))
    assert sum(len(constraint.fun(np.zeros(4))) for constraint in made.nonlinear) == 4
    found = minimize(
        lambda x: x @ x + x[2] ** 2 - 5 * x[0] - 5 * x[1] - 21 * x[2] + 7 * x[3],
        np.zeros(4), method="SLSQP", constraints=made.constraints, options={"ftol": 1e-12},
    )  # fmt: skip
    assert found.fun == pytest.approx(-44.0, abs=1e-6)


def test_balls_of_affine_expressions_keep_their_constants() -> None:
    w = affinet.weights({"w": (2,)}).w
    made = affinet.scipy.linear_constraints(affinet.plan([affinet.families.l2_ball(w - 3, 1.0)]))
    found = minimize(lambda x: x @ x, np.ones(2), method="SLSQP", constraints=made.constraints, options={"ftol": 1e-12})
    assert np.allclose(found.x, 3.0 - np.sqrt(0.5), atol=1e-6)
