"""Read each rule once in one of the regular forms that planning and measuring use."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

from affinet.blocks.mirror import Mirror
from affinet.blocks.pairs import Pairs
from affinet.blocks.regular import RowBatch
from affinet.language.expression import Expression
from affinet.planning.factors.panels import Panel, read_panel
from affinet.planning.reading.fixings import Fixing, read_fixings
from affinet.planning.reading.sections import sections
from affinet.planning.reading.term_patterns import read
from affinet.system.system import Rule, System

Form = RowBatch | Mirror | Pairs | Panel


@dataclass(frozen=True, eq=False)
class Reading:
    """One rule as values of single entries (`fixings`), or as regular forms, one per section.

    A rule with neither is read one equation at a time, as are all rules that are not `large`.
    """

    large: bool
    fixings: tuple[Fixing, ...] = ()
    forms: tuple[Form, ...] = ()


_LAST_READINGS: WeakKeyDictionary[Rule, tuple[tuple[float, ...], Reading]] = WeakKeyDictionary()
"""The last reading of every rule, with the number and the thresholds that it was read with."""


def read_rule(system: System, number: int) -> Reading:
    """The reading of the rule of this number: from its terms if it has more than `limits.one_by_one` pairs.

    Values of single entries are read if the rule fixes more than `limits.fixed_from` of them.
    """
    rule = system.rules[number]
    key = (number, *_thresholds(system))
    stored = _LAST_READINGS.get(rule)
    if stored is None or stored[0] != key:
        stored = key, _read_anew(system, number)
        _LAST_READINGS[rule] = stored
    return stored[1]


def reading_of(system: System, number: int) -> Reading:
    """The reading that planning made of a rule under any number, or else a new reading."""
    stored = _LAST_READINGS.get(system.rules[number])
    return stored[1] if stored is not None and stored[0][1:] == _thresholds(system) else read_rule(system, number)


def in_sections(expression: Expression, number: int, cancellation: float) -> tuple[RowBatch, ...]:
    """The batches of a rule of several sections; empty unless every section is a batch of sums.

    Ties in sections, as of a matrix rolled by one, form classes and are read one by one.
    """
    parts = sections(expression)
    if len(parts) < 2:
        return ()
    readings = [read(part, number, cancellation) for part in parts]
    batches = tuple(batch for batch in readings if isinstance(batch, RowBatch) and batch.sums)
    return batches if len(batches) == len(parts) else ()


def _thresholds(system: System) -> tuple[float, ...]:
    return (system.limits.one_by_one, system.limits.fixed_from, system.tolerance.cancellation)


def _read_anew(system: System, number: int) -> Reading:
    rule, cancellation = system.rules[number], system.tolerance.cancellation
    if rule.nonzeros <= system.limits.one_by_one:
        return Reading(large=False)
    if rule.equations > system.limits.fixed_from and (fixings := read_fixings(rule, number, cancellation)):
        return Reading(large=True, fixings=tuple(fixings))
    if batches := in_sections(rule.expression, number, cancellation):
        return Reading(large=True, forms=batches)
    form = read(rule.expression, number, cancellation) or read_panel(system, number)
    return Reading(large=True, forms=() if form is None else (form,))
