"""Ascending cells: projections against the min-max formula in rational arithmetic, and trainings to the optimum."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from math import inf
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear, nnls

from affinet.blocks.block import Block
from affinet.blocks.chain import Chain
from affinet.blocks.entry_sets import View
from affinet.blocks.interval import Interval
from affinet.blocks.namespace import NumPy
from affinet.blocks.normal_map import NormalMap
from affinet.blocks.places import box
from affinet.blocks.pooled_cells import PooledCells, PoolFace
from affinet.kernels.torch.torch_namespace import Torch
from affinet.language.calculus.terms import Parameter
from tests.blocks.stepping import OPTIMIZERS, UNIT, optimizer_of, trained

XP = NumPy()
EPS = float(np.finfo(float).eps)
KINDS = ("plain", "bounded", "gaps", "ties")
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
"""Of infinite bounds. Whoever runs the laws on NumPy arrays silences them too."""


@dataclass(frozen=True)
class Problem:
    """One cell."""

    y: np.ndarray
    d: np.ndarray
    gap: np.ndarray
    lower: float
    upper: float

    @property
    def convex(self) -> PooledCells:
        return PooledCells((1, len(self.y)), self.gap[None], np.array([[self.lower]]), np.array([[self.upper]]))

    def exact(self, y: np.ndarray | None = None) -> np.ndarray:
        drop = [-Fraction(gap) for gap in self.gap]
        solution = exact_chain(self.y if y is None else y, self.d, drop, self.lower, self.upper)
        return np.array([float(x) for x in solution])

    def rounding(self, y: np.ndarray) -> float:
        """A bound on the rounding of each entry: a pool of k is a mean of k numbers and gaps, at every merging."""
        return 4.0 * (len(y) + 2) * EPS * float(np.abs(y).max() + np.abs(self.gap).sum())


def exact_chain(y: Any, d: Any, drop: list[Fraction], low: Any, high: Any) -> list[Fraction]:
    """`argmin Σ d (x − y)²` with `x[i+1] ≥ x[i] − drop[i]`, `x[0] ≥ low`, `x[-1] ≤ high`, by the min-max formula.

    Moved by the drops, entries ascend: entry i is the least over b ≥ i of the largest over a ≤ i of the means of a..b.
    """
    weights = [Fraction(weight) for weight in d]
    moves = [Fraction(0), *accumulate(drop)]
    targets = [Fraction(number) + move for number, move in zip(y, moves, strict=True)]
    n = len(targets)

    def mean(a: int, b: int) -> Fraction:
        total = sum((w * t for w, t in zip(weights[a : b + 1], targets[a : b + 1], strict=True)), start=Fraction(0))
        return total / sum(weights[a : b + 1])

    means = {(a, b): mean(a, b) for a in range(n) for b in range(a, n)}
    solution = []
    for i in range(n):
        level = min(max(means[a, b] for a in range(i + 1)) for b in range(i, n))
        level = level if low == -inf else max(level, Fraction(low))
        level = level if high == inf else min(level, Fraction(high) + moves[-1])
        solution.append(level - moves[i])
    return solution


def problem(number: int, kind: str) -> Problem:
    draw = np.random.default_rng((number, KINDS.index(kind)))
    n = int(draw.integers(1, 9))
    y, gap, lower, upper = 2.0 * draw.normal(size=n), np.zeros(n - 1), -inf, inf
    if kind == "gaps":
        gap = np.where(draw.random(n - 1) < 0.3, 0.0, 0.5 * draw.random(n - 1))
    if kind == "ties":
        y, gap = draw.integers(-2, 3, n).astype(float), draw.integers(0, 2, n - 1).astype(float)
    if kind != "plain":
        lower = -inf if draw.random() < 0.3 else -1.0
        upper = inf if draw.random() < 0.3 else float(gap.sum() + draw.integers(0, 3))
    d = 10.0 ** draw.uniform(-1, 1, n) if draw.random() < 0.5 else np.ones(n)
    return Problem(y, d, gap, lower, upper)


@pytest.mark.parametrize("scale", [1.0, 2.0**-20, 2.0**20])
@pytest.mark.parametrize("kind", KINDS)
def test_the_nearest_point_is_that_of_rational_numbers(kind: str, scale: float) -> None:
    for number in range(60):
        p = problem(number, kind)
        p = Problem(p.y * scale, p.d, p.gap * scale, p.lower * scale, p.upper * scale)
        w, face = p.convex.nearest(XP, p.y[None], p.d[None])
        bound = p.rounding(p.y)
        np.testing.assert_allclose(w[0], p.exact(), rtol=0, atol=bound)
        assert ((p.lower <= w) & (w <= p.upper)).all()
        assert (np.diff(w[0]) >= p.gap - (bound if p.gap.any() else 0.0)).all()
        assert_face(p, w[0], p.d * (p.y - w[0]), face)


def assert_face(p: Problem, w: np.ndarray, force: np.ndarray, face: PoolFace) -> None:
    """Forces add up to the multipliers of the face, which are positive there, and zero where the face has no mark."""
    normals = normals_of(len(w))
    marks = np.concatenate([face.first[0], face.links[0], face.last[0]])
    multipliers = np.linalg.lstsq(normals.T, force, rcond=None)[0] if not marks.any() else np.zeros(len(marks))
    if marks.any():
        multipliers[marks] = np.linalg.lstsq(normals[marks].T, force, rcond=None)[0]
    size = np.abs(force).max(initial=0.0) + p.d.max() * p.rounding(p.y) / EPS / (len(w) + 2) * EPS
    np.testing.assert_allclose(multipliers @ normals, force, rtol=0, atol=1e-10 * size)
    assert (multipliers[marks] >= -1e-12 * size).all()


def normals_of(n: int) -> np.ndarray:
    """The outward normals of the lower bound of the first entry, of the links, and of the upper bound of the last."""
    identity = np.eye(n)
    return np.concatenate([-identity[:1], identity[:-1] - identity[1:], identity[-1:]])


@pytest.mark.parametrize("kind", KINDS)
def test_projecting_twice_is_projecting_once_and_never_spreads(kind: str) -> None:
    for number in range(60):
        p, draw = problem(number, kind), np.random.default_rng(number)
        w, face = p.convex.nearest(XP, p.y[None], p.d[None])
        again, _ = p.convex.nearest(XP, w, p.d[None])
        np.testing.assert_allclose(again, w, rtol=0, atol=p.rounding(w[0]))
        if not p.gap.any():
            np.testing.assert_array_equal(again, w)
        other = p.y + draw.normal(size=p.y.shape)
        far, _ = p.convex.nearest(XP, other[None], p.d[None], face)
        np.testing.assert_allclose(far[0], p.exact(other), rtol=0, atol=p.rounding(other))  # a guess changes rounding
        moved, given = (np.linalg.norm(np.sqrt(p.d) * x) for x in (far[0] - w[0], other - p.y))
        assert moved <= given + 2 * p.rounding(other) * np.sqrt(p.d.sum())


def test_a_wrong_guess_changes_only_rounding() -> None:
    for number in range(100):
        p, draw = problem(number, KINDS[number % 4]), np.random.default_rng(number)
        guess = PoolFace(draw.random((1, len(p.gap))) < 0.7, draw.random((1, 1)) < 0.5, draw.random((1, 1)) < 0.5)
        w, _ = p.convex.nearest(XP, p.y[None], p.d[None], guess)
        np.testing.assert_allclose(w[0], p.exact(), rtol=0, atol=p.rounding(p.y))


@pytest.mark.parametrize("tau", [1.0, 1e-3, 1e-12, 1e-200])
@pytest.mark.parametrize("kind", KINDS)
def test_landing_is_the_projection_of_rational_numbers_at_every_reach(kind: str, tau: float) -> None:
    """`w = Π(z + τy)` and `y' = (z + τy − w) / τ`: in floating point this division leaves no digit of y' at 1e-12."""
    for number in range(60):
        p, draw = problem(number, kind), np.random.default_rng(number)
        w, face = p.convex.nearest(XP, p.y[None])
        y = p.convex.normal(XP, w, draw.normal(size=w.shape), face, UNIT)[0] + 0.3 * draw.normal(size=w.shape)
        z = p.convex.onto(XP, w + min(tau, 1e-3) * draw.normal(size=w.shape), face)
        slack, below, above = p.convex._slacks(XP, z, face, UNIT)
        landed, normal, new = p.convex.land(XP, z, y, np.full((1, 1), tau), face, UNIT)
        low = below[0, 0] if p.lower == -inf else Fraction(below[0, 0]) / Fraction(tau)
        high = above[0, 0] if p.upper == inf else Fraction(above[0, 0]) / Fraction(tau)
        drop = [Fraction(room) / Fraction(tau) for room in slack[0]]
        exact = exact_chain(y[0], np.ones(len(p.y)), drop, low, high)
        moved = np.array([float(Fraction(number) - x) for number, x in zip(y[0], exact, strict=True)])
        size = np.abs(y).max() + np.abs(moved).max()
        np.testing.assert_allclose(normal[0], moved, rtol=0, atol=8 * (len(p.y) + 2) * EPS * size)
        assert_lands_at_its_face(p, landed[0], normal[0], new)


def assert_lands_at_its_face(p: Problem, w: np.ndarray, y: np.ndarray, face: PoolFace) -> None:
    """Links and bounds with a multiplier hold with equality, to the bit where no gap has to be added."""
    assert ((p.lower <= w) & (w <= p.upper)).all()
    apart = np.diff(w) - p.gap
    rounding = 4 * EPS * (len(w) + 2) * (np.abs(w).max() + p.gap.sum())
    assert (apart >= -(rounding if p.gap.any() else 0.0)).all()
    assert (np.abs(apart)[face.links[0]] <= (rounding if p.gap.any() else 0.0)).all()
    assert not face.first.any() or w[0] == p.lower
    assert not face.last.any() or w[-1] == p.upper
    # Forces add up to zero in every pool that is at no bound: partial sums are multipliers, none of them negative.
    marks = np.concatenate([face.first[0], face.links[0], face.last[0]])
    if marks.any():
        normals = normals_of(len(w))[marks]
        multipliers, *_ = np.linalg.lstsq(normals.T, y, rcond=None)
        size = np.abs(y).max()
        np.testing.assert_allclose(multipliers @ normals, y, rtol=0, atol=1e-11 * size)
        assert (multipliers >= -1e-12 * size).all()
    else:
        np.testing.assert_allclose(y, 0.0, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_the_normal_part_is_that_of_nnls(kind: str) -> None:
    for number in range(60):
        p, draw = problem(number, kind), np.random.default_rng(number)
        w, face = p.convex.nearest(XP, p.y[None])
        v = draw.normal(size=w.shape)
        active = np.concatenate([w[0, :1] - p.lower, np.diff(w[0]) - p.gap, p.upper - w[0, -1:]]) <= 1e-13
        normals = normals_of(len(p.y))[active]
        multipliers = nnls(normals.T, v[0])[0] if len(normals) else np.zeros(0)
        y, new = p.convex.normal(XP, w, v, face, 8 * UNIT)
        np.testing.assert_allclose(y[0], multipliers @ normals, rtol=0, atol=1e-12 * np.linalg.norm(v))
        np.testing.assert_allclose(p.convex.tangent_part(XP, v, new), v - y, rtol=0, atol=1e-12 * np.linalg.norm(v))


@pytest.mark.parametrize("kind", KINDS)
def test_the_verbs_of_a_face_are_its_projections(kind: str) -> None:
    for number in range(60):
        p, draw = problem(number, kind), np.random.default_rng(number)
        _, face = p.convex.nearest(XP, p.y[None])
        marks = np.concatenate([face.first[0], face.links[0], face.last[0]])
        rows, g = normals_of(len(p.y))[marks], draw.normal(size=p.y.shape)
        rhs = np.concatenate([[-p.lower], -p.gap, [p.upper]])[marks]
        tangent = g - np.linalg.pinv(rows) @ (rows @ g) if len(rows) else g
        nearest = g - np.linalg.pinv(rows) @ (rows @ g - rhs) if len(rows) else g
        np.testing.assert_allclose(p.convex.tangent_part(XP, g[None], face)[0], tangent, rtol=0, atol=1e-13)
        np.testing.assert_allclose(p.convex.onto(XP, g[None], face)[0], nearest, rtol=0, atol=1e-13 * (1 + p.gap.sum()))


def test_entries_that_no_link_holds_keep_their_bits() -> None:
    draw = np.random.default_rng(0)
    convex = PooledCells((50, 40), np.zeros((1, 1)), np.full((1, 1), -inf), np.full((1, 1), inf))
    v = np.sort(draw.normal(size=convex.shape), 1)
    v[:, 20] = v[:, 19]
    w, face = convex.nearest(XP, v)
    np.testing.assert_array_equal(w, v)
    assert not face.links.any()
    one = np.full((50, 1), 1e-3)
    landed, y, face = convex.land(XP, v, np.zeros_like(v), one, face, UNIT)
    np.testing.assert_array_equal(landed, v)
    np.testing.assert_array_equal(y, np.zeros_like(v))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tensors_are_projected_as_arrays_are(dtype: str) -> None:
    draw, eps = np.random.default_rng(0), float(np.finfo(dtype).eps)
    convex = PooledCells((30, 70), 0.1 * draw.random((1, 69)), np.full((1, 1), -1.0), np.full((1, 1), 8.0))
    v, y = draw.normal(size=(2, *convex.shape)).astype(dtype)
    tau = np.full((30, 1), 0.1, dtype)
    wanted, marks = convex.nearest(XP, v)
    found, face = convex.nearest(Torch(), torch.tensor(v))
    bound = 4 * 72 * eps * 10.0
    np.testing.assert_allclose(found, wanted, rtol=0, atol=bound)
    landed = convex.land(Torch(), found, torch.tensor(y), torch.tensor(tau), face, eps / 2)
    for own, other in zip(landed[:2], convex.land(XP, wanted, y, tau, marks, eps / 2)[:2], strict=True):
        assert own.numpy().dtype == other.dtype == np.dtype(dtype)
        np.testing.assert_allclose(own, other, rtol=0, atol=10 * bound)  # what is rounding of w is divided by tau in y


@pytest.mark.parametrize("bounds", [(-inf, inf), (0.0, 0.4)])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_monotone_weights_are_trained_to_the_optimum(name: str, bounds: tuple[float, float]) -> None:
    draw = np.random.default_rng(2)
    inputs = draw.normal(size=(200, 10)) * 10.0 ** draw.uniform(-0.3, 0.3, 10)
    targets = inputs @ np.sort(draw.normal(size=10) * 0.5)[draw.permutation(10)] + draw.normal(size=200)
    hessian = inputs.T @ inputs / 200
    step, steps = optimizer_of(name, float(np.linalg.eigvalsh(hessian)[-1]))
    convex = PooledCells((1, 10), np.zeros((1, 1)), np.full((1, 1), bounds[0]), np.full((1, 1), bounds[1]))

    def visited(w: np.ndarray, state: Any) -> None:
        assert (np.diff(w) >= 0.0).all()
        assert ((bounds[0] <= w) & (w <= bounds[1])).all()

    gradient = lambda w: w @ hessian - targets @ inputs / 200  # noqa: E731
    w, _ = trained(convex, gradient, np.zeros((1, 10)), step, steps, visited)
    best = monotone_optimum(inputs, targets, bounds)
    value, least = (0.5 * np.mean((inputs @ x - targets) ** 2) for x in (w[0], best))
    assert value == pytest.approx(least, rel=1e-9)
    assert len(np.unique(w)) < 10  # some of them came together


def monotone_optimum(inputs: np.ndarray, targets: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """The best monotone weights, as sums of increments that are not negative.

    With bounds, the increments and the rest up to the upper bound add up to a constant: a heavy equation of NNLS.
    """
    n = inputs.shape[1]
    sums = np.tril(np.ones((n, n)))
    if bounds[1] == inf:
        least = np.concatenate([[-inf], np.zeros(n - 1)])
        solution = lsq_linear(inputs @ sums, targets, (least, inf), method="bvls", tol=1e-15)
        return np.asarray(sums @ solution.x)
    heavy = 1e6
    rows = np.block([[inputs @ sums, np.zeros((len(inputs), 1))], [np.full((1, n), heavy), np.array([[heavy]])]])
    return np.asarray(sums @ nnls(rows, np.concatenate([targets, [heavy * bounds[1]]]))[0][:n])


def test_a_chain_answers_every_question_as_a_block_without_equations() -> None:
    weight, one = Parameter("a", (4, 3)), np.ones((1, 1))
    chain = Chain(box(View(weight, 0, ((4, 3), (3, 1)))), 4, 3, 0.0 * one, -inf * one, inf * one, (3,))
    block: Block = chain
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
    assert block.describe() == "4 ascending chains of 3 entries"
    assert block.renumbered({3: 7}).rules == (7,)
    assert isinstance(block.law(), NormalMap)
    assert block.law().shape == (4, 3)
    assert block.bytes_a_step() > 0
    bounded = Chain(chain.entries, 4, 3, 0.0 * one, 0.0 * one, inf * one, (3,))
    assert bounded.describe() == "4 ascending chains of 3 entries between bounds"
