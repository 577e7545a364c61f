"""Equations that share entries, as they were said, with their singular values: which rules say what together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from affinet.language.terms import Floats, Integers
from affinet.structure.elimination.components import Batch
from affinet.system.distinct import distinct
from affinet.system.rows import Rows
from affinet.system.tolerance import Tolerance


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
    norms = np.linalg.norm(batch.matrix, axis=2)
    matrix, rhs = batch.matrix / norms[:, :, None], batch.rhs / norms
    u, sizes, vt = np.linalg.svd(matrix, full_matrices=False)
    ranks = (sizes > tolerance.rank(*matrix.shape[1:]) * sizes[:, :1]).sum(axis=1)
    return [
        Component(nodes, matrix[k], rhs[k], used.rule[rows], used.index[rows], u[k], sizes[k], vt[k], int(ranks[k]))
        for k, (nodes, rows) in enumerate(zip(batch.nodes, batch.rows, strict=True))
    ]
