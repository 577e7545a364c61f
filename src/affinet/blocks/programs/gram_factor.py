"""Solve `rows diag(ease) rowsᵀ u = b` for rows that may be dependent, for b in the range: dense, or by a sparse factor.

A share of the diagonal is added, with which Cholesky's factor exists, and refinement takes its effect out again: along
directions that the rows do not span, b has only rounding, and multipliers there change no entry.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.linalg import LinAlgError
from scipy import sparse
from scipy.sparse.linalg import splu

from affinet.blocks.programs.row_products import Rows, length
from affinet.language.calculus.terms import Floats
from affinet.language.forecast import forecast
from affinet.system import lapack

EPSILON = float(np.finfo(np.float64).eps)
ADDED = 1e-11
"""Share of the squares of the full rows that is added to the diagonal. Less would multiply the rounding of b where rows
are dependent; more would need more refinements where they nearly are."""
MOST_DENSE = 2_048
"""Most rows of a dense factor when rows are sparse: 32 MB, and a second."""
MOST_FILLED, FILLED = 8_192, 0.05
"""Most rows of a dense factor where this share of the products of rows is not zero: their sparse factor fills up."""
MOST_REFINEMENTS = 30
SPARSE_BYTES = 12
"""Bytes of one number of a sparse matrix, with its column."""
WAY_OUT = (
    "Rules that share fewer weights with each other are searched apart: drop some, or write them for fewer weights."
)


class GramFactor:
    """The factor for one ease of the entries; entries of ease zero take no part.

    `squares` are those of the full rows, by which what is added is measured.
    """

    def __init__(self, gram: Rows, squares: Floats) -> None:
        self.gram = gram
        self.scale = 1.0 / np.sqrt(np.maximum(squares, 1e-300))
        self.lower, self._solve = self._factored(ADDED)

    def solve(self, b: Floats) -> Floats:
        """The multipliers u; refined as long as the residual falls, which it does at once for independent rows."""
        u: Floats = self._solve(b)
        residual = b - self.gram @ u
        size = length(residual * self.scale)
        for _ in range(MOST_REFINEMENTS):
            if size <= EPSILON * length(b * self.scale):
                break
            refined = u + self._solve(residual)
            residual = b - self.gram @ refined
            smaller = length(residual * self.scale)
            if not smaller < size:
                break
            u, size = refined, smaller
        return u

    def _factored(self, added: float) -> tuple[Floats | None, Any]:
        """The dense factor of the scaled matrix, if it is dense, and a function that solves with it."""
        scale = self.scale
        if sparse.issparse(self.gram):
            scaled = sparse.diags_array(scale) @ self.gram @ sparse.diags_array(scale)
            options = {"SymmetricMode": True}
            matrix = (scaled + sparse.diags_array(np.full(len(scale), added))).tocsc()
            factor = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
            return None, lambda b: scale * factor.solve(scale * b)
        try:
            lower = lapack.cholesky(self.gram * scale * scale[:, None] + added * np.eye(len(scale)))
        except LinAlgError:
            return self._factored(16.0 * added)

        def solve(b: Floats) -> Floats:
            half = lapack.solve_triangular(lower, scale * b, lower=True, check_finite=False)
            solution = lapack.solve_triangular(lower, half, lower=True, trans=1, check_finite=False)
            return np.asarray(scale * solution)

        return lower, solve


def gram_of(rows: Rows, ease: Floats) -> Rows:
    """`rows diag(ease) rowsᵀ`: sparse only for many sparse rows. Raises TooLargeError where it would not fit."""
    m = rows.shape[0]
    if not sparse.issparse(rows):
        forecast(f"the products of {m:,} active rows of one polyhedron", m * m, way_out=WAY_OUT)
        eased = rows * np.sqrt(ease)
        return eased @ eased.T
    forecast(
        f"the products of {m:,} active rows of one polyhedron, which share entries,", products_of(rows),
        item_bytes=SPARSE_BYTES, way_out=WAY_OUT,
    )  # fmt: skip
    product = sparse.csr_array(rows.multiply(ease[None]).tocsr() @ rows.T)
    return product.toarray() if m <= MOST_DENSE or (m <= MOST_FILLED and product.nnz > FILLED * m * m) else product


def products_of(rows: sparse.csr_array) -> int:
    """A bound on the pairs of rows that share an entry, which is exact where no two share more than one."""
    shared = np.bincount(rows.indices, minlength=rows.shape[1]).astype(np.float64)
    return int(min(float(shared @ shared), float(rows.shape[0]) ** 2))
