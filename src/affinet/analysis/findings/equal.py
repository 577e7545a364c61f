"""Entries that can no longer differ, though no rule ties them: several equations do it together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from affinet.analysis.findings.direct import Direct
from affinet.analysis.findings.looking import Group, Look
from affinet.analysis.lookup.naming import by_rules, named_columns
from affinet.analysis.lookup.tracing import relating
from affinet.blocks.block import Block
from affinet.language.calculus.terms import Integers

MOST_COPIES = 2**18
"""Entries of one block that are looked at one by one."""
MOST_SHOWN = 6
"""Classes of one group that are found one by one; more are counted."""


@dataclass(frozen=True)
class Equal:
    """`entries` entries in `classes` classes that move together; `how` says whether equal, or opposite, or in ratio."""

    where: str
    entries: int
    classes: int
    how: str
    rules: tuple[str, ...]

    def __str__(self) -> str:
        if self.classes == 1:
            who = f"{self.where} can no longer differ ({self.entries:,} entries, {self.how})"
        else:
            some = f"{self.entries:,} entries in {self.classes:,} classes can no longer differ within their class"
            who = f"{some}, such as {self.where} ({self.how})"
        does, which = ("does", "it") if len(self.rules) == 1 else ("do", "one of them")
        return f"{who}: no equation ties them, but {by_rules(self.rules)} {does}. If that is not meant, loosen {which}."


def equal(look: Look) -> Iterator[Equal]:
    """By group: classes of the blocks that the equations of two entries, followed one to the next, do not make."""
    for group in look.groups:
        if look.meant(group.rules):
            continue
        tied = group.rows is None and _only_ties(look, group)
        if tied:
            continue
        label = None if group.rows is None else Direct.of(group.rows)
        found = [
            (columns, how, rules) for block in group.blocks for columns, how, rules in _classes(block, look, label)
        ]
        if not found:
            continue
        if len(found) <= MOST_SHOWN:
            for columns, how, rules in found:
                yield _said(look, columns, 1, len(columns), how, _reason(look, columns, rules))
        else:
            columns, how, rules = found[0]
            hows = {how for _, how, _ in found}
            how = hows.pop() if len(hows) == 1 else "equal, opposite or in ratio"
            total = sum(len(columns) for columns, _, _ in found)
            yield _said(look, columns, len(found), total, how, _reason(look, columns, rules))


def _said(look: Look, columns: Integers, classes: int, entries: int, how: str, rules: tuple[int, ...]) -> Equal:
    return Equal(named_columns(look.system.layout, np.sort(columns)), entries, classes, how, look.names(rules))


def _reason(look: Look, columns: Integers, rules: tuple[int, ...]) -> tuple[int, ...]:
    """The rules that make the first two entries of a class move together, where their equations were factored."""
    first, second = np.sort(columns)[:2].tolist()
    for component in look.components[0]:
        if np.isin([first, second], component.columns).all():
            return relating(component, second, first)
    return rules


def _only_ties(look: Look, group: Group) -> bool:
    """Whether every equation of the group is about two entries at most: what is equal then was said to be."""
    rules = (look.system.rules[rule] for rule in group.rules)
    return all(rule.pairs <= 2 * rule.equations for rule in rules)


def _classes(block: Block, look: Look, direct: Direct | None) -> Iterator[tuple[Integers, str, tuple[int, ...]]]:
    """Columns, kind and rules of the classes whose entries are not all tied outright.

    Where the equations were too many to write out, `direct` is None: of equations that were eliminated one by one it is
    then unknown which tie their entries outright, and none is reported.
    """
    if direct is None and block.resolution().irregular:
        return
    for tied in block.tied(MOST_COPIES):
        columns = block.entries.columns(tied.places, look.system.layout)
        linked = np.diff(tied.bounds) > 1
        if direct is not None:
            labels = direct.label(columns)
            low, high = (bound.reduceat(labels, tied.bounds[:-1]) for bound in (np.minimum, np.maximum))
            linked = low < high
        for number in np.flatnonzero(linked):
            members = slice(tied.bounds[number], tied.bounds[number + 1])
            yield columns[members], _how(tied.scale[members], tied.shift[members]), tied.rules


def _how(scale: np.ndarray, shift: np.ndarray) -> str:
    if (shift == shift[0]).all() and (scale == scale[0]).all():
        return "equal"
    if not shift.any() and (np.abs(scale) == np.abs(scale[0])).all():
        return "equal or opposite"
    return "in a fixed relation"
