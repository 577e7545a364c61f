"""What rounding leaves of equations: the bounds of docs/numerics.md as functions, with the argument for each."""

from __future__ import annotations

from math import sqrt

import numpy as np

from affinet.blocks.bordered import Bordered
from affinet.blocks.kinds import AnyBlock


def of_cell(equations: int, entries: int, computed: float = 1.0) -> float:
    """Spacings by which a projection of a cell of m equations over n entries may miss each, of the component's size.

    Errors of n roundings, of size up to u each, add up like a random walk, to √n u (Higham and Mary, SIAM J. Sci.
    Comput. 41, 2019). In these terms an equation keeps: u of storing the weights; √n u of the factor (a row of the
    matrix is given back by its m orthonormal rows, each rounded over n entries); √m u of the target (m sums of up to m
    terms that were solved for); and of the gap that is taken away last, m sums of n terms, √m √n u in norm. Together
    (1 + √m)(1 + √n) u, and u is half a spacing. A random walk may stray: but no share of this is at its largest in the
    same equation as the others, so that the sum of all leaves room for it. All but storing is done in a dtype whose
    spacing may be a smaller one, the share `computed` of that of the entries.
    """
    return (1.0 + ((1.0 + sqrt(equations)) * (1.0 + sqrt(entries)) - 1.0) * computed) / 2.0


def of_equations(matrix: np.ndarray, point: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    """By how much `matrix @ point` may miss `rhs` in float64 where `point` comes from a factor of these equations.

    Shapes: matrix (…, m, n), point (…, n) and rhs (…, m). That is `of_cell` spacings of Σ|a_j w_j| + |b| + ‖a‖·‖w‖.
    """
    size = np.einsum("...mn,...n->...m", np.abs(matrix), np.abs(point)) + np.abs(rhs)
    size = size + np.linalg.norm(matrix, axis=-1) * np.linalg.norm(point, axis=-1)[..., None]
    return np.asarray(of_cell(*matrix.shape[-2:]) * np.finfo(np.float64).eps * size)


def of_repetition(entries: int, computed: float = 1.0, condition: float = 1.0) -> float:
    """Spacings of the norm of a component of n entries by which a second projection may move it, in norm.

    What the second projection takes away is what the first left across the equations, and a projector enlarges nothing:
    u of the norm for storing; and for the sums √n u. The k-th addition to the sums of all equations rounds them by u of
    their norm, which is at most that of the entries, since rows are orthonormal; n such errors add up like a random
    walk, as above. The second projection rounds as much again: 2 (1 + √n) u, and u is half a spacing.

    Sums in a wider dtype, whose spacing is `computed` times that of the entries, count for so much less. Equations that
    are no orthonormal rows (Sparse, and on top of others Bordered) are solved for: by their condition number more.
    """
    return 1.0 + sqrt(entries) * computed * condition


def of_projection(
    equations: int, entries: int, spacing: float, computed: float = 1.0, sets: int = 1, condition: float = 0.0
) -> float:
    """Spacings of the norms of point and projection by which two computations of a projection may differ, in norm.

    Of a component of m equations over n entries, each of two passes rounds: its entries when they are stored, scaled,
    shifted and divided by the size of their class, 4 u; the gaps by √n u and the sum of m rows by √m u, as in
    `of_repetition`, for each of the `sets` of equations that meet. What the first pass strays across the equations the
    second takes away, what it strays along them stays, and both computations do so: 4 passes of 4 + sets (√m + √n)
    half spacings, of which sums are added in the dtype of the share `computed`. Factors made apart differ by float64's
    rounding of √m √n numbers, times the condition number (backward error: Golub & Van Loan, 4th ed., 5.3.3 and 8.6).
    """
    sums = sets * (sqrt(equations) + sqrt(entries)) * computed
    return 8.0 + 2.0 * sums + condition * sqrt(equations) * sqrt(entries) * 2.0**-52 / spacing


def of_border(equations: int, entries: int, block: AnyBlock, epsilon: float) -> float:
    """The same for a block that may be a border, of weights whose spacing is `epsilon`.

    A border takes the targets of its bases as they are. Each of m equations of a base being off by `of_cell`, targets
    are off by √m of that times the condition number κ of the base, in float64; an equation on top that follows from the
    base says the same with an error of its own.
    """
    own = of_cell(equations, entries)
    if not isinstance(block, Bordered):
        return own
    condition = max(base.condition for base in block.bases)
    return own * (1.0 + condition * sqrt(equations) * 2.0**-52 / epsilon)
