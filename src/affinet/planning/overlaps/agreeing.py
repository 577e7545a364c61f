"""Make the targets of sets of slices that meet agree: each component is taken from the set that knows it better.

Sets `A x == α` and `B x == β` along different loops both say what `Q_A Q_B x` is, each through its own equations.
Where these almost follow from one another that is known to rounding times a condition number, and the two differ by
it. In the singular directions of both sets, with singular values s_i of A and s_j of B, the first set knows component
(i, j) to rounding over s_i and the second to rounding over s_j. Taken from the set with the larger one, the error of a
component is rounding once multiplied by either, and every equation of both sets holds to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import prod

import numpy as np

from affinet.blocks.regular import RowBatch
from affinet.blocks.slices import Slices
from affinet.language.calculus.terms import Floats
from affinet.language.forecast import forecast
from affinet.planning.factors.slices import WELL_CONDITIONED, retargeted
from affinet.planning.overlaps.commuting import Axes, applied, right_sides
from affinet.planning.refit.record import from_coefficients
from affinet.system import lapack
from affinet.system.norms import norms_of_rows
from affinet.system.tolerance import Tolerance


def agreeing(
    slices: Sequence[Slices], batches: Sequence[RowBatch], inner: Sequence[Axes], sizes: Axes, tolerance: Tolerance
) -> tuple[Slices, ...]:
    """The same sets of slices, with targets that agree to rounding where they share no loop.

    `batches` are the equations of each, `inner` the loops inside its cells. Sets of well-conditioned equations, and
    those with right-hand sides of zero alone, agree as they are. Of more than two sets a component comes from the best
    of them after as many rounds over the pairs as there are others.
    """
    found = list(slices)
    for _ in range(len(found) - 1):
        for k, m in combinations(range(len(found)), 2):
            worst = max(found[k].condition, found[m].condition)
            if worst >= WELL_CONDITIONED and not set(inner[k]) & set(inner[m]):
                pair = (found[k], batches[k], inner[k]), (found[m], batches[m], inner[m])
                found[k], found[m] = _agreed(*pair, sizes, tolerance)
    return tuple(found)


_Set = tuple[Slices, RowBatch, Axes]


def _agreed(one: _Set, other: _Set, sizes: Axes, tolerance: Tolerance) -> tuple[Slices, Slices]:
    (a, a_rows, a_inner), (b, b_rows, b_inner) = one, other
    if not a.target.any() and not b.target.any():
        return a, b
    (a_sizes, a_turn), (b_sizes, b_turn) = _directions(a, a_rows), _directions(b, b_rows)
    a_basis, b_basis = a_turn @ a.basis, b_turn @ b.basis
    alpha, beta = (
        right_sides(part.target @ turn.T, inner, sizes)
        for part, turn, inner in ((a, a_turn, a_inner), (b, b_turn, b_inner))
    )
    # What each says of the components that both measure: (…, rank of a, rank of b), one along the loops of both.
    first, second = applied(b_basis, alpha, b_inner, sizes), applied(a_basis, beta, a_inner, sizes).swapaxes(-1, -2)
    best = np.where(a_sizes[:, None] >= b_sizes, first, second)
    alpha = alpha + _spread(best - first, b_basis, b_inner, sizes)
    beta = beta + _spread((best - second).swapaxes(-1, -2), a_basis, a_inner, sizes)
    return (
        retargeted(a, a_rows, _cells(alpha, a_inner, sizes) @ a_turn, tolerance),
        retargeted(b, b_rows, _cells(beta, b_inner, sizes) @ b_turn, tolerance),
    )


def _directions(part: Slices, rows: RowBatch) -> tuple[Floats, Floats]:
    """Singular values (rank,) of the equilibrated equations, and the directions in the coordinates of the basis."""
    return from_coefficients(_turned, rows.matrix, part.basis)


def _turned(matrix: Floats, basis: Floats) -> tuple[Floats, Floats]:
    norms = norms_of_rows(matrix)[:, None]
    _, sizes, turn = lapack.svd(matrix @ basis.T / np.where(norms > 0, norms, 1.0), full_matrices=False)
    return sizes, turn


def _spread(components: Floats, basis: Floats, inner: Axes, sizes: Axes) -> Floats:
    """Components along the rows of a basis, their last axis, as numbers along its loops, which were of length one."""
    forecast("the right-hand sides of equations along several axes", prod(components.shape[:-1]) * basis.shape[1])
    numbers = components @ basis
    loops, lengths = len(sizes), [sizes[axis] for axis in inner]
    outer = [axis for axis in range(loops) if axis not in inner]
    apart = numbers.reshape(*(numbers.shape[axis] for axis in outer), numbers.shape[loops], *lengths)
    order = np.argsort([*outer, loops, *inner]).tolist()
    return np.asarray(apart.transpose(order))


def _cells(box: Floats, inner: Axes, sizes: Axes) -> Floats:
    """A box of right-hand sides as one row a cell."""
    outer = [1 if axis in inner else size for axis, size in enumerate(sizes)]
    if all(size == 1 for size in box.shape[:-1]):
        return box.reshape(1, -1)
    return np.broadcast_to(box, (*outer, box.shape[-1])).reshape(-1, box.shape[-1])
