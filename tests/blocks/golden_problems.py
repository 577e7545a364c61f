"""Small problems over polyhedra with published or independently computed optima.

HS: W. Hock and K. Schittkowski, Test Examples for Nonlinear Programming Codes (1981). The others are least squares
whose optimum was computed by Clarabel and then solved for on its active set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from affinet.blocks.polyhedral_set import PolyhedralSet


class Problem(NamedTuple):
    """Minimise `value` over the set, from `start`, with a learning rate for Adam; `curvature` bounds its Hessian."""

    convex: PolyhedralSet
    value: Callable[[np.ndarray], float]
    gradient: Callable[[np.ndarray], np.ndarray]
    start: np.ndarray
    optimum: float
    rate: float = 0.05
    curvature: float | None = None


def polyhedron(
    n: int,
    rows: object = (),
    rhs: object = (),
    lower: object = -np.inf,
    upper: object = np.inf,
    equations: int = 0,
) -> PolyhedralSet:
    """One cell of n entries."""
    bounds = [np.broadcast_to(np.asarray(bound, np.float64), (1, n)).copy() for bound in (lower, upper)]
    matrix, limits = np.asarray(rows, np.float64).reshape(1, -1, n), np.asarray(rhs, np.float64).reshape(1, -1)
    return PolyhedralSet(matrix, limits, equations, *bounds)


def least_squares(
    features: np.ndarray, targets: np.ndarray, convex: PolyhedralSet, start: np.ndarray, optimum: float
) -> Problem:
    """`½ |X w − t|² / samples` for one output, or for one output per row of w."""
    samples, n = features.shape
    columns = targets.reshape(samples, -1)

    def gap(w: np.ndarray) -> np.ndarray:
        return features @ w.reshape(-1, n).T - columns

    def gradient(w: np.ndarray) -> np.ndarray:
        return ((features.T @ gap(w)).T / samples).reshape(w.shape)

    curvature = float(np.linalg.eigvalsh(features.T @ features / samples)[-1])
    value: Callable[[np.ndarray], float] = lambda w: 0.5 * float((gap(w) ** 2).sum()) / samples  # noqa: E731
    return Problem(convex, value, gradient, start, optimum, 0.1, curvature)


def dense20() -> Problem:
    """Forty dense inequalities over twenty weights, most of them active at the optimum."""
    dice = np.random.default_rng(3)
    features = dice.normal(size=(60, 20)) * 10.0 ** dice.uniform(-0.5, 0.5, 20)
    truth = dice.normal(size=20)
    rows, rhs = dice.normal(size=(40, 20)), np.abs(dice.normal(size=40)) * 0.5
    targets = features @ truth + 0.5 * dice.normal(size=60)
    return least_squares(features, targets, polyhedron(20, rows, rhs), np.zeros(20), 9.38420396518)


def budget() -> Problem:
    """Three budgets of badly scaled costs, and a box."""
    dice = np.random.default_rng(5)
    features = dice.normal(size=(100, 20)) * 10.0 ** dice.uniform(-1, 1, 20)
    truth = dice.normal(size=20)
    rows = np.abs(dice.normal(size=(3, 20))) * 10.0 ** dice.uniform(-1, 1, 20)
    targets = features @ truth + 0.5 * dice.normal(size=100)
    convex = polyhedron(20, rows, np.full(3, 0.5), -1.0, 1.0)
    return least_squares(features, targets, convex, np.zeros(20), 1.17025330356)


def rows_on_the_simplex(*, equations: bool) -> Problem:
    """Six rows of eight weights, each nonnegative with a sum of 1, or of at most 1."""
    dice = np.random.default_rng(1)
    features = (
        dice.normal(size=(200, 8)) * 10.0 ** dice.uniform(-0.5, 0.5, 8) @ (np.eye(8) + 0.3 * dice.normal(size=(8, 8)))
    )
    truth = dice.normal(size=(8, 6)) * 0.5 + 0.2
    targets = features @ truth + 0.5 * dice.normal(size=(200, 6))
    convex = polyhedron(48, np.kron(np.eye(6), np.ones((1, 8))), np.ones(6), 0.0, equations=6 if equations else 0)
    return least_squares(features, targets, convex, np.full(48, 0.1), 9.04809666965)


def hs21() -> Problem:
    return Problem(
        polyhedron(2, [-10, 1], [-10], [2, -50], 50),
        lambda x: 0.01 * x[0] ** 2 + x[1] ** 2 - 100,
        lambda x: np.array([0.02 * x[0], 2 * x[1]]),
        np.array([5.0, -1.0]),
        -99.96,
    )


def hs24() -> Problem:
    root = 3**0.5
    return Problem(
        polyhedron(2, [[-1 / root, 1], [-1, -root], [1, root]], [0, 0, 6], 0),
        lambda x: ((x[0] - 3) ** 2 - 9) * x[1] ** 3 / (27 * root),
        lambda x: np.array([2 * (x[0] - 3) * x[1] ** 3, 3 * ((x[0] - 3) ** 2 - 9) * x[1] ** 2]) / (27 * root),
        np.array([1.0, 0.5]),
        -1.0,
    )


def quadratic(
    hessian: object, linear: object, constant: float, convex: PolyhedralSet, start: object, optimum: float
) -> Problem:
    matrix, slope = np.array(hessian, np.float64), np.array(linear, np.float64)
    return Problem(
        convex,
        lambda x: float(0.5 * x @ matrix @ x + slope @ x + constant),
        lambda x: matrix @ x + slope,
        np.array(start, np.float64),
        optimum,
    )


def hs35() -> Problem:
    hessian = [[4, 2, 2], [2, 4, 0], [2, 0, 2]]
    return quadratic(hessian, [-8, -6, -4], 9, polyhedron(3, [1, 1, 2], [3], 0), [0.5] * 3, 1 / 9)


def hs36() -> Problem:
    return Problem(
        polyhedron(3, [1, 2, 2], [72], 0, [20, 11, 42]),
        lambda x: -float(np.prod(x)),
        lambda x: -np.array([x[1] * x[2], x[0] * x[2], x[0] * x[1]]),
        np.array([10.0, 10.0, 10.0]),
        -3300.0,
        rate=0.5,
    )


def hs44() -> Problem:
    hessian = [[0, 0, -1, 1], [0, 0, 1, -1], [-1, 1, 0, 0], [1, -1, 0, 0]]
    rows = [[1, 2, 0, 0], [4, 1, 0, 0], [3, 4, 0, 0], [0, 0, 2, 1], [0, 0, 1, 2], [0, 0, 1, 1]]
    # From the published start another local optimum, −13, is as near: this one leads to the best.
    return quadratic(hessian, [1, -1, -1, 0], 0, polyhedron(4, rows, [8, 12, 12, 8, 8, 5], 0), [0.1, 1, 0.1, 1], -15.0)


def hs45() -> Problem:
    return Problem(
        polyhedron(5, lower=0, upper=[1, 2, 3, 4, 5]),
        lambda x: 2 - float(np.prod(x)) / 120,
        lambda x: -np.array([np.prod(np.delete(x, k)) for k in range(5)]) / 120,
        np.full(5, 0.5),
        1.0,
    )


def hs76() -> Problem:
    hessian = [[2, 0, -1, 0], [0, 1, 0, 0], [-1, 0, 2, 1], [0, 0, 1, 1]]
    rows = [[1, 2, 1, 1], [3, 1, 2, -1], [0, -1, -4, 0]]
    convex = polyhedron(4, rows, [5, 4, -1.5], 0)
    return quadratic(hessian, [-1, -3, 1, -1], 0, convex, [0.5] * 4, -4.6818181818181817)


def table(text: str) -> np.ndarray:
    """Numbers separated by blanks, rows by semicolons."""
    return np.array([[float(number) for number in row.split()] for row in text.split(";")])


def hs86() -> Problem:
    linear, cubic = np.array([-15.0, -27, -36, -18, -12]), np.array([4.0, 8, 10, 6, 2])
    square = table(
        "30 -20 -10 32 -10; -20 39 -6 -31 32; -10 -6 10 -6 -10; 32 -31 -6 39 -20; -10 32 -10 -20 30",
    )
    rows = table(
        "-16 2 0 1 0; 0 -2 0 4 2; -3.5 0 2 0 0; 0 -2 0 -4 -1; 0 -9 -2 1 -2.8; 2 0 -4 0 0; "
        "-1 -1 -1 -1 -1; -1 -2 -3 -2 -1; 1 2 3 4 5; 1 1 1 1 1",
    )
    rhs = np.array([-40, -2, -0.25, -4, -4, -1, -40, -60, 5, 1])
    return Problem(
        polyhedron(5, -rows, -rhs, 0),
        lambda x: float(linear @ x + x @ square @ x + cubic @ x**3),
        lambda x: linear + 2 * square @ x + 3 * cubic * x**2,
        np.array([0.0, 0, 0, 0, 1]),
        -32.348678966,
    )


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "dense20": dense20,
    "budget": budget,
    "rows =": lambda: rows_on_the_simplex(equations=True),
    "rows <=": lambda: rows_on_the_simplex(equations=False),
    "HS21": hs21,
    "HS24": hs24,
    "HS35": hs35,
    "HS36": hs36,
    "HS44": hs44,
    "HS45": hs45,
    "HS76": hs76,
    "HS86": hs86,
}
