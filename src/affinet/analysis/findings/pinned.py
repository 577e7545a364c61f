"""Entries that can take one value only, though no rule says so of them alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from affinet.analysis.findings.direct import Direct
from affinet.analysis.findings.looking import Group, Look
from affinet.analysis.lookup.incidence import Incidence
from affinet.analysis.lookup.naming import by_rules, named
from affinet.analysis.lookup.singular import Component
from affinet.analysis.lookup.tracing import deciding, nearby
from affinet.language.calculus.terms import Floats, Integers

MOST_LISTED = 2**20
"""Entries of one block that are looked at one by one."""
MOST_SOLVED = 8
"""Entries of one block of large rules of which the equations nearby are solved."""
MOST_TRACED = 64
"""Entries of one component of which the rules are found one by one; more are named by the component's rules."""


@dataclass(frozen=True)
class Pinned:
    """Entries of one weight that the rules leave no choice; `value` is theirs where they share one."""

    weight: str
    where: str
    entries: int
    value: float | None
    rules: tuple[str, ...]

    def __str__(self) -> str:
        one = self.entries == 1
        value = f"one value{'' if one else ' each'}" if self.value is None else f"the value {self.value:.6g}"
        leave, which = ("leaves", "the rule") if len(self.rules) == 1 else ("leave", "one of them")
        said = (
            ""
            if self.value is None
            else f" ({self.where if '…' not in self.where else 'the entries'} == {self.value:.6g})"
        )
        return (
            f"{self.where} can only take {value}: {by_rules(self.rules)} {leave} {'it' if one else 'them'} no choice. "
            f"If that is meant, say it as a rule of its own{said}; else loosen {which}."
        )


def pinned(look: Look, apart: frozenset[str]) -> Iterator[Pinned]:
    """By block; weights named in `apart` are told of as a whole elsewhere. Rules of small groups are traced."""
    traced, incidence = _by_column(look), Incidence(look.system)
    for group in look.groups:
        outright = None if look.meant(group.rules) else _outright(look, group)
        if outright is None:
            continue
        direct = Direct.of(group.rows) if group.rows is not None else None
        found: dict[tuple[int, tuple[int, ...]], list[tuple[Integers, Floats]]] = {}
        for block in group.blocks:
            places, values = block.determined(MOST_LISTED)
            columns = block.entries.columns(places, look.system.layout)
            left = ~np.isin(columns, outright)
            if direct is not None:
                left &= ~np.isin(direct.label(columns), direct.label(outright))
            if group.rows is None:
                left &= ~_said_alone(incidence, columns)
            untraced = block.rules if group.rows is not None else _deciding(incidence, columns[left], block.rules)
            for rules, some in _causes(columns[left], traced, untraced):
                at = np.flatnonzero(left)[some]
                for parameter, own, _ in look.system.layout.split(columns[at]):
                    if parameter.name not in apart and not look.meant(rules):
                        number = look.system.layout.number(int(columns[at[own[0]]]))
                        found.setdefault((number, rules), []).append((columns[at[own]], values[at[own]]))
        yield from _told(look, found)


def _told(look: Look, found: dict[tuple[int, tuple[int, ...]], list[tuple[Integers, Floats]]]) -> Iterator[Pinned]:
    for (number, rules), pieces in found.items():
        parameter, start = look.system.layout.parameters[number], look.system.layout.starts[number]
        columns = np.concatenate([columns for columns, _ in pieces]) - start
        values = np.concatenate([values for _, values in pieces])
        one = float(values[0]) if np.isclose(values, values[0], rtol=1e-9, atol=1e-12).all() else None
        where = named(parameter, columns)
        yield Pinned(parameter.name, where, len(np.unique(columns)), one, look.names(rules))


def _by_column(look: Look) -> dict[int, Component]:
    """Components that determine an entry, by that entry's column."""
    found = {}
    for component in look.components[0]:
        if len(component.rhs) == 1 < len(component.columns):
            continue
        lengths = np.einsum("rn,rn->n", component.basis, component.basis)
        for place in np.flatnonzero(lengths > 1.0 - 1e-9):
            found[int(component.columns[place])] = component
    return found


def _causes(
    columns: Integers, traced: dict[int, Component], rules: tuple[int, ...]
) -> Iterable[tuple[tuple[int, ...], Integers]]:
    """Places in `columns` by the rules that determine the entries there."""
    causes: dict[tuple[int, ...], list[int]] = {}
    asked: dict[int, int] = {}
    for place, column in enumerate(columns.tolist()):
        component = traced.get(column)
        own = rules
        if component is not None:
            asked[id(component)] = asked.get(id(component), 0) + 1
            own = component.rules
            if len(own) > 1 and asked[id(component)] <= MOST_TRACED:
                own = component.saying((component.columns == column).astype(np.float64))
        causes.setdefault(own, []).append(place)
    return [(own, np.array(places, np.int64)) for own, places in causes.items()]


def _deciding(incidence: Incidence, columns: Integers, rules: tuple[int, ...]) -> tuple[int, ...]:
    """The rules that determine entries of a block of large rules, as far as the equations near some of them tell.

    `rules` are those that touch the block's entries, and an entry is also what rules about others leave of it.
    """
    found = set[int]()
    for column in columns[np.linspace(0, len(columns) - 1, min(len(columns), MOST_SOLVED)).astype(np.int64)].tolist():
        component = nearby(incidence, column)
        if component is None:
            return rules
        found |= set(deciding(component, column))
    return tuple(sorted(found)) or rules


def _outright(look: Look, group: Group) -> Integers | None:
    """Columns that an equation of one entry speaks of; None where all equations of the group are such."""
    if all(_single(look, rule) for rule in group.rules):
        return None
    if group.rows is not None:
        single = group.rows.select(np.flatnonzero(group.rows.lengths == 1))
        return single.columns
    own, total = [], 0
    for rule in group.rules:
        if _single(look, rule) and total + look.system.rules[rule].pairs <= MOST_LISTED:
            own.append(rule)
            total += look.system.rules[rule].pairs
    return look.system.rows(own).columns


def _said_alone(incidence: Incidence, columns: Integers) -> np.ndarray:
    """Whether an equation of large rules is about an entry alone, or about one that it is tied to.

    Of many entries some are looked at, evenly spread. Where an equation is about one of these alone, all others count
    as said alone too: rather too little is told than something that was meant.
    """
    some = np.unique(np.linspace(0, max(len(columns) - 1, 0), min(len(columns), MOST_TRACED)).astype(np.int64))
    alone = np.array(
        [
            _alone(incidence, column) or any(_alone(incidence, other) for other in _tied(incidence, column))
            for column in columns[some].tolist()
        ],
        bool,
    )
    every = np.full(len(columns), bool(alone.any()))
    every[some] = alone
    return every


def _alone(incidence: Incidence, column: int) -> bool:
    return any(len(incidence.equation(*key).columns) == 1 for key in incidence.of(column)[:MOST_TRACED])


def _tied(incidence: Incidence, column: int) -> list[int]:
    """Entries that an equation of two entries ties to this one."""
    pairs = (incidence.equation(*key).columns for key in incidence.of(column)[:MOST_TRACED])
    return [int(pair.sum()) - column for pair in pairs if len(pair) == 2]


def _single(look: Look, rule: int) -> bool:
    return look.system.rules[rule].pairs <= look.system.rules[rule].equations
