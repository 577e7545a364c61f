"""Find entries that can no longer differ though no rule ties them: several equations together make them equal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from affinet.analysis.findings.direct import Direct
from affinet.analysis.findings.looking import Group, Look
from affinet.analysis.lookup.entry_names import by_rules, named_columns
from affinet.analysis.lookup.tracing import relating
from affinet.blocks.block import Block
from affinet.language.calculus.terms import Integers

MOST_COPIES = 2**18
"""At most this many entries of one block are examined one by one."""
MOST_SHOWN = 6
"""Up to this many classes of one group are reported one by one; more are counted."""


@dataclass(frozen=True)
class Equal:
    """`entries` entries in `classes` classes that move together; `how` tells whether equal, opposite or in ratio."""

    where: str
    entries: int
    classes: int
    how: str
    rules: tuple[str, ...]

    def __str__(self) -> str:
        if self.classes == 1:
            subject = f"{self.where} can no longer differ ({self.entries:,} entries, {self.how})"
        else:
            summary = f"{self.entries:,} entries in {self.classes:,} classes can no longer differ within their class"
            subject = f"{summary}, such as {self.where} ({self.how})"
        does, loosened = ("does", "it") if len(self.rules) == 1 else ("do", "one of them")
        remedy = f"If that is not meant, loosen {loosened}."
        return f"{subject}: no equation ties them, but {by_rules(self.rules)} {does}. {remedy}"


def equal(look: Look) -> Iterator[Equal]:
    """One finding per class, or per group with many classes, of entries that no chain of two-entry equations ties."""
    for group in look.groups:
        if look.defines_weights(group.rules):
            continue
        tied = group.rows is None and _only_ties(look, group)
        if tied:
            continue
        label = None if group.rows is None else Direct.of(group.rows)
        classes = [
            (columns, how, rules)
            for block in group.blocks
            for columns, how, rules in _untied_classes(block, look, label)
        ]
        if not classes:
            continue
        if len(classes) <= MOST_SHOWN:
            for columns, how, rules in classes:
                yield _make_finding(look, columns, 1, len(columns), how, _find_reason(look, columns, rules))
        else:
            columns, how, rules = classes[0]
            hows = {how for _, how, _ in classes}
            how = hows.pop() if len(hows) == 1 else "equal, opposite or in ratio"
            total = sum(len(columns) for columns, _, _ in classes)
            yield _make_finding(look, columns, len(classes), total, how, _find_reason(look, columns, rules))


def _make_finding(look: Look, columns: Integers, classes: int, entries: int, how: str, rules: tuple[int, ...]) -> Equal:
    return Equal(named_columns(look.system.layout, np.sort(columns)), entries, classes, how, look.names(rules))


def _find_reason(look: Look, columns: Integers, rules: tuple[int, ...]) -> tuple[int, ...]:
    """The rules that make the first two entries of a class move together; `rules` if no factored component has both."""
    first, second = np.sort(columns)[:2].tolist()
    for component in look.components[0]:
        if np.isin([first, second], component.columns).all():
            return relating(component, second, first)
    return rules


def _only_ties(look: Look, group: Group) -> bool:
    """Whether every equation of the group reads at most two entries: then its rules state which entries are equal."""
    rules = (look.system.rules[rule] for rule in group.rules)
    return all(rule.pairs <= 2 * rule.equations for rule in rules)


def _untied_classes(block: Block, look: Look, direct: Direct | None) -> Iterator[tuple[Integers, str, tuple[int, ...]]]:
    """Columns, kind and rules of the classes whose entries are not all tied directly.

    `direct` is None where there were too many equations to write out. For equations that were eliminated one by one it
    is then unknown which entries are tied directly, and nothing is reported.
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
            yield columns[members], _phrase_relation(tied.scale[members], tied.shift[members]), tied.rules


def _phrase_relation(scale: np.ndarray, shift: np.ndarray) -> str:
    if (shift == shift[0]).all() and (scale == scale[0]).all():
        return "equal"
    if not shift.any() and (np.abs(scale) == np.abs(scale[0])).all():
        return "equal or opposite"
    return "in a fixed relation"
