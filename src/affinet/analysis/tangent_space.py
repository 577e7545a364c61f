"""Compute the space of directions that rows leave free at a point, their singular values, and their rank there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from affinet.analysis.multipliers import solve_least_squares
from affinet.blocks.curved_set import RANK
from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.elimination.components import Batch, Giant, split
from affinet.system import lapack
from affinet.system.limits import Limits
from affinet.system.rows import Rows
from affinet.system.tolerance import Tolerance


@dataclass(frozen=True, eq=False)
class TangentSpace:
    """The vectors over `size` entries that are orthogonal to rows.

    `cells` are the entries (k, n) of components and orthonormal vectors (k, q, n) that span their rows, with zeros in
    place of vectors that are not needed. `large` are components too large for a dense factor. `rank` counts the
    vectors; it is None with large components, whose rank is not computed. `ratios` are the singular values of the rows,
    each row divided by its norm, as shares of the largest of their component, descending. `outputs` are the numbers of
    the rows (k, r) of each component, the orthonormal vectors (k, r, q) over them that belong to `cells`, and the norms
    of the rows (k, r); `zeros` are the numbers of rows of zeros.
    """

    size: int
    cells: tuple[tuple[Integers, Floats], ...]
    large: tuple[Giant, ...]
    rank: int | None
    ratios: Floats
    outputs: tuple[tuple[Integers, Floats, Floats], ...]
    zeros: Integers

    @property
    def free(self) -> int | None:
        """The dimension of the space; None where it is not known."""
        return None if self.rank is None else self.size - self.rank

    def project(self, x: Floats) -> Floats:
        """The nearest vector of the space to x (size,)."""
        projected = x.copy()
        for _ in range(2):  # the second time removes what rounding of the first left
            for nodes, basis in self.cells:
                part = projected[nodes]
                coordinates = np.einsum("kqn,kn->kq", basis, part)
                projected[nodes] = part - np.einsum("kqn,kq->kn", basis, coordinates)
            for giant in self.large:
                part = projected[giant.nodes]
                transposed = giant.matrix.T.tocsr()
                projected[giant.nodes] = part - transposed @ solve_least_squares(transposed, part)
        return projected

    def dependence(self, draw: Floats) -> Floats:
        """Factors (rows,) with which the rows add up to zero, nearest to a draw; zero for rows of large components."""
        factors = np.zeros(len(draw))
        factors[self.zeros] = draw[self.zeros]
        for numbers, vectors, norms in self.outputs:
            part = draw[numbers]
            part = part - np.einsum("krq,kq->kr", vectors, np.einsum("krq,kr->kq", vectors, part))
            factors[numbers] = part / np.where(norms > 0.0, norms, 1.0)
        return factors


def tangent_space(rows: Rows, size: int, curved: Sequence[int], tolerance: Tolerance, limits: Limits) -> TangentSpace:
    """The directions that change no row, over the first columns of a vector of `size` numbers.

    `curved` are the numbers of rules whose rows are derivatives: their singular values count as zero below the share
    that training takes for zero, those of linear rules below that of `tolerance`.
    """
    used, zeros = np.flatnonzero(rows.lengths > 0), np.flatnonzero(rows.lengths == 0)
    rows = rows.select(used)
    cells: list[tuple[Integers, Floats]] = []
    large: list[Giant] = []
    outputs: list[tuple[Integers, Floats, Floats]] = []
    ratios, rank = [np.zeros(0)], 0
    for component in split(rows, np.zeros(rows.count), limits):
        if isinstance(component, Giant):
            large.append(_equilibrated(component))
            continue
        is_curved = np.isin(rows.rule[component.rows], list(curved)).any()
        smallest = RANK**0.5 if is_curved else tolerance.rank(*component.matrix.shape[1:])
        basis, shares, vectors, norms = _row_space(component, smallest)
        cells.append((component.nodes, basis))
        outputs.append((used[component.rows], vectors, norms))
        ratios.append(shares.ravel())
        rank += int((shares > smallest).sum())
    descending = -np.sort(-np.concatenate(ratios))
    rank_here = None if large else rank
    return TangentSpace(size, tuple(cells), tuple(large), rank_here, descending, tuple(outputs), zeros)


def _row_space(component: Batch, smallest: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Orthonormal vectors (k, q, n) that span the rows of each component, and the shares (k, q) of its values.

    And the vectors (k, r, q) over its rows, and the norms (k, r) of the rows.
    """
    norms = np.linalg.norm(component.matrix, axis=2)
    scaled = component.matrix / np.where(norms > 0.0, norms, 1.0)[..., None]
    left, values, right = lapack.svd(scaled, full_matrices=False)
    shares = values / np.where(values[:, :1] > 0.0, values[:, :1], 1.0)
    counted = shares > smallest
    return right * counted[..., None], shares, left * counted[:, None, :], norms


def _equilibrated(giant: Giant) -> Giant:
    """A large component with rows of norm one."""
    norms = np.sqrt(np.asarray(giant.matrix.multiply(giant.matrix).sum(axis=1)).ravel())
    scale = sparse.diags_array(1.0 / np.where(norms > 0.0, norms, 1.0))
    return replace(giant, matrix=sparse.csr_array(scale @ giant.matrix))
