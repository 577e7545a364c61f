"""Inequalities and nonlinear equations through JAX: nearest points are certified by their normal vectors, in NumPy.

A point p of a set is the nearest one to w, or for nonlinear equations a stationary one, when `w − p` is a sum of the
normals of equations and of active inequalities, the latter with multipliers of one sign. Rules are written a second
time as residuals, of which JAX takes the derivatives. AFFINET_JAX_PRODUCT=1 takes all combinations (`make long`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import nnls

import affinet
from affinet import families
from tests.contract.tables import each_row
from tests.integrations.jax_precision import x64
from tests.kernels.bounds import of_projection
from tests.pairwise import pairwise

Array = Any
ROWS, WIDTH = 4, 5
SIGNS = np.array(list(product((-1.0, 1.0), repeat=WIDTH)))
KNAPSACK = np.array([1.0, 2.0, -1.0, 0.5, 1.0])
NORMALS = np.random.default_rng(1).standard_normal((3, WIDTH))
ACROSS = np.random.default_rng(2).standard_normal((4, ROWS * WIDTH))
PROMISED = 4.0
"""The largest factor of docs/numerics.md: `|Σ a_j w_j − b|` in spacings of `Σ|a_j w_j| + |b| + ‖a‖ ‖w‖`."""


def nothing(w: Array) -> Array:
    return jnp.zeros(0)


@dataclass(frozen=True, eq=False)
class Kind:
    """Rules over a (4, 5) weight, and the same as residuals: `equal(w) == 0` and `below(w) <= 0`.

    General nonlinear rules have a `curvature`, the largest second derivative near the weights: the way to them is that
    of Gauss and Newton, along normals of the points on the way, and ends at the nearest point up to a square.
    """

    name: str
    rules: Callable[[Any], Any]
    below: Callable[[Array], Array] = nothing
    equal: Callable[[Array], Array] = nothing
    curved: bool = False
    curvature: float = 0.0

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def joined(*parts: Array) -> Array:
    return jnp.concatenate([jnp.ravel(part) for part in parts])


KINDS = (
    Kind("bounds", lambda w: affinet.between(-0.5, w, 0.25), lambda w: joined(-0.5 - w, w - 0.25)),
    Kind("largest magnitude", lambda w: families.linf_ball(w, 0.3), lambda w: joined(w - 0.3, -0.3 - w)),
    Kind("simplex", lambda w: families.simplex(w, dim=1), lambda w: -w.ravel(), lambda w: w.sum(1) - 1.0),
    Kind(
        "knapsack",
        lambda w: [affinet.between(-1, w, 1), w @ KNAPSACK <= -0.5],
        lambda w: joined(w - 1.0, -1.0 - w, w @ KNAPSACK + 0.5),
    ),
    Kind("order", lambda w: families.monotone(w, dim=1), lambda w: -jnp.diff(w, axis=1).ravel()),
    Kind(
        "order with gaps", lambda w: families.monotone(w, dim=1, gap=0.1), lambda w: 0.1 - jnp.diff(w, axis=1).ravel()
    ),
    Kind("sum of magnitudes", lambda w: families.l1_ball(w, 1.0, dim=1), lambda w: (w @ SIGNS.T - 1.0).ravel()),
    Kind("length", lambda w: families.l2_ball(w, 0.7, dim=1), lambda w: jnp.sqrt((w**2).sum(1)) - 0.7),
    Kind("small polyhedra", lambda w: w @ NORMALS.T <= 0.2, lambda w: (w @ NORMALS.T - 0.2).ravel()),
    Kind(
        "one polyhedron",
        lambda w: [(ACROSS @ w.reshape(ROWS * WIDTH)) <= 0.1, w.sum() == 0.5],
        lambda w: ACROSS @ w.ravel() - 0.1,
        lambda w: w.sum()[None] - 0.5,
    ),
    Kind(
        "transport",
        lambda w: [w >= 0, w.sum(dim=1) == 1.0, w.sum(dim=0) == ROWS / WIDTH],
        lambda w: -w.ravel(),
        lambda w: joined(w.sum(1) - 1.0, w.sum(0) - ROWS / WIDTH),
    ),
    Kind(
        "bounds and ties",
        lambda w: [w[:, 0] == w[:, 4], w >= -0.1, w.sum(dim=1) == 1.0],
        lambda w: -0.1 - w.ravel(),
        lambda w: joined(w[:, 0] - w[:, 4], w.sum(1) - 1.0),
    ),
    Kind("unit rows", lambda w: families.unit_norm(w, dim=1), equal=lambda w: (w**2).sum(1) - 1.0, curved=True),
    Kind(
        "orthonormal rows",
        families.orthogonal,
        equal=lambda w: (w @ w.T - jnp.eye(ROWS))[np.triu_indices(ROWS)],
        curved=True,
    ),
    Kind(
        "unit rows of mean zero",
        lambda w: [families.unit_norm(w, dim=1), w.sum(dim=1) == 0.0],
        equal=lambda w: joined((w**2).sum(1) - 1.0, w.sum(1)),
        curved=True,
    ),
    Kind(
        "products",
        lambda w: [w[0] * w[1] + 0.5 * w[2] == 0.25, w[3] ** 3 + w[3] == 1.0],
        equal=lambda w: joined(w[0] * w[1] + 0.5 * w[2] - 0.25, w[3] ** 3 + w[3] - 1.0),
        curved=True,
        curvature=6.0,
    ),
    Kind(
        "products below a bound",
        lambda w: [w[0] * w[1] <= -0.2],
        lambda w: w[0] * w[1] + 0.2,
        curved=True,
        curvature=1.0,
    ),
)
STARTS = {"far": 1.0, "near": 1e-3}
"""Distances of the start from a point that satisfies the rules; nonlinear equations have a nearest point nearby."""
COMBINED = product if os.environ.get("AFFINET_JAX_PRODUCT") else pairwise
each = each_row("kind, dtype, start", COMBINED(KINDS, ("float64", "float32"), tuple(STARTS)))


def start_of(kind: Kind, projector: Any, start: str, dtype: str) -> Array:
    random = np.random.default_rng(3)
    w = random.standard_normal((ROWS, WIDTH))
    if kind.curved or start == "near":
        placed = projector.project({"w": jnp.asarray(w)})["w"]
        w = np.asarray(placed) + (0.3 if kind.curved else 1.0) * STARTS[start] * random.standard_normal(w.shape)
    return jnp.asarray(w, dtype)


@each
def test_projections_are_the_nearest_points(kind: Kind, dtype: str, start: str) -> None:
    """In the weights' dtype; the certificate is computed in float64."""
    with x64():
        plan = affinet.plan(kind.rules(affinet.weights({"w": np.zeros((ROWS, WIDTH))}).w))
        projector = plan.projector({"w": jnp.zeros((ROWS, WIDTH))})
        w = start_of(kind, projector, start, dtype)
        p = jax.jit(projector.project)({"w": w})["w"]
        assert p.dtype == w.dtype
        spacing = float(jnp.finfo(dtype).eps)
        w, p = (jnp.asarray(x, jnp.float64) for x in (w, p))
        residuals = [np.asarray(residual(p)) for residual in (kind.equal, kind.below)]
        rows = [np.asarray(jax.jacobian(residual)(p)).reshape(-1, p.size) for residual in (kind.equal, kind.below)]
        levels = [np.abs(np.asarray(residual(jnp.zeros_like(p)))) for residual in (kind.equal, kind.below)]
    point = np.asarray(p).ravel()
    sizes = [
        np.abs(each) @ np.abs(point) + np.nan_to_num(level) + np.linalg.norm(each, axis=1) * np.linalg.norm(point)
        for each, level in zip(rows, levels, strict=True)
    ]
    assert (np.abs(residuals[0]) <= PROMISED * spacing * sizes[0]).all()
    assert (residuals[1] <= PROMISED * spacing * sizes[1]).all()
    active = rows[1][residuals[1] >= -PROMISED * spacing * sizes[1]]
    move = np.asarray(w).ravel() - point
    assert_is_normal(move, rows[0], active, point, spacing, kind.curvature * float(move @ move))


def assert_is_normal(
    move: np.ndarray, equal: np.ndarray, active: np.ndarray, point: np.ndarray, spacing: float, turned: float
) -> None:
    """The move is `equalᵀ ν + activeᵀ μ` with μ ≥ 0, to the rounding of a projection by these rows.

    Normals along a curved way are `turned` by the curvature times the way, relative to their own length.
    """
    normals = np.concatenate([equal, -equal, active])
    sizes = np.linalg.norm(normals, axis=1)
    normals = normals[sizes > 0.0] / sizes[sizes > 0.0, None]
    if not len(normals):
        assert not move.any()
        return
    left = nnls(normals.T, move, maxiter=100 * len(normals))[1]
    singular = np.linalg.svd(np.concatenate([equal, active]), compute_uv=False)
    condition = singular[0] / singular[singular > 1e-9 * singular[0]][-1]
    allowed = condition * of_projection(len(normals), len(point), spacing, condition=condition)
    rounding = spacing * allowed * (np.linalg.norm(point) + np.linalg.norm(point + move))
    assert left <= rounding + turned / sizes[sizes > 0.0].min()
