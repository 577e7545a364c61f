"""Make the error for rules that contradict each other: it names the rules, their equations, and what these say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from affinet.analysis.diagnosis.circuit import Circuit, rules_of
from affinet.analysis.diagnosis.contradiction_text import (
    consequence,
    equations_shown,
    nearly,
    nearness,
    too_many,
    unproven,
)
from affinet.analysis.diagnosis.empty_sets import GENERAL, find_empty_set, reason
from affinet.analysis.diagnosis.filtering import filtered
from affinet.analysis.diagnosis.searching import core, find_circuit
from affinet.analysis.diagnosis.subsets import Feasible, narrowed
from affinet.errors import InfeasibleError, TooLargeError
from affinet.language.calculus.terms import Integers, Parameter
from affinet.system.rows import Rows
from affinet.system.system import System

FeasibleTo = Callable[[Sequence[int], float], bool]

MOST_WRITTEN = 8_000_000
"""Beyond this many (equation, entry) pairs, half a gigabyte, equations are not examined one by one."""
MOST_DECIDED = 4_000_000
FEWEST_DECISIONS = 64
"""Subsets of rules are planned until both bounds are passed: this many pairs read one by one, and this many subsets."""
FEW_DECISIONS = 6
LITTLE = 1e-4
"""A gap that is a smaller share of the right-hand sides may be their rounding."""
READ_AS_ONE = 65_536
"""A rule of more pairs counts as this many in the cost of a decision: planning reads it from its terms."""


def explain(
    system: System,
    candidates: Sequence[int],
    known: str,
    feasible: Feasible,
    feasible_to: FeasibleTo,
    *,
    entries: tuple[Parameter, Integers] | None = None,
) -> InfeasibleError:
    """The error for contradictory rules: an irreducible set of rules, and of their equations.

    `entries` are positions in a parameter at which inequalities contradict each other, if these are known.

    Without any one of these rules, or of these equations, the others can hold; `minimal` is False where that was not
    reached. `feasible(rules)` decides a subset by planning it. `candidates` are known to contradict each other, and
    `known` is their consequence, if planning found one. `feasible_to(rules, tolerance)` decides a subset for constants
    known only to that tolerance. Equations are named if the rules have at most 8,000,000 pairs. Law: a circuit is
    irreducible (see `Circuit`), and so are its rules if none of their other equations is in a core. Otherwise rules are
    filtered by the combinations that cancel, or by planning subsets if there are too many of these.
    """
    if any(number in system.curved_rules for number in candidates):
        rules, minimal = narrowed(list(candidates), feasible, len, MOST_DECIDED, FEWEST_DECISIONS)
        return InfeasibleError([(system.rule(k).name, system.rule(k).text) for k in rules], "", minimal=minimal)
    exact = [number for number in candidates if system.rules[number].sense == "=="]
    if len(exact) < len(candidates):
        if _search_circuit(system, exact)[1] is None:
            return _explain_inequalities(system, list(candidates), entries, feasible)
        candidates, known = exact, ""
    rules, minimal, rows, circuit = _narrow_down(system, list(candidates), feasible)
    names = [(system.rules[k].name, system.rules[k].text) for k in rules]
    if rows is None or circuit is None:
        says = known if len(rules) == len(candidates) else ""
        shown = too_many(system, rules) if rows is None else unproven(len(rules))
        return InfeasibleError(names, says, minimal=minimal, shown=shown)
    owners = zip(rows.rule[circuit.rows], rows.index[circuit.rows], strict=True)
    equations = [(system.rules[rule].name, int(index)) for rule, index in owners]
    return InfeasibleError(
        names,
        consequence(system, rows, circuit, len(rules)) + _explain_nearness(system, rules, rows, circuit, feasible_to),
        minimal=minimal and circuit.minimal,
        equations=equations,
        multipliers=circuit.multipliers.tolist(),
        shown=equations_shown(system, rows, circuit, rules),
    )


def _explain_inequalities(
    system: System, candidates: list[int], entries: tuple[Parameter, Integers] | None, feasible: Feasible
) -> InfeasibleError:
    """The error for rules whose equations have a point, and which have none together with the inequalities."""
    empty = find_empty_set(system, candidates, entries)
    if empty is None:
        rules, minimal = narrowed(
            candidates, feasible, lambda subset: _cost(system, subset), MOST_DECIDED, FEWEST_DECISIONS
        )
        names = [(system.rules[k].name, system.rules[k].text) for k in rules]
        return InfeasibleError(names, GENERAL if minimal and len(rules) > 1 else "", minimal=minimal)
    names = [(system.rules[k].name, system.rules[k].text) for k in empty.rules]
    owners = zip(empty.rows.rule.tolist(), empty.rows.index.tolist(), strict=True)
    return InfeasibleError(
        names,
        reason(system, empty),
        minimal=empty.minimal,
        equations=[(system.rules[rule].name, int(index)) for rule, index in owners],
        multipliers=empty.circuit.multipliers.tolist(),
        shown=equations_shown(system, empty.rows, empty.circuit, empty.rules),
    )


def _explain_nearness(
    system: System, rules: Sequence[int], rows: Rows, circuit: Circuit, feasible_to: FeasibleTo
) -> str:
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
    return nearness(share, tolerance if mends else None)


def _narrow_down(
    system: System, candidates: list[int], feasible: Feasible
) -> tuple[list[int], bool, Rows | None, Circuit | None]:
    """The rules, whether they are irreducible, their equations if these are few enough, and a circuit among them."""
    rows, circuit = _search_circuit(system, candidates)
    by_rows = None
    if rows is not None and circuit is not None:
        candidates = rules_of(rows, circuit)
        rows, circuit = _restrict(candidates, rows, circuit)
        by_rows = candidates if _is_only_contradiction(rows, circuit) else filtered(rows, system.tolerance)
    if by_rows is not None:
        rules, minimal = by_rows, True
    else:
        # Planning a core that was too large to factor here takes long each time.
        few = circuit is not None and not circuit.minimal
        least, most = (FEW_DECISIONS, 0) if few else (FEWEST_DECISIONS, MOST_DECIDED)
        rules, minimal = narrowed(candidates, feasible, lambda subset: _cost(system, subset), most, least)
    if rules != candidates or rows is None:
        rows, circuit = _search_circuit(system, rules)
    if rows is not None and circuit is not None and (fewer := rules_of(rows, circuit)) != rules:
        # Planning accepted a subset that its equations prove contradictory: the proof decides.
        rules = fewer
        rows, circuit = _restrict(rules, rows, circuit)
        minimal = minimal and _is_only_contradiction(rows, circuit)
    return rules, minimal, rows, circuit


def _search_circuit(system: System, rules: Sequence[int]) -> tuple[Rows | None, Circuit | None]:
    if sum(max(system.rules[k].pairs, system.rules[k].equations) for k in rules) > MOST_WRITTEN:
        return None, None
    try:
        rows = system.rows(rules)
    except TooLargeError:
        return None, None
    return rows, find_circuit(rows, system.tolerance)


def _restrict(rules: Sequence[int], rows: Rows, circuit: Circuit) -> tuple[Rows, Circuit]:
    """The equations of these rules, which include all that the circuit uses, and the circuit numbered among them."""
    chosen = np.flatnonzero(np.isin(rows.rule, rules))
    return rows.select(chosen), replace(circuit, rows=np.searchsorted(chosen, circuit.rows))


def _is_only_contradiction(rows: Rows, circuit: Circuit) -> bool:
    """Whether the circuit is the only contradiction: it has all rows, or all others are peeled."""
    return circuit.minimal and (len(circuit.rows) == rows.count or len(circuit.rows) == len(core(rows)))


def _cost(system: System, rules: Sequence[int]) -> int:
    return sum(1 + min(system.rules[k].pairs, READ_AS_ONE) for k in rules)
