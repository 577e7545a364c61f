"""Reduce contradictory rules to an irreducible set by a deletion filter on the combinations that cancel."""

from __future__ import annotations

import numpy as np

from affinet.analysis.diagnosis.searching import core, equilibrated_core
from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.elimination.markowitz import sparse_dependencies
from affinet.system import lapack
from affinet.system.rows import Rows
from affinet.system.tolerance import Tolerance

MOST_COMBINATIONS = 256
MOST_NUMBERS = 2**23
"""Bounds on the combinations that cancel and on their multipliers; beyond them subsets of rules are planned instead."""
NEGLIGIBLE = 1e-9
"""Multipliers and gaps at or below this share are rounding."""


@np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore")
def filtered(rows: Rows, tolerance: Tolerance) -> list[int] | None:
    """An irreducible set of contradictory rules of the rows; None where too many combinations cancel.

    Law: with the columns of N spanning all multipliers y that cancel the rows, the rules without rule r contradict
    each other exactly if some `y = N c` is zero on the rows of r and has `yᵀ b ≠ 0`. Rules are dropped one after the
    other as long as there is such a c (the deletion filter of Chinneck & Dravnieks, ORSA J. Computing, 1991).
    """
    chosen_rows = core(rows)
    equilibrated, rhs, terms, _ = equilibrated_core(rows, chosen_rows)
    dependencies = sparse_dependencies(equilibrated, tolerance, MOST_COMBINATIONS)
    if not dependencies or len(dependencies) * len(chosen_rows) > MOST_NUMBERS:
        return None
    multipliers = np.zeros((len(chosen_rows), len(dependencies)))
    for k, (chosen, weights) in enumerate(dependencies):
        multipliers[chosen, k] = weights / np.abs(weights).max()
    return _filter_rules(multipliers, rhs, terms, rows.rule[chosen_rows], tolerance)


def _filter_rules(
    multipliers: Floats, rhs: Floats, terms: Floats, owner: Integers, tolerance: Tolerance
) -> list[int] | None:
    allowed, needed = np.eye(multipliers.shape[1]), []
    gaps = multipliers.T @ rhs
    if not _contradicts(multipliers, allowed @ gaps, rhs, terms, tolerance):
        return None
    order = np.argsort(owner, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(owner[order])) + 1):
        combinations = multipliers[group] @ allowed
        if np.abs(combinations).max(initial=0.0) <= NEGLIGIBLE:
            continue
        basis, triangle, _ = lapack.qr(combinations.T, mode="economic", pivoting=True, check_finite=False)
        sizes = np.abs(np.diagonal(triangle))
        basis = basis[:, : int((sizes > NEGLIGIBLE * sizes[0]).sum())]
        toward = allowed.T @ gaps
        toward -= basis @ (basis.T @ toward)
        if np.linalg.norm(toward) <= NEGLIGIBLE * np.linalg.norm(gaps) or not _contradicts(
            multipliers, allowed @ toward, rhs, terms, tolerance
        ):
            needed.append(int(owner[group[0]]))
        else:
            allowed = allowed @ lapack.null_space(basis.T)
    return needed


def _contradicts(multipliers: Floats, chosen: Floats, rhs: Floats, terms: Floats, tolerance: Tolerance) -> bool:
    weights = multipliers @ chosen
    return bool(abs(weights @ rhs) > tolerance.consistency(len(rhs)) * (np.abs(weights) @ terms))
