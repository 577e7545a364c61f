"""A component that holds equations sharing entries and their singular values, to trace consequences to rules."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.elimination.components import Batch
from affinet.system import lapack
from affinet.system.distinct import distinct
from affinet.system.norms import norms_of_rows
from affinet.system.rows import Rows
from affinet.system.tolerance import Tolerance

SMALLEST = 1e-100
"""A column whose largest number is below this is not scaled up to one: the factor would overflow."""


@dataclass(frozen=True, eq=False)
class Component:
    """Equations that share entries, `matrix @ w[columns] == rhs`, every row divided by its norm.

    `rule` and `index` (rows,) are the rule of each row and its number there. `matrix = u · diag(sizes) · vt`; the first
    `rank` sizes count as nonzero.
    """

    columns: Integers
    matrix: Floats
    rhs: Floats
    rule: Integers
    index: Integers
    u: Floats
    sizes: Floats
    vt: Floats
    rank: int

    @property
    def basis(self) -> Floats:
        """Orthonormal rows that span the equations."""
        return self.vt[: self.rank]

    @property
    def rules(self) -> tuple[int, ...]:
        return tuple(int(rule) for rule in distinct(self.rule))

    def rules_behind(self, combination: Floats) -> tuple[int, ...]:
        """The rules of the equations that add up to a combination of entries in their row space."""
        coefficients = self.u[:, : self.rank] @ ((self.basis @ combination) / self.sizes[: self.rank])
        used = np.abs(coefficients) > 1e-7 * np.abs(coefficients).max(initial=0.0)
        return tuple(int(rule) for rule in distinct(self.rule[used]))


def factored(batch: Batch, used: Rows, tolerance: Tolerance) -> list[Component]:
    """The components of a batch that `split(used)` made."""
    norms = norms_of_rows(batch.matrix)
    matrix, rhs = batch.matrix / norms[:, :, None], batch.rhs / norms
    u, sizes, vt = lapack.svd(matrix, full_matrices=False)
    ranks = (sizes > tolerance.rank(*matrix.shape[1:]) * sizes[:, :1]).sum(axis=1)
    return [
        Component(nodes, matrix[k], rhs[k], used.rule[rows], used.index[rows], u[k], sizes[k], vt[k], int(ranks[k]))
        for k, (nodes, rows) in enumerate(zip(batch.nodes, batch.rows, strict=True))
    ]


def deepened(component: Component, extra: int) -> Component:
    """The component with `extra` more singular values counted, which the factorisation lost in its rounding.

    A matrix with columns of very different size has small singular values that float64 cannot resolve next to the large
    ones, though they are well determined (Demmel et al., Linear Algebra Appl. 299, 1999). Its pseudoinverse is computed
    from the matrix with all columns and rows scaled alike; there they are the largest, `1 / size`. If that is beyond
    float64 too, they are counted with the values of the first factorisation.
    """
    rank = component.rank + extra
    rows, scaled, columns = _scale(component.matrix)
    u, sizes, vt = lapack.svd(scaled)
    free = _null_directions(scaled, columns, rank)
    unrefined = replace(component, sizes=np.maximum(component.sizes, SMALLEST), rank=rank)
    if free is None:
        return unrefined
    row_space = lapack.batched_qr(u[:, :rank] / rows[:, None])[0]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        inverse = columns[:, None] * (vt[:rank].T / sizes[:rank]) @ u[:, :rank].T * rows
        inverse = inverse - free @ (free.T @ inverse)
    if not np.isfinite(inverse).all():
        return unrefined
    input_vectors, large, output_vectors = lapack.svd(inverse @ row_space @ row_space.T, full_matrices=False)
    u, sizes, vt = component.u.copy(), component.sizes.copy(), component.vt.copy()
    more, new = slice(component.rank, rank), slice(extra - 1, None, -1)
    u[:, more], sizes[more], vt[more] = output_vectors[new].T, 1.0 / large[new], input_vectors[:, new].T
    return replace(component, u=u, sizes=sizes, vt=vt, rank=rank)


def _null_directions(scaled: Floats, columns: Floats, rank: int) -> Floats | None:
    """Orthonormal directions that the matrix `scaled / columns` maps to zero; None if its rank is less than `rank`.

    Elimination yields each as one free entry and those that depend on it, so that small entries are not lost.
    """
    _, r, order = lapack.qr(scaled, mode="economic", pivoting=True)
    if not np.diag(r)[:rank].all():
        return None
    tied = lapack.solve_triangular(r[:rank, :rank], r[:rank, rank:])
    free = np.zeros((len(columns), len(columns) - rank))
    free[order[:rank]], free[order[rank:]] = -np.where(np.abs(tied) > 1e-13, tied, 0.0), np.eye(len(columns) - rank)
    free *= columns[:, None]
    directions: Floats = lapack.batched_qr(free / np.abs(free).max(axis=0))[0]
    return directions


def uncounted(component: Component) -> Floats:
    """The singular values beyond the rank, relative to the largest, with all rows and columns scaled alike."""
    sizes = lapack.singular_values(_scale(component.matrix)[1])
    lost: Floats = sizes[component.rank :] / sizes[0]
    return lost


def _scale(matrix: Floats) -> tuple[Floats, Floats, Floats]:
    """`rows, scaled, columns` with `scaled = diag(rows) · matrix · diag(columns)`, which has no small row or column."""
    rows, columns = np.ones(matrix.shape[0]), np.ones(matrix.shape[1])
    scaled = matrix
    for _ in range(3):
        columns = columns / np.maximum(np.abs(scaled).max(axis=0), SMALLEST)
        scaled = rows[:, None] * matrix * columns
        rows = rows / np.maximum(np.abs(scaled).max(axis=1), SMALLEST)
        scaled = rows[:, None] * matrix * columns
    return rows, scaled, columns
