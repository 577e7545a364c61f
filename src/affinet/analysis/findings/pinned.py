"""Find entries that can take one value only, though no equation fixes them by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from affinet.analysis.findings.direct import Direct
from affinet.analysis.findings.looking import Group, Look
from affinet.analysis.lookup.entry_names import by_rules, named
from affinet.analysis.lookup.incidence import Incidence
from affinet.analysis.lookup.singular import Component
from affinet.analysis.lookup.tracing import deciding, nearby
from affinet.language.calculus.terms import Floats, Integers

MOST_LISTED = 2**20
"""At most this many entries of one block are examined one by one."""
MOST_SOLVED = 8
"""For at most this many entries of a block of large rules the nearby equations are solved."""
MOST_TRACED = 64
"""Up to this many entries of one component are traced to their rules; the others name all rules of the component."""


@dataclass(frozen=True)
class Pinned:
    """Entries of one weight that the rules determine; `value` is their value if they all have the same."""

    weight: str
    where: str
    entries: int
    value: float | None
    rules: tuple[str, ...]

    def __str__(self) -> str:
        one_entry = self.entries == 1
        value = f"one value{'' if one_entry else ' each'}" if self.value is None else f"the value {self.value:.6g}"
        them = "it" if one_entry else "them"
        them = "it" if one_entry else "them"
        leave, loosened = ("leaves", "the rule") if len(self.rules) == 1 else ("leave", "one of them")
        example = (
            ""
            if self.value is None
            else f" ({self.where if '…' not in self.where else 'the entries'} == {self.value:.6g})"
        )
        return (
            f"{self.where} can only take {value}: {by_rules(self.rules)} {leave} {them} no choice. "
            f"If that is meant, say it as a rule of its own{example}; else loosen {loosened}."
        )


def pinned(look: Look, reported_weights: frozenset[str]) -> Iterator[Pinned]:
    """Findings by block. Weights named in `reported_weights` have another finding. Rules of small groups are traced."""
    traced, incidence = _determining_components(look), Incidence(look.system)
    for group in look.groups:
        outright = None if look.defines_weights(group.rules) else _columns_fixed_outright(look, group)
        if outright is None:
            continue
        direct = Direct.of(group.rows) if group.rows is not None else None
        pieces: dict[tuple[int, tuple[int, ...]], list[tuple[Integers, Floats]]] = {}
        for block in group.blocks:
            places, values = block.determined(MOST_LISTED)
            columns = block.entries.columns(places, look.system.layout)
            unexplained = ~np.isin(columns, outright)
            if direct is not None:
                unexplained &= ~np.isin(direct.label(columns), direct.label(outright))
            if group.rows is None:
                unexplained &= ~_fixed_by_single_equation(incidence, columns)
            untraced = (
                block.rules
                if group.rows is not None
                else _find_deciding_rules(incidence, columns[unexplained], block.rules)
            )
            for rules, members in _group_by_cause(columns[unexplained], traced, untraced):
                at = np.flatnonzero(unexplained)[members]
                for parameter, positions, _ in look.system.layout.split(columns[at]):
                    if parameter.name not in reported_weights and not look.defines_weights(rules):
                        number = look.system.layout.number(int(columns[at[positions[0]]]))
                        pieces.setdefault((number, rules), []).append((columns[at[positions]], values[at[positions]]))
        yield from _report_pinned(look, pieces)


def _report_pinned(
    look: Look, pinned_entries: dict[tuple[int, tuple[int, ...]], list[tuple[Integers, Floats]]]
) -> Iterator[Pinned]:
    for (number, rules), pieces in pinned_entries.items():
        parameter, start = look.system.layout.parameters[number], look.system.layout.starts[number]
        columns = np.concatenate([columns for columns, _ in pieces]) - start
        values = np.concatenate([values for _, values in pieces])
        value = float(values[0]) if np.isclose(values, values[0], rtol=1e-9, atol=1e-12).all() else None
        where = named(parameter, columns)
        yield Pinned(parameter.name, where, len(np.unique(columns)), value, look.names(rules))


def _determining_components(look: Look) -> dict[int, Component]:
    """Components that determine an entry, by that entry's column."""
    by_column = {}
    for component in look.components[0]:
        if len(component.rhs) == 1 < len(component.columns):
            continue
        lengths = np.einsum("rn,rn->n", component.basis, component.basis)
        for place in np.flatnonzero(lengths > 1.0 - 1e-9):
            by_column[int(component.columns[place])] = component
    return by_column


def _group_by_cause(
    columns: Integers, traced: dict[int, Component], rules: tuple[int, ...]
) -> Iterable[tuple[tuple[int, ...], Integers]]:
    """Places in `columns` by the rules that determine the entries there."""
    causes: dict[tuple[int, ...], list[int]] = {}
    solved: dict[int, int] = {}
    for place, column in enumerate(columns.tolist()):
        component = traced.get(column)
        causing = rules
        if component is not None:
            solved[id(component)] = solved.get(id(component), 0) + 1
            causing = component.rules
            if len(causing) > 1 and solved[id(component)] <= MOST_TRACED:
                causing = component.rules_behind((component.columns == column).astype(np.float64))
        causes.setdefault(causing, []).append(place)
    return [(causing, np.array(places, np.int64)) for causing, places in causes.items()]


def _find_deciding_rules(incidence: Incidence, columns: Integers, rules: tuple[int, ...]) -> tuple[int, ...]:
    """The rules that determine entries of a block of large rules, found from the equations near a sample of them.

    `rules` are those that read the block's entries. Rules about other entries can determine an entry too.
    """
    decisive = set[int]()
    for column in columns[np.linspace(0, len(columns) - 1, min(len(columns), MOST_SOLVED)).astype(np.int64)].tolist():
        component = nearby(incidence, column)
        if component is None:
            return rules
        decisive |= set(deciding(component, column))
    return tuple(sorted(decisive)) or rules


def _columns_fixed_outright(look: Look, group: Group) -> Integers | None:
    """Columns that are in an equation of one entry; None where all equations of the group are of one entry."""
    if all(_has_single_entries(look, rule) for rule in group.rules):
        return None
    if group.rows is not None:
        single = group.rows.select(np.flatnonzero(group.rows.lengths == 1))
        return single.columns
    chosen, total = [], 0
    for rule in group.rules:
        if _has_single_entries(look, rule) and total + look.system.rules[rule].pairs <= MOST_LISTED:
            chosen.append(rule)
            total += look.system.rules[rule].pairs
    return look.system.rows(chosen).columns


def _fixed_by_single_equation(incidence: Incidence, columns: Integers) -> np.ndarray:
    """Whether an equation of large rules fixes an entry by itself, or fixes an entry that it is tied to.

    Of many entries an evenly spread sample is examined. If an equation fixes one of these by itself, all other entries
    count as fixed so too: a missed finding is better than one about intended values.
    """
    sampled = np.unique(np.linspace(0, max(len(columns) - 1, 0), min(len(columns), MOST_TRACED)).astype(np.int64))
    single = np.array(
        [
            _in_single_equation(incidence, column)
            or any(_in_single_equation(incidence, other) for other in _tied_entries(incidence, column))
            for column in columns[sampled].tolist()
        ],
        bool,
    )
    every = np.full(len(columns), bool(single.any()))
    every[sampled] = single
    return every


def _in_single_equation(incidence: Incidence, column: int) -> bool:
    return any(len(incidence.equation(*key).columns) == 1 for key in incidence.of(column)[:MOST_TRACED])


def _tied_entries(incidence: Incidence, column: int) -> list[int]:
    """Entries that an equation of two entries ties to this one."""
    pairs = (incidence.equation(*key).columns for key in incidence.of(column)[:MOST_TRACED])
    return [int(pair.sum()) - column for pair in pairs if len(pair) == 2]


def _has_single_entries(look: Look, rule: int) -> bool:
    return look.system.rules[rule].pairs <= look.system.rules[rule].equations
