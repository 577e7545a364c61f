"""Trace an entry to the rules that decide it: follow ties one by one, or solve all equations nearby."""

from __future__ import annotations

from collections import deque

import numpy as np

from affinet.analysis.lookup.incidence import Equation, Incidence
from affinet.analysis.lookup.singular import Component, deepened, factored
from affinet.planning.elimination.components import Batch, split
from affinet.system.rows import gather_rows

MOST_VISITED = 4_000
"""At most this many entries are visited while following ties."""
MOST_EQUATIONS, MOST_ENTRIES = 300, 1_000
"""At most this many nearby equations and entries are solved together."""
MOST_OF_ENTRY = 2_000
"""At most this many equations of one entry are followed."""


def path(incidence: Incidence, start: int, goal: int) -> list[Equation] | None:
    """The shortest chain of two-entry equations from one entry to another; None if there is no chain.

    Breadth-first search, which gives up after `MOST_VISITED` entries.
    """
    came_from: dict[int, tuple[int, Equation] | None] = {start: None}
    queue = deque([start])
    while queue and len(came_from) <= MOST_VISITED:
        column = queue.popleft()
        for rule, index in incidence.of(column)[:MOST_OF_ENTRY]:
            equation = incidence.equation(rule, index)
            if len(equation.columns) != 2:
                continue
            other = int(equation.columns.sum()) - column
            if other in came_from:
                continue
            came_from[other] = (column, equation)
            if other == goal:
                return _trace_back(came_from, goal)
            queue.append(other)
    return None


def nearby(incidence: Incidence, column: int) -> Component | None:
    """All equations connected with an entry, factored; None where there are too many."""
    visited, entries, queue = set[tuple[int, int]](), {column}, deque([column])
    equations: list[Equation] = []
    while queue:
        for key in incidence.of(queue.popleft()):
            if key in visited:
                continue
            visited.add(key)
            equations.append(incidence.equation(*key))
            fresh = set(equations[-1].columns.tolist()) - entries
            entries |= fresh
            queue.extend(sorted(fresh))
            if len(equations) > MOST_EQUATIONS or len(entries) > MOST_ENTRIES:
                return None
    if not equations:
        return None
    rows = gather_rows(
        np.repeat(np.arange(len(equations)), [len(equation.columns) for equation in equations]),
        np.concatenate([equation.columns for equation in equations]),
        np.concatenate([equation.values for equation in equations]),
        np.array([equation.rhs for equation in equations]),
        np.array([equation.rule for equation in equations], np.int64),
        np.array([equation.index for equation in equations], np.int64),
        0.0,
    )
    (batch,) = split(rows, np.zeros(rows.count), incidence.system.limits)
    return factored(batch, rows, incidence.system.tolerance)[0] if isinstance(batch, Batch) else None


def deciding(component: Component, column: int) -> tuple[int, ...]:
    """The rules that determine an entry of a component, counting more singular values until they determine it."""
    indicator = (component.columns == column).astype(np.float64)
    for _ in range(len(component.sizes) - component.rank):
        if np.linalg.norm(component.basis @ indicator) > 1.0 - 1e-6:
            break
        component = deepened(component, 1)
    return component.rules_behind(indicator)


def relating(component: Component, column: int, other: int) -> tuple[int, ...]:
    """The rules by which two entries of a component move together."""
    places = np.searchsorted(component.columns, [column, other])
    tangent = np.eye(len(component.columns))[places] - component.basis.T[places] @ component.basis
    size = float(tangent[1] @ tangent[1])
    if size <= 1e-18:
        return component.rules
    combination = np.zeros(len(component.columns))
    combination[places] = 1.0, -float(tangent[0] @ tangent[1]) / size
    return component.rules_behind(combination)


def _trace_back(came_from: dict[int, tuple[int, Equation] | None], goal: int) -> list[Equation]:
    equations: list[Equation] = []
    step = came_from[goal]
    while step is not None:
        column, equation = step
        equations.append(equation)
        step = came_from[column]
    return equations[::-1]
