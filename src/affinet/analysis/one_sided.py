"""Compute the prices of raising and of lowering a right-hand side, where dependent rows make the two differ."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import linprog
from scipy.sparse import csgraph

from affinet.analysis.prices import SIGNS, Prices, active_rows, parts_by_rule, prices
from affinet.analysis.rule_values import Weight
from affinet.errors import RuleError
from affinet.language.calculus.terms import Floats, Integers
from affinet.system.norms import norms_of_runs
from affinet.system.rows import Rows
from affinet.system.system import System

MOST_PRICED = 1_000
"""Most rows that are priced at a time: each takes two linear programs, of a millisecond or more."""


@dataclass(frozen=True, eq=False)
class OneSided:
    """`∂f*/∂rhs` of a rule, in its shape, where right-hand sides are lowered and where they are raised.

    Law: `lowered <= raised` where f is minimized. Infinite where rules have no point after a change in that direction.
    """

    lowered: Any
    raised: Any

    def __neg__(self) -> OneSided:
        return OneSided(-self.lowered, -self.raised)


def one_sided_prices(
    system: System, gradient: Floats, weights: Mapping[str, Weight], names: Collection[str] | None = None
) -> dict[str, OneSided]:
    """The prices of all rules, or of the named ones, in both directions.

    Multipliers that explain the gradient form a polyhedron. The change of the least loss with one right-hand side is to
    first order the largest multiplier where it is raised and the smallest where it is lowered (for a convex loss, or as
    far as its linearisation goes): two linear programs for each row that depends on other active rows. The prices of
    other rows are unique. Raises RuleError for a name of no rule, and for more than MOST_PRICED such rows.

    Source: R. T. Rockafellar, Convex Analysis, Theorem 29.1 and Corollary 29.1.2.
    """
    solved = prices(system, gradient, weights)
    system = solved.system
    first = np.cumsum([0, *(rule.equations for rule in system.rules)])
    chosen = _chosen(system, names)
    marks = [np.full(rule.equations, rule.name in chosen) for rule in system.rules]
    wanted = np.concatenate([np.zeros(0, bool), *marks])
    lowered, raised = solved.values.copy(), solved.values.copy()
    at = np.flatnonzero(wanted & solved.shared)
    if len(at) > MOST_PRICED:
        raise RuleError(
            f"{len(at):,} rows depend on others, and two linear programs for each of them are too many: at most "
            f"{MOST_PRICED:,} are priced. Name fewer rules, as in rules=[name]."
        )
    if len(at):
        rows = active_rows(solved)[0]
        lowered[at], raised[at] = _ranges(rows, first[rows.rule] + rows.index, at, solved, system)
    sides = [parts_by_rule(replace(solved, values=values)) for values in (lowered, raised)]
    return {name: OneSided(*(parts[name] for parts in sides)) for name in sides[0] if name in chosen}


def _chosen(system: System, names: Collection[str] | None) -> frozenset[str]:
    """The names, or those of all rules. Raises RuleError."""
    known = [rule.name for rule in system.rules]
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise RuleError(f"there is no rule named {unknown[0]!r:.80}; there are: {', '.join(map(repr, known))[:300]}.")
    return frozenset(known if names is None else names)


def _ranges(rows: Rows, place: Integers, wanted: Integers, solved: Prices, system: System) -> tuple[Floats, Floats]:
    """The least and the largest multipliers of the rows at places `wanted`; `place` is that of each of the rows."""
    signs = np.array([SIGNS[system.rules[rule].sense] for rule in rows.rule.tolist()], np.int64)
    number_of = np.full(len(solved.values), -1)
    number_of[place] = np.arange(rows.count)
    matrix = rows.matrix(system.layout.size)
    norms = norms_of_runs(rows.values, rows.bounds)
    matrix = sparse.csr_array(sparse.diags_array(1.0 / np.where(norms > 0.0, norms, 1.0)) @ matrix)
    values = solved.values[place] * norms
    labels = csgraph.connected_components(sparse.csr_array(abs(matrix) @ abs(matrix).T), directed=False)[1]
    lowered, raised = np.zeros(len(wanted)), np.zeros(len(wanted))
    for label in np.unique(labels[number_of[wanted]]):
        members = np.flatnonzero(labels == label)
        part = sparse.csr_array(matrix[members])
        used = np.unique(part.indices)
        explained = sparse.csr_array(part[:, used]).T.tocsr()
        for k in np.flatnonzero(labels[number_of[wanted]] == label):
            row = int(np.searchsorted(members, number_of[wanted[k]]))
            ends = [_extreme(explained, values[members], signs[members], row, side) for side in (1.0, -1.0)]
            lowered[k], raised[k] = (end / norms[members[row]] for end in ends)
    return lowered, raised


def _extreme(explained: sparse.csr_array, values: Floats, signs: Integers, row: int, side: float) -> float:
    """The least (side 1) or the largest (side −1) multiplier of a row among those that explain what `values` do."""
    target = explained @ values
    scale = max(float(np.abs(target).max(initial=0.0)), float(np.abs(values).max(initial=0.0))) or 1.0
    objective = np.zeros(len(values))
    objective[row] = side
    bounds = [(0.0 if sign > 0 else None, 0.0 if sign < 0 else None) for sign in signs.tolist()]
    result = linprog(
        objective, A_eq=explained, b_eq=target / scale, bounds=bounds, method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )  # fmt: skip
    if result.status == 3:
        return -side * np.inf
    if result.status != 0:  # rounding left the given multipliers just outside
        return float(values[row])
    return float(side * result.fun * scale) + 0.0
