"""Equations that share entries, as they were said, with their singular values: which rules say what together."""

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
"""Largest number of a column below which it is not scaled up wholly: its inverse would overflow."""


@dataclass(frozen=True, eq=False)
class Component:
    """Equations that share entries, `matrix @ w[columns] == rhs`, every row divided by its norm.

    `rule` and `index` (rows,) lead back to the user. `matrix = u · diag(sizes) · vt`, `rank` of the sizes count.
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

    def saying(self, combination: Floats) -> tuple[int, ...]:
        """The rules of the equations that add up to a combination of entries in their row space."""
        along = self.u[:, : self.rank] @ ((self.basis @ combination) / self.sizes[: self.rank])
        used = np.abs(along) > 1e-7 * np.abs(along).max(initial=0.0)
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
    """The component with `extra` more singular values counted, those that the factorisation loses in its rounding.

    A matrix of columns of very different size has small singular values that float64 cannot see beside the large ones,
    and that are well determined (Demmel et al., Linear Algebra Appl. 299, 1999). Its pseudoinverse is found from
    the matrix with all columns and rows scaled alike; there they are the largest, `1 / size`. Where that is
    beyond float64 too, they are counted as the factorisation left them.
    """
    rank = component.rank + extra
    rows, scaled, columns = _scaled(component.matrix)
    u, sizes, vt = lapack.svd(scaled)
    free = _free(scaled, columns, rank)
    as_left = replace(component, sizes=np.maximum(component.sizes, SMALLEST), rank=rank)
    if free is None:
        return as_left
    said = lapack.batched_qr(u[:, :rank] / rows[:, None])[0]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        inverse = columns[:, None] * (vt[:rank].T / sizes[:rank]) @ u[:, :rank].T * rows
        inverse = inverse - free @ (free.T @ inverse)
    if not np.isfinite(inverse).all():
        return as_left
    left, large, right = lapack.svd(inverse @ said @ said.T, full_matrices=False)
    u, sizes, vt = component.u.copy(), component.sizes.copy(), component.vt.copy()
    more, new = slice(component.rank, rank), slice(extra - 1, None, -1)
    u[:, more], sizes[more], vt[more] = right[new].T, 1.0 / large[new], left[:, new].T
    return replace(component, u=u, sizes=sizes, vt=vt, rank=rank)


def _free(scaled: Floats, columns: Floats, rank: int) -> Floats | None:
    """Orthonormal directions that the matrix `scaled / columns` does not see, None where it has not so many rows.

    Each is found by elimination, as one entry and those that follow it, so that none drowns in a larger one.
    """
    _, r, order = lapack.qr(scaled, mode="economic", pivoting=True)
    if not np.diag(r)[:rank].all():
        return None
    tied = lapack.solve_triangular(r[:rank, :rank], r[:rank, rank:])
    free = np.zeros((len(columns), len(columns) - rank))
    free[order[:rank]], free[order[rank:]] = -np.where(np.abs(tied) > 1e-13, tied, 0.0), np.eye(len(columns) - rank)
    free *= columns[:, None]
    found: Floats = lapack.batched_qr(free / np.abs(free).max(axis=0))[0]
    return found


def uncounted(component: Component) -> Floats:
    """Sizes, where all rows and columns are scaled alike, of the singular values that do not count."""
    sizes = lapack.singular_values(_scaled(component.matrix)[1])
    lost: Floats = sizes[component.rank :] / sizes[0]
    return lost


def _scaled(matrix: Floats) -> tuple[Floats, Floats, Floats]:
    """`rows, scaled, columns` with `scaled = diag(rows) · matrix · diag(columns)`: no row or column of it is small."""
    rows, columns = np.ones(matrix.shape[0]), np.ones(matrix.shape[1])
    scaled = matrix
    for _ in range(3):
        columns = columns / np.maximum(np.abs(scaled).max(axis=0), SMALLEST)
        scaled = rows[:, None] * matrix * columns
        rows = rows / np.maximum(np.abs(scaled).max(axis=1), SMALLEST)
        scaled = rows[:, None] * matrix * columns
    return rows, scaled, columns
