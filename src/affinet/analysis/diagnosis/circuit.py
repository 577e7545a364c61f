"""Equations that contradict each other while any fewer of them can hold, proven by their multipliers."""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum

import numpy as np

from affinet.language.calculus.terms import Floats, Integers
from affinet.system.distinct import distinct, ranked
from affinet.system.rows import Rows
from affinet.system.tolerance import Tolerance

LARGEST_DENOMINATOR = 64
"""Multipliers are tried as fractions of whole numbers up to this one: mostly equations are added and taken off."""
NEARLY_WHOLE = 1e-6


@dataclass(frozen=True, eq=False)
class Circuit:
    """`Σ multipliers · rows` says `0 == gap`: a certificate that the rows cannot hold together.

    `multipliers` have no zero, and the largest is one in size; `rows` are numbers of the rows that were searched, along
    the path where they are one (`path`). Law: where `minimal`, the rows less any one of them can hold, for their
    multipliers are unique but for a factor: the coefficients have rank `len(rows) - 1`.
    """

    rows: Integers
    multipliers: Floats
    gap: float
    minimal: bool = True
    path: bool = False


def certified(
    rows: Rows, chosen: Integers, multipliers: Floats, tolerance: Tolerance, *, minimal: bool = True, path: bool = False
) -> Circuit | None:
    """The circuit of the chosen rows, or None where their combination does not say `0 == gap` beyond rounding."""
    largest = np.abs(multipliers).max(initial=0.0)
    if not 0.0 < largest < np.inf:
        return None
    weights = multipliers / largest
    kept = weights != 0.0
    chosen, weights = chosen[kept], weights[kept]
    # A path reads from the end that was said first, anything else in the order in which it was said.
    order = np.arange(len(chosen))[:: 1 if chosen[0] <= chosen[-1] else -1] if path else np.argsort(chosen)
    chosen, weights = chosen[order], weights[order]
    taken = rows.select(chosen)
    weights = _whole(taken, weights)
    terms = float(np.abs(weights) @ taken.magnitude)
    if not np.isfinite(terms) or not _cancels(taken, weights, tolerance):
        return None
    gap = fsum(weights * taken.rhs)
    if abs(gap) <= tolerance.consistency(len(chosen)) * terms:
        return None
    return Circuit(chosen, weights if gap > 0 else -weights, abs(gap), minimal, path)


def left_over(rows: Rows, weights: Floats) -> tuple[Floats, Floats]:
    """What is left of every entry in the weighted sum of the rows, and the magnitudes that it was added up from."""
    columns, local = ranked(rows.columns)
    terms = rows.values * weights[rows.row_of_each()]
    return (
        np.bincount(local, terms, len(columns)).astype(np.float64),
        np.bincount(local, np.abs(terms), len(columns)).astype(np.float64),
    )


def rules_of(rows: Rows, circuit: Circuit) -> list[int]:
    """The rules that own the equations, rising."""
    return [int(rule) for rule in distinct(rows.rule[circuit.rows])]


def _whole(rows: Rows, weights: Floats) -> Floats:
    """The multipliers as fractions that cancel every entry to the bit, where there are such."""
    for denominator in range(1, LARGEST_DENOMINATOR + 1):
        scaled = weights * denominator
        whole = np.round(scaled)
        if (np.abs(scaled - whole) < NEARLY_WHOLE).all() and whole.all() and not left_over(rows, whole)[0].any():
            return whole / denominator
    return weights


def _cancels(rows: Rows, weights: Floats, tolerance: Tolerance) -> bool:
    left, size = left_over(rows, weights)
    return bool((np.abs(left) <= max(1e-9, tolerance.rank(rows.count, len(left))) * size).all())
