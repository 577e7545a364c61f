"""Random polyhedra, and independent answers about them: quadprog, and SciPy's nonnegative least squares."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import quadprog
from scipy import sparse
from scipy.optimize import nnls

from affinet.blocks.polyhedral_set import PolyhedralSet


class Polyhedron(NamedTuple):
    """`matrix x = rhs` in the first rows, `≤` in the others, `lower ≤ x ≤ upper`; `inside` is a point of it."""

    matrix: np.ndarray
    rhs: np.ndarray
    equations: int
    lower: np.ndarray
    upper: np.ndarray
    inside: np.ndarray

    def as_set(self, solver: str = "small") -> PolyhedralSet:
        """With one of the `SOLVERS`: that of small cells, or that of large ones on dense or sparse rows."""
        matrix = sparse.csr_array(self.matrix) if solver == "sparse" else self.matrix[None]
        most = 512 if solver == "small" else -1
        return PolyhedralSet(matrix, self.rhs[None], self.equations, self.lower[None], self.upper[None], most)

    def normals(self) -> tuple[np.ndarray, np.ndarray]:
        """All inequalities as `normals x ≤ limits`, each equation as two of them, scaled to norm one."""
        n, k = len(self.lower), self.equations
        low, high = np.isfinite(self.lower), np.isfinite(self.upper)
        normals = np.concatenate([self.matrix[:k], -self.matrix[:k], self.matrix[k:], -np.eye(n)[low], np.eye(n)[high]])
        limits = [self.rhs[:k], -self.rhs[:k], self.rhs[k:], -self.lower[low], self.upper[high]]
        norms = np.linalg.norm(normals, axis=1)
        return normals / norms[:, None], np.concatenate(limits) / norms

    def violation(self, x: np.ndarray) -> float:
        """The largest gap of a constraint of norm one, relative to the size of its terms."""
        normals, limits = self.normals()
        sizes = np.abs(normals) @ np.abs(x) + np.abs(limits) + 1.0
        return float(((normals @ x - limits) / sizes).max(initial=0.0))

    def active(self, x: np.ndarray, slack: float) -> np.ndarray:
        """The normals of the constraints with at most this slack at x, relative to its size."""
        normals, limits = self.normals()
        return normals[limits - normals @ x <= slack * (1.0 + np.linalg.norm(x) + np.abs(limits))]


def distance_from_cone(normals: np.ndarray, v: np.ndarray) -> float:
    """How far v is from the cone of some normals."""
    return float(nnls(normals.T, v, maxiter=50 * (len(normals) + 1))[1]) if len(normals) else float(np.linalg.norm(v))


def nearest_in_cone(normals: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The nearest vector to v in the cone of some normals."""
    if not len(normals):
        return np.zeros(len(v))
    return np.asarray(normals.T @ nnls(normals.T, v, maxiter=50 * (len(normals) + 1))[0])


def nearest_by_quadprog(body: Polyhedron, v: np.ndarray, metric: np.ndarray) -> np.ndarray | None:
    """The nearest point of the polyhedron; None where quadprog fails, as it does at many degenerate vertices."""
    normals, limits = body.normals()
    k = body.equations
    order = np.delete(np.arange(len(limits)), np.arange(k, 2 * k))
    columns = -normals[order].T / np.sqrt(metric)[:, None]
    norms = np.linalg.norm(columns, axis=0)
    if not len(order):
        return v.copy()
    try:
        scaled = np.ascontiguousarray(columns / norms)
        y = quadprog.solve_qp(np.eye(len(v)), v * np.sqrt(metric), scaled, -limits[order] / norms, k)[0]
    except ValueError:
        return None
    return np.asarray(y / np.sqrt(metric))


def random_polyhedron(dice: np.random.Generator, kind: str) -> Polyhedron:
    """A polyhedron of up to 16 entries, of one of the `KINDS`."""
    if kind == "transport":
        return _transport(dice)
    n = int(dice.integers(1, 17))
    equations = int(dice.integers(0, min(n, 4)))
    m = equations + int(dice.integers(0, 25))
    matrix = dice.standard_normal((m, n)) * (dice.random((m, n)) < dice.choice([0.3, 1.0]))
    matrix[np.abs(matrix).sum(axis=1) == 0.0, 0] = 1.0
    inside = dice.standard_normal(n)
    gaps = np.where(dice.random(m) < (0.6 if kind == "degenerate" else 0.0), 0.0, dice.exponential(size=m))
    if kind == "simplex":
        matrix[: equations + 1], inside = 1.0, np.abs(inside)
    if kind == "redundant" and m > equations + 2:
        # A sum of two others, and one that is implied with room.
        matrix[-1] = matrix[-2] + matrix[equations]
    if kind in ("duplicated", "nearly") and m > equations + 2:
        copies = dice.integers(0, m, m // 2)
        matrix[m - len(copies) :] = matrix[copies] * dice.choice([1.0, 3.0], (len(copies), 1))
        if kind == "nearly":
            matrix[m - len(copies) :] += 1e-10 * dice.standard_normal((len(copies), n))
    gaps[:equations] = 0.0
    if kind == "scaled":
        scale = 10.0 ** dice.uniform(-6, 6, (m, 1))
        matrix, gaps = matrix * scale, gaps * scale[:, 0]
    rhs = matrix @ inside + gaps
    near, far = (dice.random(n) * (dice.random(n) < 0.7) for _ in range(2))
    lower = np.where(dice.random(n) < 0.5, inside - near, -np.inf)
    upper = np.where(dice.random(n) < 0.5, inside + far, np.inf)
    if kind == "simplex":
        lower, upper = np.zeros(n), np.full(n, np.inf)
    return Polyhedron(matrix, rhs, equations, lower, upper, inside)


def _transport(dice: np.random.Generator) -> Polyhedron:
    """Rows and columns of a table with given sums, w ≥ 0: one equation follows from the others."""
    a, b = (int(size) for size in dice.integers(1, 5, 2))
    table = np.abs(dice.standard_normal((a, b))) * (dice.random((a, b)) < 0.8)
    rows = [np.kron(np.eye(a), np.ones((1, b))), np.kron(np.ones((1, a)), np.eye(b))]
    matrix = np.concatenate(rows)
    n = a * b
    return Polyhedron(matrix, matrix @ table.ravel(), a + b, np.zeros(n), np.full(n, np.inf), table.ravel())


KINDS = ("plain", "degenerate", "duplicated", "redundant", "nearly", "scaled", "simplex", "transport")
SOLVERS = ("small", "large", "sparse")
