"""Write the solutions of linear equations as a point and a basis: `w = point + basis @ v` for any v."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from affinet.errors import ShapeError
from affinet.language.calculus.terms import Floats
from affinet.language.forecast import forecast, limited
from affinet.planning.elimination.components import Batch, split
from affinet.system import lapack
from affinet.system.norms import norms_of_rows
from affinet.system.rows import Rows
from affinet.system.system import System
from affinet.system.tolerance import Tolerance

WAY_OUT = "Reduce smaller equations, or use affinet.project, which needs no basis."
MOST_BYTES = 2**31
NUMBER_BYTES = 40
"""Memory of one number of the basis while it is made: the decomposition, its copy, and its place."""


@dataclass(frozen=True, eq=False)
class NullSpace:
    """The solutions `point + basis @ v` of equations; `point` (entries,) is the solution nearest to 0.

    The columns of `basis` (entries, free), a sparse array, are orthonormal and orthogonal to `point`.
    """

    point: Floats
    basis: sparse.csr_array

    @property
    def free(self) -> int:
        """The number of free numbers v."""
        return int(self.basis.shape[1])

    def from_free(self, v: Floats) -> Floats:
        """The entries `point + basis @ v`. Raises ShapeError for a vector of another length."""
        return np.asarray(self.point + self.basis @ _of_length(self.free, v, "from_free", "free numbers"))

    def to_free(self, w: Floats) -> Floats:
        """The v whose entries are nearest to w; for solutions `from_free(to_free(w))` is w, to rounding.

        Raises ShapeError for a vector of another length.
        """
        return np.asarray(self.basis.T @ (_of_length(len(self.point), w, "to_free", "entries") - self.point))


def _of_length(length: int, vector: Floats, verb: str, numbers: str) -> Floats:
    shape = np.shape(vector)
    if shape != (length,):
        raise ShapeError(f"{verb} takes a vector of {length} {numbers}, of shape ({length},); this has shape {shape}.")
    return vector


def null_space(rows: Rows, width: int, system: System) -> NullSpace:
    """The solutions of equations over `width` entries, which are known to have some.

    Source: singular value decomposition of each connected component (Golub & Van Loan, 4th ed., 5.5). Raises
    TooLargeError where the components or the basis would take more than MOST_BYTES.
    """
    point, count, touched = np.zeros(width), 0, np.zeros(width, bool)
    places, values = [np.zeros((2, 0), np.int64)], [np.zeros(0)]
    for component in _components(rows, system):
        nodes = component.nodes
        touched[nodes] = True
        point[nodes], vectors, is_free = _solutions(component.matrix, component.rhs, system.tolerance)
        columns = count + np.cumsum(is_free.ravel()).reshape(is_free.shape) - 1
        count += int(is_free.sum())
        chosen = is_free[..., None] & (vectors != 0.0)
        entries = np.broadcast_to(nodes[:, None, :], vectors.shape)[chosen]
        places.append(np.stack([entries, np.broadcast_to(columns[..., None], vectors.shape)[chosen]]))
        values.append(vectors[chosen])
    untouched = np.flatnonzero(~touched)
    places.append(np.stack([untouched, count + np.arange(len(untouched))]))
    values.append(np.ones(len(untouched)))
    row, column = np.concatenate(places, axis=1)
    basis = sparse.coo_array((np.concatenate(values), (row, column)), shape=(width, count + len(untouched)))
    return NullSpace(point, sparse.csr_array(basis))


def _components(rows: Rows, system: System) -> Sequence[Batch]:
    """Connected components, those with equally many equations and entries in one batch. Raises TooLargeError."""
    limits = replace(system.limits, dense_rows=rows.count, dense_numbers=rows.count * system.layout.size)
    with limited(0, WAY_OUT, limit=MOST_BYTES):
        batches = split(rows, rows.magnitude, limits, [rule.name for rule in system.every])
        components = [component for component in batches if isinstance(component, Batch)]
        assert len(components) == len(batches), "within these limits each component is dense"
        numbers = sum(batch.nodes.shape[0] * batch.nodes.shape[1] ** 2 for batch in components)
        forecast("the basis of the solutions", numbers, item_bytes=NUMBER_BYTES)
    return components


def _solutions(matrix: Floats, rhs: Floats, tolerance: Tolerance) -> tuple[Floats, Floats, np.ndarray]:
    """The smallest solutions (k, n), orthonormal rows (k, n, n), and which of them (k, n) the equations leave free."""
    norms = norms_of_rows(matrix)
    matrix, rhs = matrix / norms[..., None], rhs / norms
    left_vectors, values, vectors = lapack.svd(matrix)
    k, r, n = matrix.shape
    counts = values > tolerance.rank(r, n) * values[:, :1]
    shares = np.einsum("krq,kr->kq", left_vectors[..., : values.shape[1]], rhs)
    coordinates = np.where(counts, shares / np.where(counts, values, 1.0), 0.0)
    point = np.einsum("kq,kqn->kn", coordinates, vectors[:, : values.shape[1]])
    is_free = np.ones((k, n), bool)
    is_free[:, : values.shape[1]] = ~counts
    return point, vectors, is_free
