"""A certificate that equations contradict each other: their multipliers, whose sum says `0 == gap`."""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum

import numpy as np

from affinet.language.calculus.terms import Floats, Integers
from affinet.system.distinct import distinct, ranked
from affinet.system.rows import Rows
from affinet.system.tolerance import Tolerance

LARGEST_DENOMINATOR = 64
"""Multipliers are tried as fractions with denominators up to this: most equations are just added and subtracted."""
NEARLY_WHOLE = 1e-6


@dataclass(frozen=True, eq=False)
class Circuit:
    """`Σ multipliers · rows` says `0 == gap`: a certificate that the rows cannot hold together.

    No multiplier is zero, and the largest has magnitude one. `rows` are row numbers in the searched rows, ordered along
    the path if they form one (`path`). Law: if `minimal`, the rows without any one of them can hold, since their
    multipliers are unique up to a factor: the coefficients have rank `len(rows) - 1`.
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
    nonzero = weights != 0.0
    chosen, weights = chosen[nonzero], weights[nonzero]
    # A path starts at the end that was written first; any other circuit keeps the order in which it was written.
    order = np.arange(len(chosen))[:: 1 if chosen[0] <= chosen[-1] else -1] if path else np.argsort(chosen)
    chosen, weights = chosen[order], weights[order]
    circuit_rows = rows.select(chosen)
    weights = as_fractions(circuit_rows, weights)
    terms = float(np.abs(weights) @ circuit_rows.magnitude)
    if not np.isfinite(terms) or not _cancels(circuit_rows, weights, tolerance):
        return None
    gap = fsum(weights * circuit_rows.rhs)
    if abs(gap) <= tolerance.consistency(len(chosen)) * terms:
        return None
    return Circuit(chosen, weights if gap > 0 else -weights, abs(gap), minimal, path)


def left_over(rows: Rows, weights: Floats) -> tuple[Floats, Floats]:
    """The coefficient of every entry in the weighted sum of the rows, and the sum of its magnitudes."""
    columns, local = ranked(rows.columns)
    terms = rows.values * weights[rows.row_of_each()]
    return (
        np.bincount(local, terms, len(columns)).astype(np.float64),
        np.bincount(local, np.abs(terms), len(columns)).astype(np.float64),
    )


def rules_of(rows: Rows, circuit: Circuit) -> list[int]:
    """The numbers of the rules that the equations belong to, in ascending order."""
    return [int(rule) for rule in distinct(rows.rule[circuit.rows])]


def as_fractions(rows: Rows, weights: Floats) -> Floats:
    """The multipliers as fractions that cancel every entry to the bit, if there are any; else unchanged."""
    for denominator in range(1, LARGEST_DENOMINATOR + 1):
        scaled = weights * denominator
        rounded = np.round(scaled)
        if (np.abs(scaled - rounded) < NEARLY_WHOLE).all() and rounded.all() and not left_over(rows, rounded)[0].any():
            return rounded / denominator
    return weights


def _cancels(rows: Rows, weights: Floats, tolerance: Tolerance) -> bool:
    remainders, magnitudes = left_over(rows, weights)
    return bool((np.abs(remainders) <= max(1e-9, tolerance.rank(rows.count, len(remainders))) * magnitudes).all())
