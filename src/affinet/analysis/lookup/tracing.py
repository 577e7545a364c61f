"""The way from an entry to what decides it: ties followed one by one, or all equations nearby, solved."""

from __future__ import annotations

from collections import deque

import numpy as np

from affinet.analysis.lookup.incidence import Equation, Incidence
from affinet.analysis.lookup.singular import Component, deepened, factored
from affinet.planning.elimination.components import Batch, split
from affinet.system.rows import gather_rows

MOST_VISITED = 4_000
"""Entries that are visited on the way through ties."""
MOST_EQUATIONS, MOST_ENTRIES = 300, 1_000
"""Equations and entries nearby that are solved together at most."""
MOST_OF_ENTRY = 2_000
"""Equations of one entry that are followed."""


def path(incidence: Incidence, start: int, goal: int) -> list[Equation] | None:
    """The equations of two entries that lead from one entry to another, as few as there are; None where none do.

    Breadth-first search; given up after some thousand entries.
    """
    came: dict[int, tuple[int, Equation] | None] = {start: None}
    waiting = deque([start])
    while waiting and len(came) <= MOST_VISITED:
        column = waiting.popleft()
        for rule, index in incidence.of(column)[:MOST_OF_ENTRY]:
            equation = incidence.equation(rule, index)
            if len(equation.columns) != 2:
                continue
            other = int(equation.columns.sum()) - column
            if other in came:
                continue
            came[other] = (column, equation)
            if other == goal:
                return _back(came, goal)
            waiting.append(other)
    return None


def nearby(incidence: Incidence, column: int) -> Component | None:
    """All equations that an entry is connected with, factored; None where there are too many."""
    seen, entries, waiting = set[tuple[int, int]](), {column}, deque([column])
    equations: list[Equation] = []
    while waiting:
        for key in incidence.of(waiting.popleft()):
            if key in seen:
                continue
            seen.add(key)
            equations.append(incidence.equation(*key))
            fresh = set(equations[-1].columns.tolist()) - entries
            entries |= fresh
            waiting.extend(sorted(fresh))
            if len(equations) > MOST_EQUATIONS or len(entries) > MOST_ENTRIES:
                return None
    if not equations:
        return None
    rows = gather_rows(
        np.repeat(np.arange(len(equations)), [len(one.columns) for one in equations]),
        np.concatenate([one.columns for one in equations]),
        np.concatenate([one.values for one in equations]),
        np.array([one.rhs for one in equations]),
        np.array([one.rule for one in equations], np.int64),
        np.array([one.index for one in equations], np.int64),
        0.0,
    )
    (batch,) = split(rows, np.zeros(rows.count), incidence.system.limits)
    return factored(batch, rows, incidence.system.tolerance)[0] if isinstance(batch, Batch) else None


def deciding(component: Component, column: int) -> tuple[int, ...]:
    """The rules that determine an entry of a component: of as many singular values as it takes."""
    one = (component.columns == column).astype(np.float64)
    for _ in range(len(component.sizes) - component.rank):
        if np.linalg.norm(component.basis @ one) > 1.0 - 1e-6:
            break
        component = deepened(component, 1)
    return component.saying(one)


def relating(component: Component, column: int, other: int) -> tuple[int, ...]:
    """The rules by which two entries of a component move together."""
    places = np.searchsorted(component.columns, [column, other])
    tangent = np.eye(len(component.columns))[places] - component.basis.T[places] @ component.basis
    size = float(tangent[1] @ tangent[1])
    if size <= 1e-18:
        return component.rules
    combination = np.zeros(len(component.columns))
    combination[places] = 1.0, -float(tangent[0] @ tangent[1]) / size
    return component.saying(combination)


def _back(came: dict[int, tuple[int, Equation] | None], goal: int) -> list[Equation]:
    found: list[Equation] = []
    step = came[goal]
    while step is not None:
        column, equation = step
        found.append(equation)
        step = came[column]
    return found[::-1]
