"""Explain why rules with inequalities have no point, by an irreducible set of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from affinet.analysis.diagnosis.circuit import Circuit, as_fractions
from affinet.analysis.diagnosis.contradiction_text import indexed_subject, spell_sum
from affinet.analysis.lookup.row_programs import Certificate, RowProgram, contradiction
from affinet.errors import TooLargeError
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.system.distinct import distinct
from affinet.system.rows import Rows
from affinet.system.system import System

FEW_PAIRS = 2**12
"""(Row, entry) pairs of rules that are read entirely, even where it is known which entries contradict."""
MOST_PAIRS = 2**17
"""The same where that is not known: a linear program of that size takes seconds."""
MOST_ENTRIES = 2**12
"""Entries whose rows are looked up one by one: tenths of a second."""
GENERAL = "no point satisfies these rules together; drop any one and there is one."


@dataclass(frozen=True, eq=False)
class EmptySet:
    """An irreducible set of rules without a point, and of their rows, as they are written.

    `circuit` has the multipliers of all of the rows: with the senses that these give, they add up to `0 <= -gap`.
    """

    rules: list[int]
    rows: Rows
    circuit: Circuit
    minimal: bool = True


def find_empty_set(
    system: System, candidates: Sequence[int], entries: tuple[Parameter, Integers] | None
) -> EmptySet | None:
    """An irreducible set among rules whose equations have a point; None where it takes long or no certificate is found.

    The rules of one certificate are filtered: a rule is dropped if the others have a certificate without it (Chinneck &
    Dravnieks, ORSA J. Computing, 1991). Of rules of many rows, only those about `entries` are looked at, so that three
    rules or more may contain one that other entries make needless.
    """
    rules = [number for number in candidates if system.rules[number].norm is None]
    pairs = sum(max(system.rules[number].pairs, system.rules[number].equations) for number in rules)
    is_large = pairs > FEW_PAIRS and entries is not None and len(entries[1]) <= MOST_ENTRIES
    if not is_large and pairs > MOST_PAIRS:
        return None
    try:
        program = RowProgram.about(system, rules, *entries) if is_large and entries else RowProgram.of(system, rules)
    except TooLargeError:
        return None
    known = contradiction(program, system.tolerance)
    if known is None:
        return None
    chosen = _rules_of(program, known)
    for rule in list(chosen):
        remaining = [other for other in chosen if other != rule]
        if rule not in chosen or not remaining:
            continue
        part = program.of_rules(remaining)
        smaller = contradiction(part, system.tolerance)
        if smaller is not None:
            program, known, chosen = part, smaller, _rules_of(part, smaller)
    empty = _as_written(program, known, chosen)
    return replace(empty, minimal=len(empty.rules) <= 2) if is_large else empty


def reason(system: System, empty: EmptySet) -> str:
    """`the least that W.sum(dim=1)[3] can be is 4, and it must be <= 3.`, where one row shows what the others imply."""
    rows, multipliers = empty.rows, empty.circuit.multipliers
    if rows.count == 1:
        return f"it says 0 {_sense(system, rows, 0)} {rows.rhs[0] + 0.0:.6g}, and no weight is left in it."
    target = _target(rows)
    first, last = int(rows.bounds[target]), int(rows.bounds[target + 1])
    value = float(rows.rhs[target]) + empty.circuit.gap / float(multipliers[target])
    columns, values = rows.columns[first:last], rows.values[first:last]
    rule, index = system.rules[rows.rule[target]], int(rows.index[target])
    subject = indexed_subject(rule, index) if len(columns) > 1 else ""
    terms, sense = subject or "".join(spell_sum(system.layout, columns, values)), _sense(system, rows, target)
    scale = float(values[0]) if len(columns) == 1 and not subject else 1.0
    if scale != 1.0:  # a bound of a single entry is shown as that of the entry itself
        terms, sense = system.layout.describe(int(columns[0])), _turned(sense) if scale < 0 else sense
    implied, bound = value / scale + 0.0, float(rows.rhs[target]) / scale + 0.0
    most = (multipliers[target] < 0) == (scale > 0)
    singles = (rows.lengths == 1).all()
    if singles and rows.count == 2:
        return f"{terms} must be {_sense_of_other(system, rows, target)} {implied:.6g} and {sense} {bound:.6g}."
    return (
        f"the {'most' if most else 'least'} that {terms} can be is {implied:.6g}, and it must be {sense} {bound:.6g}."
    )


def _rules_of(program: RowProgram, certificate: Certificate) -> list[int]:
    return [int(rule) for rule in distinct(program.rows.rule[certificate.rows])]


def _as_written(program: RowProgram, certificate: Certificate, rules: list[int]) -> EmptySet:
    rows, negated = program.rows.select(certificate.rows), program.negated[certificate.rows]
    turned: Floats = np.where(negated, -1.0, 1.0)
    rows = replace(rows, values=rows.values * np.repeat(turned, rows.lengths), rhs=rows.rhs * turned)
    order: Integers = np.lexsort((rows.index, rows.rule))
    rows = rows.select(order)
    multipliers = as_fractions(rows, (certificate.multipliers * turned)[order])
    return EmptySet(rules, rows, Circuit(np.arange(rows.count), multipliers, -float(multipliers @ rows.rhs)))


def _target(rows: Rows) -> int:
    """The row that the others contradict: the only one of several entries, or the last that bounds a single one."""
    several, single = np.flatnonzero(rows.lengths > 1), np.flatnonzero(rows.lengths == 1)
    return int(several[0]) if len(several) == 1 else int(single[-1]) if len(single) else rows.count - 1


def _sense(system: System, rows: Rows, row: int) -> str:
    return str(system.rules[rows.rule[row]].sense)


def _sense_of_other(system: System, rows: Rows, target: int) -> str:
    """The sense of the other of two bounds of one entry, as a bound of the entry."""
    other = 1 - target
    sense = _sense(system, rows, other)
    return _turned(sense) if rows.values[rows.bounds[other]] < 0 else sense


def _turned(sense: str) -> str:
    return str({"<=": ">=", ">=": "<=", "==": "=="}[sense])
