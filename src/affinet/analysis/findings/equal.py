"""Entries that can no longer differ, though no rule ties them: several equations do it together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from affinet.analysis.findings.direct import Direct
from affinet.analysis.findings.looking import Group, Look
from affinet.analysis.lookup.naming import by_rules, named_columns
from affinet.analysis.lookup.tracing import relating
from affinet.blocks.bordered import Bordered
from affinet.blocks.dense import Dense
from affinet.blocks.joined import Joined
from affinet.blocks.kinds import Block
from affinet.blocks.product import Product
from affinet.blocks.slices import Slices
from affinet.blocks.sparse import Sparse
from affinet.blocks.ties import Ties
from affinet.language.calculus.terms import Integers
from affinet.system.layout import Layout

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
    match block:
        case Ties() | Dense() | Sparse():
            if direct is None or block.size > MOST_COPIES:
                return
            columns = block.entries.columns(np.arange(block.size), look.system.layout)
            yield from _of_classes(block, columns, direct.label(columns))
        case Slices():
            yield from _copied(block, partial(block.entries.columns, layout=look.system.layout), direct)
        case Product():
            for part in block.slices:
                yield from _copied(part, partial(part.entries.columns, layout=look.system.layout), direct)
        case Joined():
            for part in block.parts:
                yield from _copied(part, partial(_columns_within, block, part, look.system.layout), direct)
        case Bordered():
            for base in block.bases:
                yield from _classes(base, look, direct)


def _columns_within(block: Joined, part: Slices, layout: Layout, at: Integers) -> Integers:
    """The columns of places of slices of the matrix of a block."""
    return block.entries.columns(part.entries.columns(at, Layout((block.matrix,))), layout)


def _of_classes(
    block: Ties | Dense | Sparse, columns: Integers, labels: Integers
) -> Iterator[tuple[Integers, str, tuple[int, ...]]]:
    """Classes whose entries have several labels."""
    own, classes = block.classes.class_of, block.classes
    order = np.argsort(own, kind="stable")
    bounds = np.concatenate([np.searchsorted(own[order], np.arange(classes.count)), [len(own)]])
    low = np.minimum.reduceat(labels[order], bounds[:-1])
    high = np.maximum.reduceat(labels[order], bounds[:-1])
    scale, shift = (np.broadcast_to(part, own.shape) for part in (classes.scale, classes.shift))
    for number in np.flatnonzero(low < high):
        members = order[bounds[number] : bounds[number + 1]]
        yield columns[members], _how(scale[members], shift[members]), block.rules


def _copied(
    block: Slices, columns: Callable[[Integers], Integers], direct: Direct | None
) -> Iterator[tuple[Integers, str, tuple[int, ...]]]:
    """Classes of places that are the same in every cell: those of the first cell tell whether they were tied.

    `columns` are those of the places of the slices.
    """
    if not len(block.copies) or block.outer.size * (len(block.copies) + 1) > MOST_COPIES:
        return
    for root in np.unique(block.copies[:, 1]):
        own = block.copies[block.copies[:, 1] == root]
        places = np.concatenate([[root], own[:, 0]])
        if direct is None or len(np.unique(direct.label(columns(places)))) == 1:
            continue
        how = "equal" if (own[:, 2] > 0).all() else "equal or opposite"
        for cell in range(block.outer.size):
            yield columns(cell * block.inner.size + places), how, block.rules


def _how(scale: np.ndarray, shift: np.ndarray) -> str:
    if (shift == shift[0]).all() and (scale == scale[0]).all():
        return "equal"
    if not shift.any() and (np.abs(scale) == np.abs(scale[0])).all():
        return "equal or opposite"
    return "in a fixed relation"
