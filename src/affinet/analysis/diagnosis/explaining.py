"""From rules that cannot hold together to the error that says which of them, by which equations, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from affinet.analysis.diagnosis.circuit import Circuit, rules_of
from affinet.analysis.diagnosis.filtering import filtered
from affinet.analysis.diagnosis.searching import core, find_circuit
from affinet.analysis.diagnosis.subsets import Feasible, narrowed
from affinet.analysis.diagnosis.wording import consequence, equations_shown, near, nearly, too_many, unproven
from affinet.errors import InfeasibleError, TooLargeError
from affinet.system.rows import Rows
from affinet.system.system import System

FeasibleTo = Callable[[Sequence[int], float], bool]

MOST_WRITTEN = 8_000_000
"""Beyond this many (equation, entry) pairs, half a gigabyte, equations are not looked at one by one."""
MOST_DECIDED = 4_000_000
FEWEST_DECISIONS = 64
"""Subsets of rules are planned until they come to so many pairs, read one by one, and to so many subsets."""
FEW_DECISIONS = 6
LITTLE = 1e-4
"""A gap that is a smaller share of the right-hand sides may be their rounding."""
READ_AS_ONE = 65_536
"""What a rule of more pairs counts for in a decision: planning reads it from its terms."""


def explain(
    system: System, candidates: Sequence[int], known: str, feasible: Feasible, feasible_to: FeasibleTo
) -> InfeasibleError:
    """The error for contradictory rules: an irreducible set of rules, and of their equations.

    Drop any one of the rules, or of the equations, and the rest can hold; `minimal` is False where that could not be
    reached. `feasible(rules)` decides a subset by planning it; `candidates` are known to contradict each other, and
    `known` is what they say together where planning found that out; `feasible_to(rules, tolerance)` decides it for
    constants that are known no better. Equations are named where the rules come to no more
    than 8,000,000 pairs. Law: a circuit is irreducible (see `Circuit`), and so are its rules where no equation of
    theirs beyond it is in a core; else they are filtered by what cancels, or, of too much that does, by planning.
    """
    rules, minimal, rows, circuit = _narrowed(system, list(candidates), feasible)
    names = [(system.rules[k].name, system.rules[k].text) for k in rules]
    if rows is None or circuit is None:
        says = known if len(rules) == len(candidates) else ""
        shown = too_many(system, rules) if rows is None else unproven(len(rules))
        return InfeasibleError(names, says, minimal=minimal, shown=shown)
    owners = zip(rows.rule[circuit.rows], rows.index[circuit.rows], strict=True)
    equations = [(system.rules[rule].name, int(index)) for rule, index in owners]
    return InfeasibleError(
        names,
        consequence(system, rows, circuit, len(rules)) + _nearness(system, rules, rows, circuit, feasible_to),
        minimal=minimal and circuit.minimal,
        equations=equations,
        multipliers=circuit.multipliers.tolist(),
        shown=equations_shown(system, rows, circuit, rules),
    )


def _nearness(system: System, rules: Sequence[int], rows: Rows, circuit: Circuit, feasible_to: FeasibleTo) -> str:
    size = float(np.abs(rows.rhs[circuit.rows] * circuit.multipliers).sum())
    share = abs(circuit.gap) / size if size else 1.0
    if not 0.0 < share < LITTLE:
        return ""
    if sum(system.rules[k].pairs for k in rules) > READ_AS_ONE:
        return f" {nearly(share)}: it may be the rounding of the constants."  # planning them again takes long
    tolerance = 10.0 ** np.ceil(np.log10(share))
    try:
        mends = feasible_to(rules, tolerance)
    except FloatingPointError:
        mends = False
    return near(share, tolerance if mends else None)


def _narrowed(
    system: System, candidates: list[int], feasible: Feasible
) -> tuple[list[int], bool, Rows | None, Circuit | None]:
    """The rules, whether they are irreducible, their equations where these are few enough, and a circuit of all."""
    rows, circuit = _searched(system, candidates)
    by_rows = None
    if rows is not None and circuit is not None:
        candidates = rules_of(rows, circuit)
        rows, circuit = _within(candidates, rows, circuit)
        by_rows = candidates if _are_all(rows, circuit) else filtered(rows, system.tolerance)
    if by_rows is not None:
        rules, minimal = by_rows, True
    else:
        # Planning a core that was too large to factor here takes long each time.
        few = circuit is not None and not circuit.minimal
        least, most = (FEW_DECISIONS, 0) if few else (FEWEST_DECISIONS, MOST_DECIDED)
        rules, minimal = narrowed(candidates, feasible, lambda some: _cost(system, some), most, least)
    if rules != candidates or rows is None:
        rows, circuit = _searched(system, rules)
    if rows is not None and circuit is not None and (fewer := rules_of(rows, circuit)) != rules:
        # Planning let a subset pass that its equations prove contradictory: the proof decides.
        rules = fewer
        rows, circuit = _within(rules, rows, circuit)
        minimal = minimal and _are_all(rows, circuit)
    return rules, minimal, rows, circuit


def _searched(system: System, rules: Sequence[int]) -> tuple[Rows | None, Circuit | None]:
    if sum(max(system.rules[k].pairs, system.rules[k].equations) for k in rules) > MOST_WRITTEN:
        return None, None
    try:
        rows = system.rows(rules)
    except TooLargeError:
        return None, None
    return rows, find_circuit(rows, system.tolerance)


def _within(rules: Sequence[int], rows: Rows, circuit: Circuit) -> tuple[Rows, Circuit]:
    """The circuit among the equations of the given rules alone, which are all that it uses."""
    kept = np.flatnonzero(np.isin(rows.rule, rules))
    return rows.select(kept), replace(circuit, rows=np.searchsorted(kept, circuit.rows))


def _are_all(rows: Rows, circuit: Circuit) -> bool:
    """Whether every contradiction among the rows is the circuit: they are it, or the others are peeled."""
    return circuit.minimal and (len(circuit.rows) == rows.count or len(circuit.rows) == len(core(rows)))


def _cost(system: System, rules: Sequence[int]) -> int:
    return sum(1 + min(system.rules[k].pairs, READ_AS_ONE) for k in rules)
