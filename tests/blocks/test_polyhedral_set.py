"""Projections onto random polyhedra and their faces, against quadprog and nonnegative least squares."""

from __future__ import annotations

import os

import numpy as np
import pytest

from affinet.blocks.namespace import NumPy
from affinet.blocks.polyhedral_set import PolyhedralFace, PolyhedralSet
from tests.blocks.polyhedra import (
    KINDS,
    SOLVERS,
    Polyhedron,
    distance_from_cone,
    nearest_by_quadprog,
    nearest_in_cone,
    random_polyhedron,
)

XP = NumPy()
U = 2.0**-53
ROUNDING = 1e-13
"""Some hundred roundings of float64: sums of up to 16 terms, in a few dozen steps of a search."""
MULTIPLIED = 1e-9
"""Rounding where solutions are compared: multiplied by the condition number of the active rows. Of random rows it stays
below a thousand, mostly; `nearly` dependent ones reach 1e10 and are compared by their KKT conditions alone."""


def bodies(kind: str, solver: str, count: int) -> list[tuple[Polyhedron, np.random.Generator]]:
    pairs = []
    # The solver of large cells pays what NumPy's calls cost at any size.
    for seed in range(count if solver == "small" else count // 5):
        dice = np.random.default_rng([seed, KINDS.index(kind)])
        pairs.append((random_polyhedron(dice, kind), dice))
    return pairs


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("with_metric", [False, True], ids=["euclidean", "metric"])
def test_the_nearest_point(solver: str, kind: str, with_metric: bool) -> None:
    """KKT: feasible, and the pull back to the target is in the normal cone; these suffice. And what quadprog says."""
    compared = 0
    for body, dice in bodies(kind, solver, 250):
        n = len(body.lower)
        metric = 10.0 ** dice.uniform(-2, 2, n) if with_metric else np.ones(n)
        v = body.inside + 10.0 ** dice.uniform(-1, 1) * dice.standard_normal(n)
        x = body.as_set(solver).nearest(XP, v[None], metric[None] if with_metric else None)[0][0]
        assert body.violation(x) <= ROUNDING
        assert (x >= body.lower).all()
        assert (x <= body.upper).all()
        # What counts as active lies within the rounding of x.
        pull = metric * (v - x)
        assert distance_from_cone(body.active(x, ROUNDING), pull) <= 1e-8 * (np.linalg.norm(pull) + 1e-6)
        expected = nearest_by_quadprog(body, v, metric)
        if expected is not None and kind != "nearly" and body.violation(expected) <= ROUNDING:
            compared += 1
            assert np.linalg.norm(x - expected) <= MULTIPLIED * (1.0 + np.linalg.norm(v))
    assert compared > 10 or kind == "nearly"


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_guess_changes_nothing_beyond_rounding(solver: str, kind: str) -> None:
    """Any face may be guessed, nonsense too; and the face that was found is a guess that keeps the point."""
    for body, dice in bodies(kind, solver, 150):
        convex, n, m = body.as_set(solver), len(body.lower), len(body.rhs)
        v = (body.inside + dice.standard_normal(n))[None]
        x, face = convex.nearest(XP, v)
        at = dice.integers(-1, 2, (1, n))
        for guess in (face, PolyhedralFace(dice.random((1, m)) < 0.5, at < 0, at > 0)):
            again, _ = convex.nearest(XP, v, None, guess)
            assert np.linalg.norm(again - x) <= MULTIPLIED * (1.0 + np.linalg.norm(v))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_projecting_is_idempotent_and_brings_no_two_points_apart(solver: str, kind: str) -> None:
    for body, dice in bodies(kind, solver, 150):
        convex, n = body.as_set(solver), len(body.lower)
        v, w = (body.inside + dice.standard_normal((1, n)) for _ in range(2))
        (x, _), (y, _) = convex.nearest(XP, v), convex.nearest(XP, w)
        size = 1.0 + np.linalg.norm(v) + np.linalg.norm(w)
        assert np.linalg.norm(convex.nearest(XP, x)[0] - x) <= ROUNDING * size
        assert np.linalg.norm(x - y) <= np.linalg.norm(v - w) + MULTIPLIED * size


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "nearly"])
def test_the_face_of_a_point_is_where_it_lies(solver: str, kind: str) -> None:
    """On the face of the nearest point, the nearest point is nearest too: positive multipliers alone define it."""
    for body, dice in bodies(kind, solver, 150):
        convex, n = body.as_set(solver), len(body.lower)
        v = body.inside + dice.standard_normal((1, n))
        x, face = convex.nearest(XP, v)
        size = 1.0 + np.linalg.norm(v)
        assert np.linalg.norm(convex.onto(XP, v, face) - x) <= MULTIPLIED * size
        assert np.linalg.norm(convex.tangent_part(XP, v - x, face)) <= MULTIPLIED * size


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_projections_along_a_face(solver: str, kind: str) -> None:
    """`P` is symmetric, `P² = P`, and moves no constraint of the face: also where rows of the face are dependent."""
    for body, dice in bodies(kind, solver, 100):
        convex, n, m, k = body.as_set(solver), len(body.lower), len(body.rhs), body.equations
        at = dice.integers(-1, 2, (1, n)) * (dice.random((1, n)) < 0.3)
        rows = (dice.random((1, m)) < 0.3) & (np.arange(m) >= k)
        face = PolyhedralFace(rows, (at < 0) & np.isfinite(body.lower), (at > 0) & np.isfinite(body.upper))
        x, y = dice.standard_normal((2, 1, n))
        p, q = convex.tangent_part(XP, x, face), convex.tangent_part(XP, y, face)
        assert abs(np.vdot(p, y) - np.vdot(x, q)) <= ROUNDING * n
        assert np.linalg.norm(convex.tangent_part(XP, p, face) - p) <= ROUNDING
        active = body.matrix[rows[0] | (np.arange(m) < k)]
        moved = active @ p[0] / np.linalg.norm(active, axis=1)
        assert np.abs(moved).max(initial=0.0) <= (1e-9 if kind == "nearly" else ROUNDING)
        assert not p[face.lower | face.upper].any()


def on_face(
    body: Polyhedron, solver: str, dice: np.random.Generator
) -> tuple[PolyhedralSet, np.ndarray, PolyhedralFace]:
    """A point of the polyhedron and its face."""
    convex = body.as_set(solver)
    point, face = convex.nearest(XP, body.inside + 2.0 * dice.standard_normal((1, len(body.lower))))
    return convex, point, face


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "nearly"])
def test_landing_is_projecting(solver: str, kind: str) -> None:
    for body, dice in bodies(kind, solver, 150):
        convex, point, face = on_face(body, solver, dice)
        z = convex.onto(XP, point + 0.3 * dice.standard_normal(point.shape), face)
        y, tau = dice.standard_normal(point.shape), np.full((1, 1), 10.0 ** dice.uniform(-1, 1))
        w, normal, _ = convex.land(XP, z, y, tau, face, U)
        expected, _ = convex.nearest(XP, z + tau * y)
        size = 1.0 + np.linalg.norm(z) + np.linalg.norm(tau * y)
        assert np.linalg.norm(w - expected) <= MULTIPLIED * size
        assert np.linalg.norm(z + tau * y - w - tau * normal) <= ROUNDING * size


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "nearly"])
def test_landing_keeps_the_digits_of_multipliers_however_short_the_step(solver: str, kind: str) -> None:
    """From a point of the set, the limit of small τ is the normal cone there; (z + τ y − w) / τ would have no digit."""
    for body, dice in bodies(kind, solver, 150):
        convex, z, face = on_face(body, solver, dice)
        y, tau = dice.standard_normal(z.shape), np.full((1, 1), 1e-12)
        w, landed, _ = convex.land(XP, z, y, tau, face, 64 * U)
        limit, _ = convex.normal(XP, z, y, face, 64 * U)
        assert np.linalg.norm(landed - limit) <= MULTIPLIED * np.linalg.norm(y)
        assert body.violation(w[0]) <= ROUNDING


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_normal_part_of_a_vector(solver: str, kind: str) -> None:
    for body, dice in bodies(kind, solver, 150):
        convex, w, face = on_face(body, solver, dice)
        v = dice.standard_normal(w.shape)
        for guess in (face, None):
            # Far above the rounding of w and far below the slack of any row of random numbers.
            normal, found = convex.normal(XP, w, v, guess, 1e-11)
            expected = nearest_in_cone(body.active(w[0], 1e-11), v[0])
            assert np.linalg.norm(normal[0] - expected) <= 1e-8 * np.linalg.norm(v)
            # Its face carries it: what is along the face is at a right angle.
            assert np.linalg.norm(convex.tangent_part(XP, normal, found)) <= (1e-5 if kind == "nearly" else MULTIPLIED)


@pytest.mark.parametrize("most_small", [512, -1])
@pytest.mark.skipif("AFFINET_ROUNDING" in os.environ, reason="factors made twice are rounded in two ways")
def test_cells_are_projected_as_each_alone_and_may_share_rows(most_small: int) -> None:
    dice = np.random.default_rng(3)
    cells, m, n = 40, 6, 8
    for shared in (True, False):
        matrix = dice.standard_normal((1 if shared else cells, m, n))
        inside = dice.standard_normal((cells, n))
        rhs = (matrix @ inside[..., None])[..., 0] + np.where(np.arange(m) < 2, 0.0, dice.exponential(size=(cells, m)))
        lower, upper = inside - dice.exponential(size=(cells, n)), np.full((cells, n), np.inf)
        convex = PolyhedralSet(matrix, rhs, 2, lower, upper, most_small)
        v, metric = dice.standard_normal((cells, n)), dice.exponential(size=(cells, n)) + 0.1
        points, faces = convex.nearest(XP, v, metric)
        assert convex.norm(XP, v).shape == (cells, 1)
        for k in range(cells):
            part = slice(k, k + 1)
            alone = PolyhedralSet(
                matrix[:1] if shared else matrix[part], rhs[part], 2, lower[part], upper[part], most_small
            )
            point, face = alone.nearest(XP, v[part], metric[part])
            assert (point == points[part]).all()
            assert all((mine == all_of[part]).all() for mine, all_of in zip(face, faces, strict=True))


@pytest.mark.parametrize("solver", SOLVERS)
def test_rows_of_any_size_are_rows(solver: str) -> None:
    """Scaling a row changes nothing beyond rounding: a row of 1e-9 is as real as one of 1e9."""
    dice = np.random.default_rng(5)
    body = random_polyhedron(dice, "plain")
    v = body.inside + dice.standard_normal((1, len(body.lower)))
    expected, _ = body.as_set(solver).nearest(XP, v)
    assert np.linalg.norm(expected - v) > 0.1
    for exponent in (-150, -9, 9, 150):
        scale = 10.0**exponent
        other = body._replace(matrix=body.matrix * scale, rhs=body.rhs * scale)
        assert np.linalg.norm(other.as_set(solver).nearest(XP, v)[0] - expected) <= MULTIPLIED


def test_what_cannot_be_met_ends() -> None:
    """Contradictory rows and numbers that are not finite end the search; planning refuses them before."""
    rows, rhs = np.array([[[1.0, 0.0], [-1.0, 0.0]]]), np.array([[0.0, -1.0]])
    bounds = np.full((1, 2), np.inf)
    convex = PolyhedralSet(rows, rhs, 0, -bounds, bounds)
    x, _ = convex.nearest(XP, np.array([[5.0, 7.0]]))
    assert np.isfinite(x).all()
    assert x[0, 1] == 7.0
    assert np.isnan(convex.nearest(XP, np.array([[np.nan, 7.0]]))[0]).any()
