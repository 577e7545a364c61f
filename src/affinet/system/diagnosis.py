"""Contradictory rules: an irreducible set of them, and what they say together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.sparse.linalg import lsqr

from affinet.errors import InfeasibleError
from affinet.language.terms import Floats, Integers
from affinet.system.distinct import distinct, ranked
from affinet.system.layout import Layout
from affinet.system.rows import Rows
from affinet.system.system import System

LARGEST_CERTIFICATE = 2_000_000
"""Beyond this many pairs the sentence about the entries is left out; the rules are named all the same."""

Feasible = Callable[[Sequence[int]], bool]


def explain(system: System, candidates: Sequence[int], known: str, feasible: Feasible) -> InfeasibleError:
    """The error for contradictory rules, naming an irreducible set: drop any one of them and the rest can hold.

    `feasible(rules)` decides a subset; `candidates` are known to contradict each other, and `known` is what they say
    together where planning found that out. Uses O(k log(n / k))
    decisions for k rules out of n (Junker, QUICKXPLAIN, AAAI 2004).
    """
    rules = irreducible(list(candidates), feasible)
    names = [(system.rules[k].name, system.rules[k].text) for k in rules]
    return InfeasibleError(names, _consequence(system, rules) or (known if len(rules) == len(candidates) else ""))


def irreducible(candidates: list[int], feasible: Feasible) -> list[int]:
    """A subset that cannot hold while every proper subset of it can."""

    def search(background: list[int], added: bool, rest: list[int]) -> list[int]:
        if added and not feasible(background):
            return []
        if len(rest) == 1:
            return rest
        half = len(rest) // 2
        left, right = rest[:half], rest[half:]
        needed = search(background + left, bool(left), right)
        return search(background + needed, bool(needed), left) + needed

    return sorted(search([], False, candidates))


def _consequence(system: System, rules: list[int]) -> str:
    """`together they say 0 == 1 for hidden.weight[0, :].`, from a combination of equations that cancels all weights."""
    if sum(system.rules[k].pairs for k in rules) > LARGEST_CERTIFICATE:
        return ""
    rows = system.rows(rules)
    weights, gap = _certificate(rows)
    who = "it says" if len(rules) == 1 else "together they say"
    if gap == 0.0:
        return ""
    used = np.flatnonzero(np.abs(weights) > 1e-6)
    where = _place(system.layout, distinct(rows.select(used).columns))
    return f"{who} 0 == {gap:.6g}{f' for {where}' if where else ''}."


def _certificate(rows: Rows) -> tuple[Floats, float]:
    """Multipliers y with `yᵀA = 0`, `yᵀb != 0`, the largest |y| one: the residual of the least-squares solution."""
    empty = np.flatnonzero((rows.lengths == 0) & (rows.rhs != 0))
    if len(empty):
        weights = np.zeros(rows.count)
        weights[empty[0]] = 1.0
        return weights, float(rows.rhs[empty[0]])
    columns, local = ranked(rows.columns)
    matrix = Rows(rows.bounds, local, rows.values, rows.rhs, rows.rule, rows.index).matrix(len(columns))
    if rows.count * len(columns) <= 4_000_000:
        solution = np.linalg.lstsq(matrix.toarray(), rows.rhs, rcond=None)[0]
    else:
        solution = lsqr(matrix, rows.rhs, atol=1e-12, btol=1e-12)[0]
    residual = rows.rhs - matrix @ solution
    largest = np.abs(residual).max(initial=0.0)
    if largest == 0.0:
        return residual, 0.0
    weights = residual / largest
    weights[np.abs(weights) < 1e-6] = 0.0
    # Mostly equations are added and taken off: whole numbers that cancel exactly say it without the solver's error.
    whole = np.round(weights)
    if not np.any(matrix.T @ whole) and whole @ rows.rhs != 0.0:
        weights = whole
    return weights, float(weights @ rows.rhs)


def _place(layout: Layout, columns: Integers) -> str:
    """The entries that the contradiction is about: a slice of one weight where they share an index, else a few."""
    if not len(columns):
        return ""
    pieces = layout.split(columns)
    if len(pieces) == 1 and len(columns) > 1:
        parameter, _, positions = pieces[0]
        index = np.unravel_index(positions, parameter.shape)
        fixed = [str(int(i[0])) if (i == i[0]).all() else ":" for i in index]
        if any(part != ":" for part in fixed):
            return f"{parameter.name}[{', '.join(fixed)}]"
        if len(columns) > 6:
            return parameter.name
    shown = ", ".join(layout.describe(int(column)) for column in columns[:6])
    return shown if len(columns) <= 6 else f"{shown}, … ({len(columns)} entries)"
