"""An irreducible set of rules from all that cancels among their equations: a deletion filter that plans nothing."""

from __future__ import annotations

import numpy as np

from affinet.analysis.diagnosis.searching import core, evened
from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.elimination.markowitz import sparse_dependencies
from affinet.system import lapack
from affinet.system.rows import Rows
from affinet.system.tolerance import Tolerance

MOST_COMBINATIONS = 256
MOST_NUMBERS = 2**23
"""Combinations that span all that cancel, and their multipliers; of more, subsets of the rules are planned instead."""
NOTHING = 1e-9
"""What is left of multipliers, or of a gap, is rounding at or below this share."""


@np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore")
def filtered(rows: Rows, tolerance: Tolerance) -> list[int] | None:
    """Rules of the rows that contradict each other while any fewer can hold; None where too many combinations cancel.

    Law: with the columns of N spanning all multipliers y that cancel the rows, the rules without rule r contradict
    each other exactly if some `y = N c` is zero on the rows of r and has `yᵀ b ≠ 0`. Rules are left out one after the
    other as long as there is such a c (the deletion filter of Chinneck & Dravnieks, ORSA J. Computing, 1991).
    """
    left = core(rows)
    even, rhs, terms, _ = evened(rows, left)
    found = sparse_dependencies(even, tolerance, MOST_COMBINATIONS)
    if not found or len(found) * len(left) > MOST_NUMBERS:
        return None
    multipliers = np.zeros((len(left), len(found)))
    for k, (chosen, weights) in enumerate(found):
        multipliers[chosen, k] = weights / np.abs(weights).max()
    return _needed(multipliers, rhs, terms, rows.rule[left], tolerance)


def _needed(multipliers: Floats, rhs: Floats, terms: Floats, owner: Integers, tolerance: Tolerance) -> list[int] | None:
    allowed, needed = np.eye(multipliers.shape[1]), []
    gaps = multipliers.T @ rhs
    if not _contradicts(multipliers, allowed @ gaps, rhs, terms, tolerance):
        return None
    order = np.argsort(owner, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(owner[order])) + 1):
        said = multipliers[group] @ allowed
        if np.abs(said).max(initial=0.0) <= NOTHING:
            continue
        basis, triangle, _ = lapack.qr(said.T, mode="economic", pivoting=True, check_finite=False)
        sizes = np.abs(np.diagonal(triangle))
        basis = basis[:, : int((sizes > NOTHING * sizes[0]).sum())]
        toward = allowed.T @ gaps
        toward -= basis @ (basis.T @ toward)
        if np.linalg.norm(toward) <= NOTHING * np.linalg.norm(gaps) or not _contradicts(
            multipliers, allowed @ toward, rhs, terms, tolerance
        ):
            needed.append(int(owner[group[0]]))
        else:
            allowed = allowed @ lapack.null_space(basis.T)
    return needed


def _contradicts(multipliers: Floats, chosen: Floats, rhs: Floats, terms: Floats, tolerance: Tolerance) -> bool:
    weights = multipliers @ chosen
    return bool(abs(weights @ rhs) > tolerance.consistency(len(rhs)) * (np.abs(weights) @ terms))
