"""Word a contradiction for users: its equations, spelt over entries where they are short, and their sum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affinet.analysis.diagnosis.circuit import Circuit
from affinet.language.calculus.terms import Floats, Integers
from affinet.language.origin import Linear, WrittenEquation
from affinet.language.sense import Sense
from affinet.language.wording import say
from affinet.system.distinct import distinct
from affinet.system.layout import Layout
from affinet.system.rows import Rows
from affinet.system.system import Rule, System

MOST_LINES = 12
"""A longer list of equations shows its first and last few."""
FIRST, LAST = 6, 3
MOST_ENTRIES = 6
"""A longer equation is shown by its rule, or by its first and last entries."""
LONGEST_TEXT = 60


def consequence(system: System, rows: Rows, circuit: Circuit, rules: int) -> str:
    """`together they say 0 == 1 for hidden.weight[0, :].`, from the sum of the equations times their multipliers."""
    where = _location(system.layout, distinct(rows.select(circuit.rows).columns))
    subject_and_verb = "it says" if rules == 1 else "together they say"
    about = f" for {where}" if where else ", and no weight is left in it"
    return f"{subject_and_verb} 0 == {circuit.gap:.6g}{about}."


def nearness(share: float, tolerance: float | None) -> str:
    """How near the equations are to holding, and the tolerance at which they hold, if there is one."""
    if tolerance is None:
        return f" {nearly(share)}: the equations depend on each other but for rounding."
    return (
        f" {nearly(share)}: where the constants are known no better, say "
        f"affinet.plan(rules, tolerance={tolerance:.0e})."
    )


def nearly(share: float) -> str:
    """`That is 5e-06 of what was added up`."""
    return f"That is {share:.1g} of what was added up"


def equations_shown(system: System, rows: Rows, circuit: Circuit, rules: Sequence[int]) -> str:
    """How many equations contradict each other, with the first and last; empty where each rule is one equation."""
    count, total = len(circuit.rows), sum(system.rules[k].equations for k in rules)
    if total == len(rules) <= MOST_LINES:
        return ""
    unit = "equations" if all(system.rules[k].sense == "==" for k in rules) else "rows"
    head = _headline(count, total, circuit, len(rules), unit)
    shown = list(range(count)) if count <= MOST_LINES else [*range(FIRST), *range(count - LAST, count)]
    pairs = [_equation_line(system, rows, int(circuit.rows[k]), single_rule=len(rules) == 1) for k in shown]
    width = max(len(label) for label, _ in pairs)
    lines = [f"  {label}{' ' * (width - len(label))}  {text}".rstrip() for label, text in pairs]
    if count > MOST_LINES:
        lines.insert(FIRST, f"  … {count - FIRST - LAST:,} more …")
    return "\n".join([head, *lines])


def too_many(system: System, rules: Sequence[int]) -> str:
    """Why no equations are named."""
    pairs = sum(system.rules[k].pairs for k in rules)
    opening = "its equations come" if len(rules) == 1 else "their equations come"
    return f"{opening} to {pairs:,} numbers, too many to say which of them contradict each other."


def unproven(rules: int) -> str:
    """The possible causes where no contradictory equations were found."""
    pronoun, verb = ("it", "s") if rules == 1 else ("they", "")
    return f"{pronoun} ask{verb} for numbers beyond float64 (1.8e308), or what is wrong is hardly more than rounding."


def _headline(count: int, total: int, circuit: Circuit, rules: int, unit: str) -> str:
    owner = "its" if rules == 1 else "their"
    opening = f"{count:,} of {owner} {total:,} {unit}" if count < total else f"{owner} {count:,} {unit}"
    if count == 1:
        return f"one of {owner} {total:,} {unit} (counted from 0) cannot hold:"
    path = " along a path of ties" if circuit.path and count > MOST_LINES else ""
    if circuit.minimal:
        return f"{opening} (counted from 0) contradict each other{path}; without any one of these the others can hold:"
    return f"{opening} (counted from 0) contradict each other, and some of these may not be needed:"


def _equation_line(system: System, rows: Rows, row: int, *, single_rule: bool) -> tuple[str, str]:
    """A label, `[3] of "my rule"`, and the equation; the label leaves out the name of the only rule."""
    rule, index = system.rules[rows.rule[row]], int(rows.index[row])
    first, last = int(rows.bounds[row]), int(rows.bounds[row + 1])
    columns, values = rows.columns[first:last], rows.values[first:last]
    indexed = _indexed_text(rule, index)
    long = len(columns) > MOST_ENTRIES
    spelt = indexed if long and indexed else _spell(system.layout, columns, values, float(rows.rhs[row]), rule.sense)
    label = _label(rule, index, single_rule=single_rule)
    return label, "" if spelt == label else spelt


def _label(rule: Rule, index: int, *, single_rule: bool) -> str:
    """`[3] of "rows sum to one"`, or `row 3 of A in "mine"`."""
    name = f'"{_shorten(rule.name)}"' if rule.titled else _shorten(rule.text)
    if rule.equations == 1:
        return "" if single_rule else name
    if isinstance(rule.origin, Linear) and len(rule.shape) == 1:
        return f"row {index} of A" if single_rule else f"row {index} of A in {name}"
    return _key(rule, index) if single_rule else f"{_key(rule, index)} of {name}"


def _indexed_text(rule: Rule, index: int) -> str:
    """`hidden.weight.sum(dim=1)[3] == 1` for a rule whose right side is one number; else empty."""
    origin = rule.origin
    if not isinstance(origin, WrittenEquation) or not origin.subject or origin.number is None:
        return ""
    if rule.equations == 1:
        return _shorten(rule.text)
    return f"{origin.subject}{_key(rule, index)} {rule.sense} {say(origin.number)}"


def indexed_subject(rule: Rule, index: int) -> str:
    """`hidden.weight.sum(dim=1)[3]` for a rule with one number on the right and a short left side; else empty."""
    origin = rule.origin
    if not isinstance(origin, WrittenEquation) or not origin.subject or origin.left is None:
        return ""
    return say(origin.left) if rule.equations == 1 else f"{origin.subject}{_key(rule, index)}"


def _key(rule: Rule, index: int) -> str:
    return f"[{', '.join(str(int(i)) for i in np.unravel_index(index, rule.shape))}]"


def _spell(layout: Layout, columns: Integers, values: Floats, rhs: float, sense: Sense) -> str:
    """`2 * a[0] - b[1] == 3`; of a long row its first and last entries, and how many there are."""
    terms, tail = spell_sum(layout, columns, values)
    return f"{terms} {sense} {rhs + 0.0:.6g}{tail}"


def spell_sum(layout: Layout, columns: Integers, values: Floats) -> tuple[str, str]:
    """`2 * a[0] - b[1]`; of a long sum its first and last entries, and in the second part how many there are."""
    count = len(columns)
    shown = list(range(count)) if count <= MOST_ENTRIES else [0, 1, 2, count - 1]
    parts = [_term(layout.describe(int(columns[k])), float(values[k]), first=k == 0) for k in shown]
    if count > MOST_ENTRIES:
        parts.insert(3, " + …")
    tail = f"  ({count:,} entries)" if count > MOST_ENTRIES else ""
    return "".join(parts) or "0", tail


def _term(entry: str, value: float, *, first: bool) -> str:
    size = abs(value)
    product = entry if size == 1.0 else f"{size:.6g} * {entry}"
    if first:
        return product if value > 0 else f"-{product}"
    return f" {'+' if value > 0 else '-'} {product}"


def _location(layout: Layout, columns: Integers) -> str:
    """The entries that the contradiction is about: a slice of one weight if they share an index, else the first few."""
    if not len(columns):
        return ""
    pieces = layout.split(columns)
    if len(pieces) == 1 and len(columns) > 1:
        parameter, _, positions = pieces[0]
        index = np.unravel_index(positions, parameter.shape)
        fixed = [str(int(i[0])) if (i == i[0]).all() else ":" for i in index]
        if any(part != ":" for part in fixed):
            return f"{parameter.name}[{', '.join(fixed)}]"
        if len(columns) > MOST_ENTRIES:
            return parameter.name
    shown = ", ".join(layout.describe(int(column)) for column in columns[:MOST_ENTRIES])
    return shown if len(columns) <= MOST_ENTRIES else f"{shown}, … ({len(columns)} entries)"


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"
