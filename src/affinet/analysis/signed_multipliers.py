"""Solve for multipliers of rows, some of them with signs: of rows of several entries first, then of bounds."""

from __future__ import annotations

import numpy as np

from affinet.analysis.multipliers import multipliers
from affinet.analysis.normal_cones import solve_batch, solve_giant
from affinet.analysis.rows_by_entries import connected_with, values_of, without_entries
from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.elimination.components import Batch, split
from affinet.system.distinct import ranked
from affinet.system.rows import Rows
from affinet.system.system import System


def signed_multipliers(rows: Rows, signs: Integers, system: System, gradient: Floats) -> tuple[Floats, np.ndarray]:
    """The multipliers of rows, with the signs 1 and −1, or 0 for any, and which of them depend on other rows.

    Rows that no row with a sign is connected with have the multipliers of equations.
    """
    if not signs.any():
        solved = multipliers(rows, gradient, system.tolerance, system.limits)
        return solved.values, solved.shared
    with_inequality = connected_with(rows, signs != 0)
    values, shared = np.zeros(rows.count), np.zeros(rows.count, bool)
    among_equations, joint = np.flatnonzero(~with_inequality), np.flatnonzero(with_inequality)
    solved = multipliers(rows.select(among_equations), gradient, system.tolerance, system.limits)
    values[among_equations], shared[among_equations] = solved.values, solved.shared
    values[joint], shared[joint] = _solve_signed(rows.select(joint), signs[joint], system, gradient)
    return values, shared


def _solve_signed(rows: Rows, signs: Integers, system: System, gradient: Floats) -> tuple[Floats, np.ndarray]:
    """Solve for rows of several entries first; bounds of single entries absorb of the remainder what they can."""
    values, shared = np.zeros(rows.count), np.zeros(rows.count, bool)
    used, place = ranked(rows.columns)
    single = np.flatnonzero(rows.lengths == 1)
    entry, coefficient = place[rows.bounds[single]], rows.values[rows.bounds[single]]
    direction = signs[single] * np.sign(coefficient).astype(np.int64)
    upward, downward = np.zeros(len(used), bool), np.zeros(len(used), bool)
    upward[entry[direction >= 0]] = True
    downward[entry[direction <= 0]] = True
    both, absorbed = upward & downward, upward.astype(np.int64) - downward
    dependent_entries = np.bincount(entry, minlength=len(used)) > 1
    several = np.flatnonzero(rows.lengths > 1)
    place_in_several = place[values_of(rows, several)]
    reduced, nonempty = without_entries(rows.select(several), place_in_several, both[place_in_several])
    for component in split(reduced.select(np.flatnonzero(nonempty)), np.zeros(int(nonempty.sum())), system.limits):
        at = several[nonempty][component.rows]
        nodes = component.nodes
        target = gradient[used[nodes]]
        if isinstance(component, Batch):
            solved = solve_batch(component, target, absorbed[nodes], signs[at], system.tolerance)
        else:
            solved = solve_giant(component, target, absorbed[nodes], signs[at])
        values[at], shared[at] = solved.values, solved.shared
        dependent_entries[nodes] |= solved.shared_entries
    shared[several[~nonempty]] = True
    read_by_shared = place[values_of(rows, np.flatnonzero(shared))]
    dependent_entries[read_by_shared] |= both[read_by_shared]
    remainder = gradient[used] - np.bincount(place, rows.values * values[rows.row_of_each()], len(used))
    values[single] = _absorb(remainder, entry, coefficient, direction)
    shared[single] = dependent_entries[entry]
    return values, shared


def _absorb(remainder: Floats, entry: Integers, coefficient: Floats, direction: Integers) -> Floats:
    """The prices of bounds of single entries: each entry's remainder, divided evenly among usable bounds."""
    usable = (direction == 0) | (direction * remainder[entry] > 0.0)
    count = np.bincount(entry, usable, len(remainder))
    return np.where(usable, remainder[entry] / (coefficient * np.maximum(count[entry], 1.0)), 0.0)
