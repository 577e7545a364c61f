"""The l1 and the l2 ball: projections in rational numbers and by optimality conditions, trainings to the optimum."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, nnls

from affinet.blocks.absolute_sums import AbsoluteSums, SumFace
from affinet.blocks.ball import Ball
from affinet.blocks.block import Block
from affinet.blocks.entry_sets import View
from affinet.blocks.interval import Interval
from affinet.blocks.namespace import NumPy
from affinet.blocks.normal_map import NormalMap
from affinet.blocks.places import box
from affinet.blocks.round_cells import RoundCells
from affinet.kernels.torch.torch_namespace import Torch
from affinet.language.calculus.terms import Parameter
from tests.blocks.exact_cells import exact_cell
from tests.blocks.stepping import OPTIMIZERS, UNIT, optimizer_of, trained

XP = NumPy()
EPS = float(np.finfo(float).eps)
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
"""Of infinite bounds. Whoever runs the laws on NumPy arrays silences them too."""


@dataclass(frozen=True)
class Problem:
    """One cell."""

    x: np.ndarray
    d: np.ndarray
    radius: float

    @property
    def sums(self) -> AbsoluteSums:
        return AbsoluteSums((1, len(self.x)), np.array([[self.radius]]))

    @property
    def round(self) -> RoundCells:
        return RoundCells((1, len(self.x)), np.array([[self.radius]]))

    def exact(self) -> tuple[np.ndarray, float]:
        """The nearest point in the l1 ball, and the multiplier of its sum."""
        n = len(self.x)
        size = exact_cell(np.abs(self.x), self.d, [1.0] * n, self.radius, [0.0] * n, [float("inf")] * n, equation=False)
        return np.where(self.x < 0.0, -1.0, 1.0) * size.floats(), float(size.t)

    def rounding(self) -> float:
        """A bound on the rounding: a sum of n terms, divided by that of 1/d, twice; and what it moves an entry."""
        spread = self.d.max() / self.d.min()
        return 4.0 * EPS * (len(self.x) + 4) * spread * (float(np.abs(self.x).sum()) + self.radius)


def problem(number: int) -> Problem:
    draw = np.random.default_rng(number)
    n = int(draw.integers(1, 9))
    x = draw.integers(-3, 4, n).astype(float) if number % 3 == 0 else draw.normal(size=n)
    d = 10.0 ** draw.uniform(-1, 1, n) if number % 2 else np.ones(n)
    return Problem(x, d, float(draw.choice([0.5, 1.0, 2.0])))


@pytest.mark.parametrize("scale", [1.0, 2.0**-20, 2.0**20])
def test_the_nearest_point_of_the_l1_ball_is_that_of_rational_numbers(scale: float) -> None:
    for number in range(150):
        p = problem(number)
        p = Problem(p.x * scale, p.d, p.radius * scale)
        w, face = p.sums.nearest(XP, p.x[None], p.d[None])
        exact, t = p.exact()
        bound = p.rounding()
        np.testing.assert_allclose(w[0], exact, rtol=0, atol=bound)
        assert np.abs(w).sum() <= p.radius * (1 + (len(p.x) + 4) * EPS)
        assert bool(face.row[0, 0]) == (t > 0.0)
        clear = np.abs(np.abs(p.d * p.x) - t) > 1e-10 * scale
        assert (face.zero[0] == ((np.abs(p.d * p.x) < t) & (t > 0.0)))[clear].all()
        again, _ = p.sums.nearest(XP, w, p.d[None], face)
        np.testing.assert_allclose(again, w, rtol=0, atol=Problem(w[0], p.d, p.radius).rounding())
        other = p.x + np.random.default_rng(number).normal(size=p.x.shape) * scale
        far, _ = p.sums.nearest(XP, other[None], p.d[None])
        moved, given = (np.linalg.norm(np.sqrt(p.d) * step) for step in (far[0] - w[0], other - p.x))
        assert moved <= given + 2 * (bound + Problem(other, p.d, p.radius).rounding()) * np.sqrt(p.d.sum())


@pytest.mark.parametrize("tau", [1.0, 1e-3, 1e-12, 1e-200])
def test_landing_on_the_l1_ball_is_the_projection_of_rational_numbers(tau: float) -> None:
    """`w = Π(z + τy)` and `y' = (z + τy − w) / τ`, at a τ where this division leaves no digit of y' too."""
    crossed = 0
    for number in range(150):
        p, draw = problem(number), np.random.default_rng(number)
        n, step = len(p.x), min(tau, 1e-3)
        w, face = p.sums.nearest(XP, p.x[None])
        w = w + step * draw.normal(size=w.shape) * (draw.random(w.shape) < 0.5) * (w != 0.0)
        y = p.sums.normal(XP, w, draw.normal(size=w.shape), face, UNIT)[0] + draw.normal(size=w.shape)
        z = p.sums.onto(XP, w + step * draw.normal(size=w.shape), face)
        active = bool(face.row[0, 0])
        # On the face the sum is the radius; what z lacks to it in float64 is rounding, which landing leaves out.
        signs = np.where(face.positive[0], 1, -1) * (1 - face.zero[0]) if active else np.where(z[0] >= 0, 1, -1)
        total = sum((int(sign) * Fraction(x) for sign, x in zip(signs, z[0], strict=True)), start=Fraction(0))
        radius = total if active else Fraction(p.radius)
        if not active and abs(float(radius - total)) <= 1e-13:
            continue
        target = [Fraction(x) + Fraction(tau) * Fraction(push) for x, push in zip(z[0], y[0], strict=True)]
        exact = exact_cell(
            [abs(x) for x in target], [1.0] * n, [1.0] * n, radius, [0.0] * n, [float("inf")] * n, equation=False
        )
        moved = np.array(
            [float((x - (size if x >= 0 else -size)) / Fraction(tau)) for x, size in zip(target, exact.x, strict=True)]
        )
        landed, normal, new = p.sums.land(XP, z, y, np.full((1, 1), tau), face, UNIT)
        of_room = 0.0 if active else EPS * (n + 4) * (np.abs(z).sum() + p.radius) / tau
        size = np.abs(moved).max() + np.abs(y).max()
        np.testing.assert_allclose(normal[0], moved, rtol=0, atol=16 * (n + 4) * EPS * size + of_room)
        assert_normal_of_sums(p, landed[0], normal[0], new)
        crossed += int((landed * np.where(face.positive, 1.0, -1.0) < 0.0).any())
    assert crossed > 0  # some entries changed their sign


def assert_normal_of_sums(p: Problem, w: np.ndarray, y: np.ndarray, face: SumFace) -> None:
    """y is the multiplier with the sign of w, and not larger where w is zero; it is zero inside."""
    n, t = len(w), np.abs(y).max()
    assert np.abs(w).sum() <= p.radius * (1 + (n + 4) * EPS)
    if t > 0.0 and (w != 0.0).any():
        assert np.abs(w).sum() >= p.radius * (1 - (n + 4) * EPS)
        np.testing.assert_array_equal(y[w != 0.0], np.sign(w[w != 0.0]) * np.abs(y[w != 0.0])[0])
        assert t <= np.abs(y[w != 0.0])[0] * (1 + 4 * EPS)
    assert (w[face.zero[0]] == 0.0).all()
    assert bool(face.row[0, 0]) == (t > 0.0)


def test_the_normal_part_of_the_l1_ball_is_that_of_nnls() -> None:
    for number in range(80):
        p, draw = problem(number), np.random.default_rng(number)
        w, face = p.sums.nearest(XP, p.x[None])
        v, n = draw.normal(size=w.shape), len(p.x)
        signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * n)).reshape(n, -1).T
        normals = signs[signs @ w[0] >= p.radius * (1 - 1e-12)]
        multipliers = nnls(normals.T, v[0])[0] if len(normals) else np.zeros(0)
        y, new = p.sums.normal(XP, w, v, face, 8 * UNIT)
        np.testing.assert_allclose(y[0], multipliers @ normals, rtol=0, atol=1e-12 * np.linalg.norm(v))
        np.testing.assert_allclose(p.sums.tangent_part(XP, v, new), v - y, rtol=0, atol=1e-12 * np.linalg.norm(v))
        z = p.sums.onto(XP, w + 0.1 * v, new)
        if new.row.any():
            assert abs((np.where(new.positive, 1, -1) * z)[~new.zero].sum() - p.radius) <= 1e-14 * n
            assert (z[new.zero] == 0.0).all()
        else:
            np.testing.assert_array_equal(z, w + 0.1 * v)


def test_the_nearest_point_of_the_l2_ball_satisfies_its_optimality_conditions() -> None:
    """`d (x − w) = t w` with t ≥ 0, and `|w| = radius` where t is positive; metrics of ratios up to 10¹²."""
    for number in range(150):
        p, draw = problem(number), np.random.default_rng(number)
        d = p.d if number % 5 else 10.0 ** draw.uniform(-6, 6, len(p.x))
        w, face = p.round.nearest(XP, p.x[None], d[None])
        norm = np.linalg.norm(w)
        if np.linalg.norm(p.x) <= p.radius:
            np.testing.assert_array_equal(w[0], p.x)
            assert not face.radial.any()
            continue
        assert abs(norm - p.radius) <= 8 * EPS * (len(p.x) + 2) * p.radius
        excess = partial(_excess, d, p)
        t = brentq(excess, 0, 1e12, xtol=1e-300, rtol=4 * EPS, maxiter=999)
        np.testing.assert_allclose(w[0], d * p.x / (d + t), rtol=1e-12, atol=1e-13 * p.radius)
        np.testing.assert_allclose(face.radial, w / norm, rtol=1e-14)
        again, _ = p.round.nearest(XP, w, d[None])
        np.testing.assert_allclose(again, w, rtol=0, atol=16 * EPS * (len(p.x) + 2) * p.radius)
        flat, _ = p.round.nearest(XP, p.x[None])
        np.testing.assert_allclose(flat[0], p.x * p.radius / np.linalg.norm(p.x), rtol=8 * EPS * (len(p.x) + 2))


def _excess(d: np.ndarray, p: Problem, t: float) -> float:
    return float(np.linalg.norm(d * p.x / (d + t))) - p.radius


@pytest.mark.parametrize("tau", [1.0, 1e-3, 1e-12, 1e-200])
def test_landing_on_the_l2_ball_keeps_the_digits_of_the_multiplier(tau: float) -> None:
    for number in range(80):
        p, draw = problem(number), np.random.default_rng(number)
        w, _ = p.round.nearest(XP, p.x[None])
        y, face = p.round.normal(XP, w, draw.normal(size=w.shape), None, 4 * len(p.x) * UNIT)
        step = p.round.tangent_part(XP, min(tau, 1e-3) * draw.normal(size=w.shape), face)
        assert abs((face.radial * step).sum()) <= 4 * EPS * len(p.x) * np.abs(step).sum()
        z = p.round.onto(XP, w + step, face)
        landed, normal, new = p.round.land(XP, z, y, np.full((1, 1), tau), face, UNIT)
        assert np.linalg.norm(landed) <= p.radius * (1 + 8 * EPS * len(p.x))
        if face.radial.any():
            # On the sphere z + τy is a multiple of z: the point stays, and the multiplier has the length that it had.
            np.testing.assert_allclose(landed, z, rtol=8 * EPS * len(p.x))
            length = np.linalg.norm(y)
            np.testing.assert_allclose(normal, length * landed / p.radius, rtol=0, atol=1e-14 * length)
            np.testing.assert_allclose(normal, y, rtol=0, atol=1.01 * length * np.linalg.norm(step) / p.radius + 1e-15)
            released, none, nothing = p.round.land(XP, z, -y, np.full((1, 1), tau), face, UNIT)
            assert not none.any()
            assert not nothing.radial.any()
            np.testing.assert_allclose(released, z * max(0.0, 1.0 - tau * length / p.radius), rtol=1e-14, atol=1e-300)
        elif np.linalg.norm(z) <= p.radius * (1 - 1e-12):
            np.testing.assert_array_equal(landed, z)
            assert not normal.any()
            assert not new.radial.any()


def test_a_cell_that_steps_out_of_the_l2_ball_lands_on_it() -> None:
    ball = RoundCells((2, 2), np.array([[1.0], [5.0]]))
    z = np.array([[3.0, 4.0], [0.0, 0.0]])
    off = ball.nearest(XP, 0.0 * z)[1]
    w, y, face = ball.land(XP, z, 0.0 * z, np.full((2, 1), 0.5), off, UNIT)
    np.testing.assert_allclose(w, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-15)
    np.testing.assert_allclose(y, [[4.8, 6.4], [0.0, 0.0]], rtol=1e-15)
    np.testing.assert_allclose(face.radial, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", [1, 2])
def test_tensors_are_projected_as_arrays_are(order: int, dtype: str) -> None:
    draw, eps = np.random.default_rng(0), float(np.finfo(dtype).eps)
    shape, radius = (30, 70), np.full((1, 1), 3.0)
    convex: Any = AbsoluteSums(shape, radius) if order == 1 else RoundCells(shape, radius)
    v, y = draw.normal(size=(2, *shape)).astype(dtype)
    d = (0.5 + draw.random(shape)).astype(dtype)
    tau = np.full((30, 1), 0.1, dtype)
    wanted, marks = convex.nearest(XP, v, d)
    found, face = convex.nearest(Torch(), torch.tensor(v), torch.tensor(d))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=4 * 72 * eps * 4.0)
    normals = (
        convex.normal(XP, wanted, y, marks, eps / 2)[0],
        convex.normal(Torch(), found, torch.tensor(y), face, eps / 2)[0],
    )
    np.testing.assert_allclose(normals[1], normals[0], rtol=0, atol=4 * 72 * eps * 4.0)
    landed = convex.land(Torch(), found, torch.tensor(y), torch.tensor(tau), face, eps / 2)
    for own, other in zip(landed[:2], convex.land(XP, wanted, y, tau, marks, eps / 2)[:2], strict=True):
        assert own.numpy().dtype == other.dtype == np.dtype(dtype)
        np.testing.assert_allclose(own, other, rtol=0, atol=4 * 72 * eps * 40.0)  # what rounds in w is divided by tau


def regression() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(4)
    inputs = draw.normal(size=(200, 12)) * 10.0 ** draw.uniform(-0.3, 0.3, 12)
    return inputs, inputs @ (draw.normal(size=12) * (draw.random(12) < 0.5)) + draw.normal(size=200)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_in_an_l1_ball_are_trained_to_the_optimum(name: str) -> None:
    inputs, targets = regression()
    hessian = inputs.T @ inputs / 200
    step, steps = optimizer_of(name, float(np.linalg.eigvalsh(hessian)[-1]))
    ball = AbsoluteSums((1, 12), np.ones((1, 1)))

    def visited(w: np.ndarray, state: Any) -> None:
        assert np.abs(w).sum() <= 1 + 16 * EPS

    w, _ = trained(ball, lambda w: w @ hessian - targets @ inputs / 200, np.zeros((1, 12)), step, steps, visited)
    # Positive and negative parts, whose sum is a heavy equation of NNLS.
    heavy = 1e6
    rows = np.concatenate([np.hstack([inputs, -inputs]), np.full((1, 24), heavy)])
    parts = nnls(rows, np.concatenate([targets, [heavy]]))[0]
    best = parts[:12] - parts[12:]
    value, least = (0.5 * np.mean((inputs @ x - targets) ** 2) for x in (w[0], best))
    assert value == pytest.approx(least, rel=1e-9)
    assert 0 < (w == 0.0).sum() < 12


@pytest.mark.parametrize("radius", [0.5, 50.0])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_in_an_l2_ball_are_trained_to_the_optimum(name: str, radius: float) -> None:
    """Tangent planes and carried multipliers are right to the first order of a step; the limit is the KKT point."""
    inputs, targets = regression()
    hessian, moment = inputs.T @ inputs / 200, inputs.T @ targets / 200
    step, steps = optimizer_of(name, float(np.linalg.eigvalsh(hessian)[-1]))
    ball = RoundCells((1, 12), np.full((1, 1), radius))

    def visited(w: np.ndarray, state: Any) -> None:
        assert np.linalg.norm(w) <= radius * (1 + 16 * EPS)

    w, state = trained(ball, lambda w: w @ hessian - moment, np.zeros((1, 12)), step, steps, visited)
    ridge = lambda t: np.linalg.solve(hessian + t * np.eye(12), moment)  # noqa: E731
    inside = np.linalg.norm(ridge(0.0)) <= radius
    t = 0.0 if inside else brentq(lambda t: np.linalg.norm(ridge(t)) - radius, 0, 1e3, xtol=1e-14)
    value, least = (0.5 * np.mean((inputs @ x - targets) ** 2) for x in (w[0], ridge(t)))
    assert value == pytest.approx(least, rel=1e-9)
    np.testing.assert_allclose(state.y[0], t * w[0], rtol=0, atol=1e-3 * t * radius)


@pytest.mark.parametrize("order", [1, 2])
def test_a_ball_answers_every_question_as_a_block_without_equations(order: Any) -> None:
    weight = Parameter("a", (4, 3))
    block: Block = Ball(box(View(weight, 0, ((4, 3), (3, 1)))), 4, 3, order, np.ones((1, 1)), (3,))
    assert (block.size, block.rank, block.ambiguous, block.rules) == (12, 0, 0, (3,))
    assert (block.freedom(4), block.value(4)) == (1.0, None)
    assert [list(block.mates(4)[0]), block.mates(4)[1]] == [[4], None]
    assert [len(part) for part in block.determined(100)] == [0, 0]
    assert not list(block.tied(100))
    assert not block.fixed()
    assert block.sizes() == {weight: 12}
    assert block.taken() == {weight: Interval(0, 0)}
    assert (block.condition_of_extra(), block.solves_in_metric()) == (1.0, 0)
    assert not block.resolution().irregular
    assert not block.tally().cells
    assert block.describe() == f"4 l{order} balls of 3 entries"
    assert block.renumbered({3: 7}).rules == (7,)
    assert isinstance(block.law(), NormalMap)
    assert block.law().shape == (4, 3)
    assert block.law().set.count() == 3
    assert block.bytes_a_step() > 0
