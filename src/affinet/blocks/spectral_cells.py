"""Convex sets of matrices given by their spectra: singular values at most a bound, and positive semidefinite matrices.

Their faces are curved: a face is where some singular values are at the bound, or some eigenvalues zero, and the vectors
that belong to them turn along it. As on a ball, a step in the tangent plane leaves the face to the second order in its
length, `onto` brings it back, and the multiplier, a matrix over these vectors, is carried to the new ones. At rest
nothing moves, so that the matrix satisfies the KKT conditions exactly.

The verbs run on the host, in NumPy and float64: how many values are at the bound differs from matrix to matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from affinet.blocks.namespace import Array, Namespace
from affinet.language.calculus.terms import Floats, Integers
from affinet.system import lapack

NEGLIGIBLE = 1e-12
"""Multipliers up to this share of the largest of the matrix are zero."""


class SpectralFace(NamedTuple):
    """The vectors whose values are at the bound, padded with zeros: (cells, r · rows) and (cells, r · columns).

    For positive semidefinite matrices both are the eigenvectors of zero.
    """

    left: Array
    right: Array


class Vectors(NamedTuple):
    """Orthonormal columns (rows, k) and (columns, k) of one matrix."""

    left: Floats
    right: Floats


class Landed(NamedTuple):
    """A point, its normal vector, and the vectors of its multipliers."""

    point: Floats
    normal: Floats
    face: Vectors


@dataclass(frozen=True, eq=False)
class SpectralBall:
    """Matrices whose singular values are at most `bound` > 0."""

    bound: float

    def project(self, x: Floats) -> tuple[Floats, Vectors]:
        p, s, q = _svd(x)
        above = s > self.bound
        return (p * np.minimum(s, self.bound)) @ q.T if above.any() else x, Vectors(p[:, above], q[:, above])

    def clipped(self, x: Floats) -> Floats:
        return x

    def beyond(self, x: Floats) -> float:
        return float(lapack.singular_values(x).max(initial=0.0)) - self.bound

    def onto(self, x: Floats, face: Vectors) -> Floats:
        if not face.left.shape[1]:
            return x
        p, s, q, on, _ = self._parted(x, face)
        s = np.where(on, self.bound, s)
        return np.asarray((p * s) @ q.T)

    def tangent(self, x: Floats, face: Vectors) -> Floats:
        return x - face.left @ _symmetric(face.left.T @ x @ face.right) @ face.right.T

    def land(self, z: Floats, y: Floats, tau: float, face: Vectors, u: float) -> Landed:
        p, s, q, on, outside = self._parted(z, face)
        turned = _aligned(p[:, on].T @ face.left + q[:, on].T @ face.right)
        factors = _symmetric(turned @ _symmetric(face.left.T @ y @ face.right) @ turned.T)
        e, r = lapack.eigh(factors)
        beyond = s[outside] - self.bound
        beyond[np.abs(beyond) <= u * (np.linalg.norm(z) + self.bound)] = 0.0
        left = np.concatenate([p[:, on] @ r, p[:, outside]], axis=1)
        right = np.concatenate([q[:, on] @ r, q[:, outside]], axis=1)
        inside = np.clip(self.bound + tau * e, 0.0, self.bound)
        values = np.concatenate([inside, np.where(beyond >= 0.0, self.bound, s[outside])])
        multipliers = np.concatenate([np.maximum(e, 0.0), np.maximum(beyond, 0.0) / tau])
        return _landed((left * values) @ right.T, left, right, multipliers)

    def normal(self, w: Floats, v: Floats, face: Vectors, u: float) -> tuple[Floats, Vectors]:
        p, s, q, on, _ = self._parted(w, face)
        at = on | (np.abs(s - self.bound) <= u * (np.linalg.norm(w) + self.bound))
        e, r = lapack.eigh(_symmetric(p[:, at].T @ v @ q[:, at]))
        landed = _landed(w, p[:, at] @ r, q[:, at] @ r, np.maximum(e, 0.0))
        return landed.normal, landed.face

    def _parted(self, x: Floats, face: Vectors) -> tuple[Floats, Floats, Floats, np.ndarray, np.ndarray]:
        """The singular vectors and values, and which of them are nearest to those of a face, and which are not."""
        p, s, q = _svd(x)
        overlap = np.square(face.left.T @ p).sum(axis=0) + np.square(face.right.T @ q).sum(axis=0)
        on = np.zeros(len(s), bool)
        on[np.argsort(-overlap, kind="stable")[: face.left.shape[1]]] = True
        return p, s, q, on, ~on


@dataclass(frozen=True, eq=False)
class PositiveCone:
    """Symmetric matrices whose eigenvalues are not negative."""

    def project(self, x: Floats) -> tuple[Floats, Vectors]:
        x = _symmetric(x)
        e, q = lapack.eigh(x)
        below = e < 0.0
        face = q[:, below]
        return _symmetric((q * np.maximum(e, 0.0)) @ q.T) if below.any() else x, Vectors(face, face)

    def clipped(self, x: Floats) -> Floats:
        return _symmetric(x)

    def beyond(self, x: Floats) -> float:
        skew = float(np.abs(x - x.T).max(initial=0.0))
        return max(skew, -float(lapack.eigh(_symmetric(x))[0].min(initial=0.0)))

    def onto(self, x: Floats, face: Vectors) -> Floats:
        e, q, on = self._parted(x, face)
        return _symmetric((q * np.where(on, 0.0, e)) @ q.T)

    def tangent(self, x: Floats, face: Vectors) -> Floats:
        x, v = _symmetric(x), face.left
        return x - _symmetric(v @ (v.T @ x @ v) @ v.T)

    def land(self, z: Floats, y: Floats, tau: float, face: Vectors, u: float) -> Landed:
        e, q, on = self._parted(z, face)
        turned, even = _aligned(q[:, on].T @ face.left), _symmetric(y)
        factors, r = lapack.eigh(_symmetric(turned @ (face.left.T @ even @ face.left) @ turned.T))
        other = np.where(np.abs(e[~on]) <= u * np.linalg.norm(z), 0.0, e[~on])
        vectors = np.concatenate([q[:, on] @ r, q[:, ~on]], axis=1)
        values = np.concatenate([tau * np.maximum(factors, 0.0), np.maximum(other, 0.0)])
        multipliers = np.concatenate([np.minimum(factors, 0.0), np.minimum(other, 0.0) / tau])
        landed = _landed(_symmetric((vectors * values) @ vectors.T), vectors, vectors, multipliers)
        return landed._replace(normal=_symmetric(landed.normal) + (y - even))

    def normal(self, w: Floats, v: Floats, face: Vectors, u: float) -> tuple[Floats, Vectors]:
        e, q, on = self._parted(w, face)
        even, zero = _symmetric(v), on | (np.abs(e) <= u * np.linalg.norm(w))
        factors, r = lapack.eigh(_symmetric(q[:, zero].T @ even @ q[:, zero]))
        landed = _landed(w, q[:, zero] @ r, q[:, zero] @ r, np.minimum(factors, 0.0))
        return _symmetric(landed.normal) + (v - even), landed.face

    def _parted(self, x: Floats, face: Vectors) -> tuple[Floats, Floats, np.ndarray]:
        """The eigenvalues and vectors, and which of them are nearest to those of a face."""
        e, q = lapack.eigh(_symmetric(x))
        on = np.zeros(len(e), bool)
        overlap = np.square(face.left.T @ q).sum(axis=0)
        on[np.argsort(-overlap, kind="stable")[: face.left.shape[1]]] = True
        return e, q, on


@dataclass(frozen=True, eq=False)
class SpectralCells:
    """Matrices, each one of a row of an array (cells, rows · columns), in a set of their own."""

    shape: tuple[int, int]
    rows: int
    columns: int
    sets: tuple[SpectralBall | PositiveCone, ...]

    def norm(self, xp: Namespace, x: Array) -> Array:
        return xp.sum(x * x, (1,)) ** 0.5

    def only(self, cells: Integers) -> None:
        """None: how many numbers a face has depends on all cells."""

    def count(self) -> int:
        return self.shape[1]

    @property
    def rounds_tangents(self) -> bool:
        return True

    def bounds(self) -> tuple[Floats, Floats]:
        far = np.array([[each.bound if isinstance(each, SpectralBall) else np.inf] for each in self.sets])
        return -far, far

    def choose(self, xp: Namespace, condition: Array, first: SpectralFace, second: SpectralFace) -> SpectralFace:
        return SpectralFace(
            xp.where(condition, first.left, second.left), xp.where(condition, first.right, second.right)
        )

    def nearest(
        self, xp: Namespace, x: Array, metric: Array | None = None, guess: SpectralFace | None = None
    ) -> tuple[Array, SpectralFace]:
        """No metric is used, which `affinet.project` refuses."""
        results = [each.project(matrix) for each, matrix in zip(self.sets, self._matrices(xp, x), strict=True)]
        return self._array(xp, [point for point, _ in results], x), self._face(xp, [face for _, face in results], x)

    def marks(self, xp: Namespace, face: SpectralFace) -> tuple[Array, ...]:
        """How many values are at the bound: the vectors turn along a face."""
        return (xp.sum(face.left * face.left, (1,)) + 0.5 - (xp.sum(face.left * face.left, (1,)) + 0.5) % 1.0,)

    def clipped(self, xp: Namespace, x: Array) -> Array:
        if all(isinstance(each, SpectralBall) for each in self.sets):
            return x
        moved = [each.clipped(matrix) for each, matrix in zip(self.sets, self._matrices(xp, x), strict=True)]
        return self._array(xp, moved, x)

    def satisfies(self, xp: Namespace, x: Array, u: float) -> Array:
        satisfied = []
        for each, matrix in zip(self.sets, self._matrices(xp, x), strict=True):
            size = np.linalg.norm(matrix) + (each.bound if isinstance(each, SpectralBall) else 0.0)
            satisfied.append(bool(np.isfinite(size)) and each.beyond(matrix) <= u * size)
        return xp.array(np.array(satisfied, np.float64)[:, None], x) > 0.0

    def onto(self, xp: Namespace, x: Array, face: SpectralFace) -> Array:
        triples = zip(self.sets, self._matrices(xp, x), self._vectors(xp, face), strict=True)
        return self._array(xp, [_if_finite(each.onto, matrix, vectors) for each, matrix, vectors in triples], x)

    def tangent_part(self, xp: Namespace, x: Array, face: SpectralFace) -> Array:
        triples = zip(self.sets, self._matrices(xp, x), self._vectors(xp, face), strict=True)
        return self._array(xp, [each.tangent(matrix, vectors) for each, matrix, vectors in triples], x)

    def land(
        self, xp: Namespace, z: Array, y: Array, tau: Array, face: SpectralFace, u: float
    ) -> tuple[Array, Array, SpectralFace]:
        """As the protocol says, for the y that has the factors of the given one over the vectors of z."""
        parts = zip(
            self.sets,
            self._matrices(xp, z),
            self._matrices(xp, y),
            xp.host(tau).ravel().tolist(),
            self._vectors(xp, face),
            strict=True,
        )
        landed = [
            each.land(at, vector, step, vectors, u)
            if np.isfinite(at).all() and np.isfinite(vector).all()
            else Landed(at, vector, vectors)
            for each, at, vector, step, vectors in parts
        ]
        points, normals = [end.point for end in landed], [end.normal for end in landed]
        return self._array(xp, points, z), self._array(xp, normals, z), self._face(xp, [end.face for end in landed], z)

    def normal(
        self, xp: Namespace, w: Array, v: Array, face: SpectralFace | None, u: float
    ) -> tuple[Array, SpectralFace]:
        none = Vectors(np.zeros((self.rows, 0)), np.zeros((self.columns, 0)))
        vectors = [none] * len(self.sets) if face is None else self._vectors(xp, face)
        parts = zip(self.sets, self._matrices(xp, w), self._matrices(xp, v), vectors, strict=True)
        results = [
            each.normal(at, vector, known, u) if np.isfinite(at).all() else (0.0 * vector, none)
            for each, at, vector, known in parts
        ]
        return self._array(xp, [part for part, _ in results], v), self._face(xp, [part for _, part in results], w)

    def _matrices(self, xp: Namespace, x: Array) -> Floats:
        return np.asarray(xp.host(x), np.float64).reshape(-1, self.rows, self.columns)

    def _array(self, xp: Namespace, matrices: list[Floats], like: Array) -> Array:
        return xp.array(np.stack(matrices).reshape(self.shape), like)

    def _vectors(self, xp: Namespace, face: SpectralFace) -> list[Vectors]:
        most = min(self.rows, self.columns)
        left = np.asarray(xp.host(face.left), np.float64).reshape(-1, most, self.rows)
        right = np.asarray(xp.host(face.right), np.float64).reshape(-1, most, self.columns)
        return [Vectors(a[a.any(axis=1)].T, b[a.any(axis=1)].T) for a, b in zip(left, right, strict=True)]

    def _face(self, xp: Namespace, faces: list[Vectors], like: Array) -> SpectralFace:
        most = min(self.rows, self.columns)
        left, right = np.zeros((len(faces), most, self.rows)), np.zeros((len(faces), most, self.columns))
        for k, face in enumerate(faces):
            left[k, : face.left.shape[1]], right[k, : face.right.shape[1]] = face.left.T, face.right.T
        cells = len(faces)
        return SpectralFace(xp.array(left.reshape(cells, -1), like), xp.array(right.reshape(cells, -1), like))


def _landed(point: Floats, left: Floats, right: Floats, multipliers: Floats) -> Landed:
    sizes = np.abs(multipliers)
    used = sizes > NEGLIGIBLE * sizes.max(initial=0.0)
    return Landed(point, (left * multipliers) @ right.T, Vectors(left[:, used], right[:, used]))


def _if_finite(verb: Callable[[Floats, Vectors], Floats], matrix: Floats, vectors: Vectors) -> Floats:
    return verb(matrix, vectors) if np.isfinite(matrix).all() else matrix


def _symmetric(x: Floats) -> Floats:
    return np.asarray(0.5 * (x + x.T))


def _aligned(x: Floats) -> Floats:
    """The orthogonal matrix nearest to x."""
    u, _, v = lapack.svd(x, full_matrices=False)
    return np.asarray(u @ v)


def _svd(x: Floats) -> tuple[Floats, Floats, Floats]:
    """`p`, `s`, `q` of `x = p diag(s) qᵀ`."""
    p, s, v = lapack.svd(x, full_matrices=False)
    return p, s, v.T
