"""Reconcile the targets of sets of slices that share entries: components come from the better set.

Sets `A x == α` and `B x == β` along different loops both determine `Q_A Q_B x`, each by its equations. Where the
equations of a set almost follow from one another, they do so only to rounding times a condition number, and the two
results differ by as much. In the singular directions of both sets, with singular values s_i of A and s_j of B, the
first set determines component (i, j) to rounding over s_i and the second to rounding over s_j. If the component comes
from the set with the larger singular value, its error times either value is rounding, and every equation of both sets
holds to rounding.
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
from affinet.planning.factors.slice_factors import WELL_CONDITIONED, retarget
from affinet.planning.overlaps.commutation import Axes, apply_along, right_sides
from affinet.planning.refit.record import from_coefficients
from affinet.system import lapack
from affinet.system.norms import norms_of_rows
from affinet.system.tolerance import Tolerance


def reconcile(
    slices: Sequence[Slices], batches: Sequence[RowBatch], inner: Sequence[Axes], sizes: Axes, tolerance: Tolerance
) -> tuple[Slices, ...]:
    """The same sets of slices, with targets that agree to rounding where two sets share no loop.

    `batches` are the equations of each set, `inner` the loops inside its cells. Sets of well-conditioned equations, and
    those whose right-hand sides are all zero, agree already. With n sets, n − 1 rounds over the pairs bring each
    component from the best of them.
    """
    reconciled = list(slices)
    for _ in range(len(reconciled) - 1):
        for k, m in combinations(range(len(reconciled)), 2):
            worst = max(reconciled[k].condition, reconciled[m].condition)
            if worst >= WELL_CONDITIONED and not set(inner[k]) & set(inner[m]):
                pair = (reconciled[k], batches[k], inner[k]), (reconciled[m], batches[m], inner[m])
                reconciled[k], reconciled[m] = _reconcile_pair(*pair, sizes, tolerance)
    return tuple(reconciled)


_Set = tuple[Slices, RowBatch, Axes]


def _reconcile_pair(first_set: _Set, second_set: _Set, sizes: Axes, tolerance: Tolerance) -> tuple[Slices, Slices]:
    (a, a_rows, a_inner), (b, b_rows, b_inner) = first_set, second_set
    if not a.target.any() and not b.target.any():
        return a, b
    (a_sizes, a_turn), (b_sizes, b_turn) = _find_directions(a, a_rows), _find_directions(b, b_rows)
    a_basis, b_basis = a_turn @ a.basis, b_turn @ b.basis
    alpha, beta = (
        right_sides(part.target @ turn.T, inner, sizes)
        for part, turn, inner in ((a, a_turn, a_inner), (b, b_turn, b_inner))
    )
    # What each set says of the components of both: (…, rank of a, rank of b), of length one along all these loops.
    first_components = apply_along(b_basis, alpha, b_inner, sizes)
    second_components = apply_along(a_basis, beta, a_inner, sizes).swapaxes(-1, -2)
    best_components = np.where(a_sizes[:, None] >= b_sizes, first_components, second_components)
    alpha = alpha + _extend_over_loops(best_components - first_components, b_basis, b_inner, sizes)
    beta = beta + _extend_over_loops((best_components - second_components).swapaxes(-1, -2), a_basis, a_inner, sizes)
    return (
        retarget(a, a_rows, _list_cells(alpha, a_inner, sizes) @ a_turn, tolerance),
        retarget(b, b_rows, _list_cells(beta, b_inner, sizes) @ b_turn, tolerance),
    )


def _find_directions(part: Slices, rows: RowBatch) -> tuple[Floats, Floats]:
    """Singular values (rank,) of the equilibrated equations, and the directions in the coordinates of the basis."""
    return from_coefficients(_decompose, rows.matrix, part.basis)


def _decompose(matrix: Floats, basis: Floats) -> tuple[Floats, Floats]:
    norms = norms_of_rows(matrix)[:, None]
    _, sizes, turn = lapack.svd(matrix @ basis.T / np.where(norms > 0, norms, 1.0), full_matrices=False)
    return sizes, turn


def _extend_over_loops(components: Floats, basis: Floats, inner: Axes, sizes: Axes) -> Floats:
    """Expand components along the rows of a basis (the last axis) to numbers along its loops (of length one before)."""
    forecast("the right-hand sides of equations along several axes", prod(components.shape[:-1]) * basis.shape[1])
    numbers = components @ basis
    loops, lengths = len(sizes), [sizes[axis] for axis in inner]
    outer = [axis for axis in range(loops) if axis not in inner]
    separated = numbers.reshape(*(numbers.shape[axis] for axis in outer), numbers.shape[loops], *lengths)
    order = np.argsort([*outer, loops, *inner]).tolist()
    return np.asarray(separated.transpose(order))


def _list_cells(box: Floats, inner: Axes, sizes: Axes) -> Floats:
    """A box of right-hand sides as one row per cell."""
    outer = [1 if axis in inner else size for axis, size in enumerate(sizes)]
    if all(size == 1 for size in box.shape[:-1]):
        return box.reshape(1, -1)
    return np.broadcast_to(box, (*outer, box.shape[-1])).reshape(-1, box.shape[-1])
