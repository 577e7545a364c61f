"""Finish a search that rounding stopped: exactly, over the few entries and rows whose part is not clear yet.

Entries clearly beyond a bound stay there; entries clearly between their bounds need none. Of these free entries, the
rows see only the coordinates of a QR factor, one for each row. These coordinates and the unclear entries form a small
polyhedron, which the dual active set solves.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy import sparse

from affinet.blocks.entry_sets import Mask
from affinet.blocks.programs.dual_newton import MOST_STEPS, VIOLATED, Problem, Solution
from affinet.blocks.programs.row_products import length
from affinet.blocks.programs.small_cells import SmallCells
from affinet.errors import ConvergenceWarning, callers_line
from affinet.language.calculus.terms import Floats
from affinet.system import lapack
from affinet.system.norms import norms_of_rows

MARGINS = (1e-6, 1e-3, np.inf)
"""Distances from a bound, relative to the norm of the target, up to which the part of an entry is unclear."""
MOST_ENTRIES = 2_048
"""Most coordinates of the small polyhedron: its factors take 64 MB."""
MOST_ROWS = 2_048


def finished(problem: Problem, solution: Solution) -> Solution:
    """The nearest point, from one that a search left; warns where it is not found to rounding."""
    for margin in MARGINS:
        pulled = problem.v - problem.ease * solution.pull
        size = margin * (1.0 + problem.size)
        below, above = problem.lower - pulled > size, pulled - problem.upper > size
        free = (pulled - problem.lower > size) & (problem.upper - pulled > size)
        unclear = ~(below | above | free)
        if problem.rows.shape[0] > MOST_ROWS or int(unclear.sum()) + problem.rows.shape[0] > MOST_ENTRIES:
            break
        fixed = np.where(below, problem.lower, np.where(above, problem.upper, problem.v))
        candidate = _over_unclear(problem, fixed, free, unclear, solution.u)
        if _holds(problem, candidate, below | above):
            return candidate
    gaps = _gaps(problem, solution.x)
    residual, bound = float(gaps.max(initial=0.0)), float(problem.noise(solution.x)[int(gaps.argmax())])
    warning = ConvergenceWarning(MOST_STEPS, residual, bound, len(gaps), "the search for active inequalities")
    warnings.warn(warning, stacklevel=callers_line())
    return solution


def _over_unclear(problem: Problem, fixed: Floats, free: Mask, unclear: Mask, u: Floats) -> Solution:
    """The nearest point where clear entries are fixed or free without bounds."""
    chosen = np.flatnonzero(np.isfinite(problem.rhs))
    matrix = problem.rows[chosen]
    matrix = matrix.toarray() if sparse.issparse(matrix) else matrix
    root = np.sqrt(problem.ease)
    basis, triangle = lapack.batched_qr((matrix[:, free] * root[free]).T)
    count, edge = basis.shape[1], root[unclear]
    rows = np.concatenate([triangle.T, matrix[:, unclear] * edge], axis=1)
    norms = norms_of_rows(rows)
    norms[norms == 0.0] = 1.0
    clear = ~unclear
    rhs = (problem.rhs[chosen] - matrix[:, clear] @ fixed[clear]) / norms
    target = np.concatenate([np.zeros(count), problem.v[unclear] / edge])
    anywhere = np.full(count, np.inf)
    lower = np.concatenate([-anywhere, problem.lower[unclear] / edge])
    upper = np.concatenate([anywhere, problem.upper[unclear] / edge])
    guess = np.zeros((1, len(chosen) + len(target)), np.int8)
    guess[0, : len(chosen)] = u[chosen] > 0.0
    guess[0, len(chosen) + count :] = np.where(target[count:] > upper[count:], 1, -1 * (target[count:] < lower[count:]))
    small = SmallCells((rows / norms[:, None])[None], problem.equations)
    point, multipliers, sides = small.solve(
        rhs[None], lower[None], upper[None], target[None], guess, blur=problem.blur[chosen][None] / norms
    )
    x = fixed.copy()
    x[free] += root[free] * (basis @ point[0, :count])
    x[unclear] = point[0, count:] * edge
    multipliers_of_rows = np.zeros(len(problem.rhs))
    multipliers_of_rows[chosen] = (multipliers * sides)[0, : len(chosen)] / norms
    return Solution(
        np.clip(x, problem.lower, problem.upper),
        multipliers_of_rows,
        problem.products.combined(multipliers_of_rows),
        True,
    )


def _gaps(problem: Problem, x: Floats) -> Floats:
    """By how much rows are violated."""
    gaps = problem.products.times(x) - problem.rhs
    return np.concatenate([np.abs(gaps[: problem.equations]), np.maximum(gaps[problem.equations :], 0.0)])


def _holds(problem: Problem, candidate: Solution, fixed: Mask) -> bool:
    """Whether the rows hold, and the multipliers of fixed entries keep them where they are."""
    gaps = _gaps(problem, candidate.x)
    pull = problem.v - problem.ease * candidate.pull
    noise = VIOLATED * (length(candidate.x) + problem.size)
    inward = np.where(candidate.x == problem.lower, pull - problem.lower, problem.upper - pull)[fixed]
    return bool((gaps <= 4.0 * problem.noise(candidate.x)).all() and inward.max(initial=0.0) <= noise)
