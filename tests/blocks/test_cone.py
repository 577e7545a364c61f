"""Boxes, and boxes cut by a row per cell: projections against rational arithmetic, and trainings to the optimum."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import inf
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from sklearn.datasets import load_diabetes

from affinet.blocks.block import Block
from affinet.blocks.cone import Cone
from affinet.blocks.cut_boxes import CutBoxes, CutFace
from affinet.blocks.entry_bounds import Boxes, BoxFace
from affinet.blocks.entry_sets import View
from affinet.blocks.interval import Interval
from affinet.blocks.namespace import NumPy
from affinet.blocks.normal_map import NormalMap
from affinet.blocks.places import Following, box
from affinet.kernels.torch.torch_namespace import Torch
from affinet.language.calculus.terms import Parameter
from tests.blocks.exact_cells import ExactCell, exact_cell
from tests.blocks.stepping import OPTIMIZERS, UNIT, optimizer_of, trained

XP = NumPy()
EPS = float(np.finfo(float).eps)
KINDS = ("simplex", "capped", "signs", "any bounds", "ties")
pytestmark = pytest.mark.filterwarnings(
    "ignore::RuntimeWarning"
)  # infinite bounds; the drivers of laws silence them too


@dataclass(frozen=True)
class Problem:
    """One cell: numbers, metric, row, and whether the row is an equation."""

    v: np.ndarray
    d: np.ndarray
    a: np.ndarray
    rhs: float
    lower: np.ndarray
    upper: np.ndarray
    equation: bool

    @property
    def convex(self) -> CutBoxes:
        shape, rhs = (1, len(self.v)), np.array([[self.rhs]])
        return CutBoxes(shape, self.a[None], rhs, self.equation, self.lower[None], self.upper[None])

    def exact(self, v: Any = None, d: Any = None) -> ExactCell:
        v, d = self.v if v is None else v, self.d if d is None else d
        return exact_cell(v, d, self.a, self.rhs, self.lower, self.upper, equation=self.equation)

    def rounding(self, exact: ExactCell, v: np.ndarray, d: np.ndarray) -> np.ndarray:
        """A bound on the rounding of each entry.

        The sum of n terms is off by at most n units of its terms, and so is t, divided by `Σ a²/d` over the free
        entries; an entry moves by `a/d` as often as t. Twice, since the search ends at such a residual and begins anew.
        """
        x, t = exact.floats(), abs(float(exact.t))
        free = (x > self.lower) & (x < self.upper)
        slope = np.abs(self.a / d)
        terms = np.abs(self.a) @ (np.abs(x) + np.abs(v) + t * slope) + abs(self.rhs)
        squares = np.sum((np.abs(self.a) * slope)[free])
        of_t = 2.0 * (len(v) + 4) * terms / squares if squares > 0.0 else 0.0
        return EPS * (4.0 * (np.abs(v) + t * slope) + slope * of_t)


def problem(number: int, kind: str) -> Problem:
    """A random problem with a feasible point."""
    draw = np.random.default_rng((number, KINDS.index(kind)))
    n = int(draw.integers(1, 9))
    v, a, lower, upper = 3.0 * draw.normal(size=n), np.ones(n), np.zeros(n), np.full(n, inf)
    if kind == "capped":
        upper = 0.1 + draw.random(n)
    elif kind in ("signs", "any bounds"):
        a = draw.normal(size=n) * 10.0 ** draw.uniform(-1, 1, n)
    if kind == "any bounds":
        lower = np.where(draw.random(n) < 0.3, -inf, -draw.random(n))
        upper = np.where(draw.random(n) < 0.3, inf, draw.random(n))
    if kind == "ties":  # many entries come to a bound at once, and whole cells at a vertex
        v, a = draw.integers(-3, 4, n).astype(float), draw.choice([-2.0, -1.0, 1.0, 1.0], n)
        lower, upper = draw.integers(-2, 1, n).astype(float), draw.integers(1, 3, n).astype(float)
        inside = np.where(draw.random(n) < 0.5, lower, upper)
        ends = np.sum(np.sort([a * lower, a * upper], 0), 1)
        if a @ inside in ends:  # only one point would satisfy the row
            inside = (lower + upper) / 2.0
    else:
        low, high = np.maximum(lower, -2.0), np.minimum(upper, 2.0)
        inside = low + draw.uniform(0.1, 0.9, n) * (high - low)
    d = 10.0 ** draw.uniform(-1, 1, n) if draw.random() < 0.5 else np.ones(n)
    return Problem(v, d, a, float(a @ inside), lower, upper, bool(draw.random() < 0.5))


def nearest(p: Problem, v: np.ndarray, *, guess: CutFace | None = None) -> tuple[np.ndarray, CutFace]:
    x, face = p.convex.nearest(XP, v[None], p.d[None], guess)
    return x[0], face


@pytest.mark.parametrize("scale", [1.0, 2.0**-20, 2.0**20])
@pytest.mark.parametrize("kind", KINDS)
def test_the_nearest_point_is_that_of_rational_numbers(kind: str, scale: float) -> None:
    for number in range(60):
        p = problem(number, kind)
        p = Problem(p.v * scale, p.d, p.a, p.rhs * scale, p.lower * scale, p.upper * scale, p.equation)
        exact = p.exact()
        x, face = nearest(p, p.v)
        error = np.abs(x - exact.floats())
        assert (error <= p.rounding(exact, p.v, p.d)).all(), number
        assert ((p.lower <= x) & (x <= p.upper)).all()
        gap, terms = float(p.a @ x) - p.rhs, float(np.abs(p.a) @ np.abs(x)) + abs(p.rhs)
        assert (abs(gap) if p.equation else gap) <= EPS * (len(x) + 4) * terms
        assert_face_of_multipliers(p, exact, face)


def assert_face_of_multipliers(p: Problem, exact: ExactCell, face: CutFace) -> None:
    """The face has the bounds of entries whose multiplier is clearly positive, and none whose multiplier is zero."""
    pull = p.d * (p.v - exact.floats()) - float(exact.t) * p.a
    size = np.abs(p.d * p.v) + np.abs(p.d * exact.floats()) + np.abs(float(exact.t) * p.a)
    clear = 1e-10 * size.max(initial=0.0)
    vertex = not ((exact.floats() > p.lower) & (exact.floats() < p.upper)).any()
    if vertex:  # t, and with it the multipliers, are then one of several choices
        return
    assert (face.lower[0] == (-pull > clear))[np.abs(pull) > clear].all()
    assert (face.upper[0] == (pull > clear))[np.abs(pull) > clear].all()
    assert bool(face.row[0, 0]) == (float(exact.t) > 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_projecting_twice_is_projecting_once_and_never_spreads(kind: str) -> None:
    for number in range(60):
        p = problem(number, kind)
        x, face = nearest(p, p.v)
        again, _ = nearest(p, x, guess=face)
        assert (np.abs(again - x) <= p.rounding(p.exact(x), x, p.d)).all()
        other = p.v + np.random.default_rng(number).normal(size=len(p.v))
        y, _ = nearest(p, other)
        bound = p.rounding(p.exact(), p.v, p.d) + p.rounding(p.exact(other), other, p.d)
        root = np.sqrt(p.d)
        assert np.linalg.norm(root * (x - y)) <= np.linalg.norm(root * (p.v - other)) + np.linalg.norm(root * bound)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_guess_changes_only_rounding(kind: str) -> None:
    for number in range(60):
        p, draw = problem(number, kind), np.random.default_rng(number)
        exact, n = p.exact(), len(p.v)
        lower = (draw.random((1, n)) < 0.5) & np.isfinite(p.lower)
        guess = CutFace(lower, ~lower & (draw.random((1, n)) < 0.5) & np.isfinite(p.upper), draw.random((1, 1)) < 0.5)
        x, _ = nearest(p, p.v, guess=guess)
        assert (np.abs(x - exact.floats()) <= p.rounding(exact, p.v, p.d)).all()


def test_long_cells_with_slopes_of_all_sizes_end_at_the_row() -> None:
    """A search that ends where the set of clipped entries repeats ends elsewhere, here and there."""
    for number in range(30):
        draw = np.random.default_rng(number)
        shape, a = (20, 300), draw.normal(size=(20, 300)) * 10.0 ** draw.uniform(-4, 4, (20, 300))
        lower, upper = -draw.random(shape), draw.random(shape)
        rhs = np.sum(a * draw.uniform(lower, upper), 1, keepdims=True)
        convex = CutBoxes(shape, a, rhs, True, lower, upper)
        x, _ = convex.nearest(XP, draw.normal(size=shape) * 10.0 ** draw.uniform(-4, 4, shape))
        gap = np.abs(np.sum(a * x, 1, keepdims=True) - rhs)
        assert (gap <= EPS * 304 * (np.sum(np.abs(a * x), 1, keepdims=True) + np.abs(rhs))).all()


@pytest.mark.parametrize("tau", [1.0, 1e-3, 1e-12, 1e-200])
@pytest.mark.parametrize("kind", KINDS)
def test_landing_is_the_projection_of_rational_numbers_at_every_reach(kind: str, tau: float) -> None:
    """`w = Π(z + τy)` and `y' = (z + τy − w) / τ`: in floating point this division leaves no digit of y' at 1e-12."""
    compared = 0
    for number in range(60):
        p, draw = problem(number, kind), np.random.default_rng(number)
        ones = np.ones(len(p.v))
        w, face = p.convex.nearest(XP, p.v[None])
        y = p.convex.normal(XP, w, draw.normal(size=w.shape), face, UNIT)[0] + 0.3 * draw.normal(size=w.shape)
        z = p.convex.onto(XP, w + min(tau, 1e-3) * draw.normal(size=w.shape), face)
        # The exact set has z on it: what z lacks to the row is rounding, which landing leaves out.
        rhs = sum((Fraction(a) * Fraction(x) for a, x in zip(p.a, z[0], strict=True)), start=Fraction(0))
        active = p.equation or bool(face.row[0, 0])
        if not active and abs(float(rhs) - p.rhs) <= 1e-14:
            continue
        target = rhs if active else Fraction(p.rhs)
        landed, normal, new = p.convex.land(XP, z, y, np.full((1, 1), tau), face, UNIT)
        slack = [
            [
                _slack(bound, x, at) / Fraction(tau) if abs(bound) < inf else bound
                for bound, x, at in zip(bounds, z[0], marks, strict=True)
            ]
            for bounds, marks in ((p.lower, face.lower[0]), (p.upper, face.upper[0]))
        ]
        exact = exact_cell(y[0], ones, p.a, (target - rhs) / Fraction(tau), *slack, equation=p.equation)
        moved = np.array([float(Fraction(own) - x) for own, x in zip(y[0], exact.x, strict=True)])
        size = np.abs(moved).max(initial=0.0) + np.abs(y).max(initial=0.0)
        spread = np.abs(p.a).max() / np.abs(p.a).min()
        # What is left to an inequality is rounded as a sum of its terms is, before it is divided by tau.
        terms = np.abs(p.a) @ np.abs(z[0]) + abs(p.rhs)
        of_room = 0.0 if active else EPS * (len(y[0]) + 4) * terms / np.abs(p.a).min() / tau
        assert np.abs(normal[0] - moved).max() <= EPS * 8 * (len(y[0]) + 4) * spread**2 * size + of_room, number
        assert_normal(p, landed[0], normal[0], new)
        compared += 1
    assert compared > 30


def _slack(bound: float, z: float, at: bool) -> Fraction:
    return Fraction(0) if at else Fraction(bound) - Fraction(z)


def assert_normal(p: Problem, w: np.ndarray, y: np.ndarray, face: CutFace) -> None:
    """y is in the normal cone at w: a multiple of the row, plus a push against the bounds that w is exactly at."""
    assert ((p.lower <= w) & (w <= p.upper)).all()
    inside = (w > p.lower) & (w < p.upper)
    if not inside.any():
        return
    t = (y / p.a)[inside]
    assert np.abs(t - t[0]).max() <= 4 * EPS * abs(t[0])
    if not p.equation:
        assert t[0] >= 0.0
        if t[0] > 0.0:
            gap, terms = float(p.a @ w) - p.rhs, float(np.abs(p.a) @ np.abs(w)) + abs(p.rhs)
            assert abs(gap) <= EPS * (len(w) + 4) * terms
    pull = y - t[0] * p.a
    tiny = 8 * (len(w) + 4) * EPS * (np.abs(y).max() + abs(t[0]) * np.abs(p.a).max())
    assert (pull[~(w <= p.lower)] >= -tiny).all()
    assert (pull[~(w >= p.upper)] <= tiny).all()
    assert not (face.lower[0] & (w > p.lower)).any()
    assert not (face.upper[0] & (w < p.upper)).any()


@pytest.mark.parametrize("kind", KINDS)
def test_the_normal_part_is_that_of_nnls(kind: str) -> None:
    for number in range(60):
        p, draw = problem(number, kind), np.random.default_rng(number)
        w, face = p.convex.nearest(XP, p.v[None])
        v, identity = draw.normal(size=w.shape), np.eye(len(p.v))
        lower, upper = np.isclose(w[0], p.lower, rtol=0, atol=1e-14), np.isclose(w[0], p.upper, rtol=0, atol=1e-14)
        active = abs(float(p.a @ w[0]) - p.rhs) <= 1e-14 * (np.abs(p.a) @ np.abs(w[0]) + abs(p.rhs))
        rows = [-identity[lower], identity[upper]]
        rows += [p.a[None]] if p.equation or active else []
        rows += [-p.a[None]] if p.equation else []
        normals = np.concatenate(rows)
        multipliers = nnls(normals.T, v[0])[0] if len(normals) else np.zeros(0)
        y, new = p.convex.normal(XP, w, v, face, 8 * UNIT)
        np.testing.assert_allclose(y[0], multipliers @ normals, rtol=0, atol=1e-12 * np.linalg.norm(v))
        # What is left of v is along the face: the Moreau decomposition.
        np.testing.assert_allclose(p.convex.tangent_part(XP, v, new), v - y, rtol=0, atol=1e-12 * np.linalg.norm(v))


def test_a_vertex_is_the_face_of_a_normal_inside_its_cone() -> None:
    """Without a free entry the multiplier of the row is one of several: the middle leaves every bound in the face."""
    convex = CutBoxes((1, 3), np.ones((1, 1)), np.full((1, 1), 2.0), True, np.zeros((1, 1)), np.ones((1, 1)))
    w, v = np.array([[1.0, 1.0, 0.0]]), np.array([[3.0, 2.0, -1.0]])
    y, face = convex.normal(XP, w, v, None, UNIT)
    np.testing.assert_array_equal(y, v)
    np.testing.assert_array_equal(face.upper, [[True, True, False]])
    np.testing.assert_array_equal(face.lower, [[False, False, True]])
    np.testing.assert_array_equal(convex.tangent_part(XP, v, face), np.zeros((1, 3)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_verbs_of_a_face_are_its_projections(kind: str) -> None:
    for number in range(60):
        p, draw = problem(number, kind), np.random.default_rng(number)
        _, face = p.convex.nearest(XP, p.v[None])
        fixed = np.eye(len(p.v))[(face.lower | face.upper)[0]]
        rows = np.concatenate([fixed, p.a[None]]) if p.equation or face.row[0, 0] else fixed
        g, spread = draw.normal(size=p.v.shape), np.abs(p.a).max() / np.abs(p.a).min()
        tangent = g - np.linalg.pinv(rows) @ (rows @ g) if len(rows) else g
        np.testing.assert_allclose(
            p.convex.tangent_part(XP, g[None], face)[0], tangent, rtol=0, atol=1e-14 * spread**2 * 20
        )
        z = p.convex.onto(XP, g[None], face)[0]
        assert (z == np.where(face.lower[0], p.lower, np.where(face.upper[0], p.upper, z))).all()
        np.testing.assert_allclose(
            p.convex.tangent_part(XP, (z - g)[None], face)[0], 0, rtol=0, atol=1e-13 * spread**2 * 20
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_tensors_are_projected_as_arrays_are(kind: str, dtype: str) -> None:
    eps = float(np.finfo(dtype).eps)
    for number in range(40):
        p = problem(number, kind)
        v = p.v.astype(dtype)[None]
        wanted, _ = p.convex.nearest(XP, v)
        found, face = p.convex.nearest(Torch(), torch.tensor(v))
        exact = p.exact(p.v, np.ones(len(v[0])))
        bound = 3.0 * p.rounding(exact, p.v, np.ones(len(v[0]))) * eps / EPS  # bounds and row are rounded too
        assert (np.abs(found.numpy() - wanted)[0] <= 2.0 * bound).all()
        y = Torch().array(np.ones(v.shape), found)
        tensors = p.convex.land(Torch(), found, y, torch.ones((1, 1), dtype=found.dtype), face, eps / 2)
        marks = CutFace(*(part.numpy() for part in face))
        arrays = p.convex.land(XP, found.numpy(), y.numpy(), np.ones((1, 1), dtype), marks, eps / 2)
        spread = np.abs(p.a).max() / np.abs(p.a).min()
        for own, other in zip(tensors[:2], arrays[:2], strict=True):
            assert own.numpy().dtype == other.dtype == np.dtype(dtype)
            size = 1.0 + np.abs(other).max() + np.abs(v).max()
            np.testing.assert_allclose(own, other, rtol=0, atol=eps * 8 * (len(p.v) + 4) * spread**2 * size)


def test_bounds_alone_are_a_clamp_whose_forces_keep_their_digits() -> None:
    draw = np.random.default_rng(0)
    convex = Boxes((4, 50), np.array([[0.0], [-1.0], [-inf], [0.1]]), np.array([[inf], [1.0], [2.0], [0.3]]))
    lower, upper = (np.broadcast_to(bound, convex.shape) for bound in (convex.lower, convex.upper))
    v = 2.0 * draw.normal(size=convex.shape)
    w, face = convex.nearest(XP, v, 1.0 + draw.random(convex.shape))
    np.testing.assert_array_equal(w, np.clip(v, lower, upper))
    np.testing.assert_array_equal(face.lower, v < lower)
    np.testing.assert_array_equal(face.upper, v > upper)
    y = draw.normal(size=convex.shape)
    for tau in (1.0, 1e-12, 1e-250):
        landed, force, new = convex.land(XP, w, y, np.full(convex.shape, tau), face, UNIT)
        assert ((lower <= landed) & (landed <= upper)).all()
        np.testing.assert_array_equal(landed[new.lower], lower[new.lower])
        np.testing.assert_array_equal(landed[new.upper], upper[new.upper])
        assert (force[(landed > lower) & (landed < upper)] == 0.0).all()
        exact = [
            float(Fraction(a) - min(max(Fraction(a), _room(low, x, tau)), _room(high, x, tau)))
            for a, low, high, x in zip(y.flat, lower.flat, upper.flat, w.flat, strict=True)
        ]
        np.testing.assert_allclose(force.ravel(), exact, rtol=4 * EPS, atol=4 * EPS * np.abs(y).max())
    normal, at = convex.normal(XP, w, y, None, UNIT)
    np.testing.assert_array_equal(normal, np.where((w == lower) & (y < 0) | (w == upper) & (y > 0), y, 0.0))
    np.testing.assert_array_equal(convex.tangent_part(XP, y, at), np.where(normal != 0.0, 0.0, y))
    np.testing.assert_array_equal(convex.onto(XP, v, face), w)
    np.testing.assert_array_equal(convex.norm(XP, v), np.abs(v))


def _room(bound: float, z: float, tau: float) -> Fraction:
    if abs(bound) == inf:
        return Fraction(10**400) if bound > 0 else -Fraction(10**400)
    return (Fraction(bound) - Fraction(z)) / Fraction(tau)


def test_weights_of_few_digits_are_at_a_bound_that_they_cannot_hold() -> None:
    """0.1 in float32 lies 1.5e-9 above 0.1: it is at this bound, and not 1.5e-9 inside."""
    convex, held = Boxes((1,), np.array([0.1]), np.array([inf])), np.array([np.float32(0.1)], np.float64)
    assert held > 0.1
    _, face = convex.normal(XP, held, np.array([-1.0]), None, 2.0**-24)
    assert face.lower.all()
    w, force, face = convex.land(
        XP, held, np.array([-1.0]), np.array([1e-12]), BoxFace(*[np.zeros(1, bool)] * 2), 2.0**-24
    )
    assert (w[0], force[0], bool(face.lower[0])) == (0.1, -1.0, True)


def regression() -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of six outputs, badly scaled."""
    r, k, d = np.random.default_rng(1), 6, 8
    inputs = r.normal(size=(200, d)) * 10.0 ** r.uniform(-0.5, 0.5, d) @ (np.eye(d) + 0.3 * r.normal(size=(d, d)))
    weights = r.normal(size=(d, k)) * 0.5 + 0.2
    return inputs, inputs @ weights + 0.5 * r.normal(size=(200, k))


@pytest.mark.parametrize("equation", [True, False])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rows_on_a_simplex_are_trained_to_the_optimum(name: str, equation: bool) -> None:
    inputs, targets = regression()
    n = len(inputs)
    hessian = inputs.T @ inputs / n
    step, steps = optimizer_of(name, float(np.linalg.eigvalsh(hessian)[-1]))
    one = np.ones((1, 1))
    convex = CutBoxes((6, 8), one, one, equation, 0.0 * one, inf * one)

    def visited(w: np.ndarray, state: Any) -> None:
        assert (w >= 0.0).all()
        excess = w.sum(axis=1) - 1.0
        assert (np.abs(excess) if equation else excess).max() <= 12 * EPS
        assert (state.y[w > 0.0].reshape(-1) >= (-inf if equation else 0.0)).all()

    w, state = trained(
        convex, lambda w: w @ hessian - targets.T @ inputs / n, np.full((6, 8), 0.1), step, steps, visited
    )
    value = 0.5 * ((inputs @ w.T - targets) ** 2).sum() / n
    assert value == pytest.approx(9.04809666965, rel=1e-9)  # Clarabel, polished on the active set
    gradient = w @ hessian - targets.T @ inputs / n
    assert np.abs(state.y + gradient).max() <= 1e-4 * np.abs(gradient).max()  # y averages the last ten gradients


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_that_are_not_negative_are_trained_to_the_optimum(name: str) -> None:
    inputs, targets = load_diabetes(return_X_y=True)
    inputs, targets = inputs / inputs.std(0), (targets - targets.mean()) / targets.std()
    n = len(inputs)
    hessian = inputs.T @ inputs / n
    step, steps = optimizer_of(name, float(np.linalg.eigvalsh(hessian)[-1]))
    convex = Boxes((10,), np.zeros(1), np.full(1, inf))
    w, _ = trained(convex, lambda w: hessian @ w - inputs.T @ targets / n, np.full(10, 0.1), step, steps)
    assert 0.5 * ((inputs @ w - targets) ** 2).sum() / n == pytest.approx(0.259210653594, rel=1e-9)
    np.testing.assert_allclose(w, nnls(inputs, targets)[0], rtol=0, atol=1e-5)


def cone(**changes: Any) -> Cone:
    weight, other = Parameter("a", (4, 3)), Parameter("b", (2, 3))
    one = np.ones((1, 1))
    given: dict[str, Any] = {
        "entries": box(View(weight, 0, ((4, 3), (3, 1)))), "cells": 4, "width": 3, "row": one * [1.0, 2.0, 2.0],
        "rhs": one, "equation": True, "lower": 0.0 * one, "upper": inf * one, "rules": (3,),
    }  # fmt: skip
    if changes.pop("two", False):
        given["entries"] = Following((given["entries"], box(View(other, 0, ((2, 3), (3, 1))))))
        given["cells"] = 6
    return Cone(**{**given, **changes})


def test_a_cone_answers_every_question_by_its_equations() -> None:
    block: Block = cone()
    assert (block.size, block.rank, block.ambiguous, block.rules) == (12, 4, 0, (3,))
    assert block.freedom(4) == pytest.approx(1.0 - 4.0 / 9.0, rel=1e-15)
    assert block.value(4) is None
    assert [list(block.mates(4)[0]), block.mates(4)[1]] == [[4], None]
    assert [len(part) for part in block.determined(100)] == [0, 0]
    assert not list(block.tied(100))
    assert not block.fixed()
    weight = next(iter(block.sizes()))
    assert block.sizes() == {weight: 12}
    assert block.taken() == {weight: Interval.of(4)}
    assert (block.condition_of_extra(), block.solves_in_metric()) == (1.0, 0)
    assert not block.resolution().irregular
    assert sum(block.tally().cells.values()) == 4
    assert block.describe() == "4 groups of 3 entries between bounds, 1 equation each"
    assert block.renumbered({3: 7}).rules == (7,)
    assert isinstance(block.law(), NormalMap)
    assert block.law().shape == (4, 3)
    assert block.bytes_a_step() > 0
    assert [bounds.high for bounds in cone(two=True).taken().values()] == [4, 2]


def test_a_cone_without_equations_has_rank_zero() -> None:
    for block in (cone(equation=False), cone(row=None), cone(row=None, equation=False)):
        assert (block.rank, block.freedom(0)) == (0, 1.0)
        assert not block.tally().cells
        assert all(bounds == Interval(0, 0) for bounds in block.taken().values())
    assert cone(equation=False).describe() == "4 groups of 3 entries between bounds, 1 inequality each"
    assert cone(row=None).describe() == "12 entries between bounds"
    assert isinstance(cone(row=None).law().set, Boxes)
    assert isinstance(cone().law().set, CutBoxes)
