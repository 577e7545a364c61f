"""Find inequalities that hold only as equations, follow from others, leave almost no room, or have no effect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from affinet.analysis.findings.overlooked import Overlooked
from affinet.analysis.lookup.entry_names import by_rules, counted, cut, named_columns
from affinet.analysis.lookup.idle import holds_always, rules_without_block
from affinet.analysis.lookup.row_programs import RowProgram, Widest, follows, hold_as_equations, needed
from affinet.analysis.lookup.together import groups_of
from affinet.blocks.block import Block
from affinet.language.calculus.terms import Integers
from affinet.system.rows import Rows
from affinet.system.system import Rule, System

MOST_ROWS = 2_000
"""A group of rules with more inequalities is not looked at: it takes a linear program per row, a millisecond each."""
MOST_PAIRS = 2**18
"""The same for the (row, entry) pairs of its equations and inequalities."""
LITTLE_ROOM = 1e-4
"""Room that is less than this share of the right-hand sides is reported: a ten thousandth is rarely meant."""
RAYS = 8
"""Rays per inequality that are sent out of an inner point; each shows one inequality that is needed."""
MOST_SHOWN = 4
"""Rows of a rule that are named one by one."""


@dataclass(frozen=True)
class HoldAsEquations:
    """Inequalities that hold with equality wherever the rules have points: pairs of a rule and its rows."""

    rows: tuple[tuple[str, str], ...]
    where: str

    def __str__(self) -> str:
        parts = [f'{rows} of "{cut(rule)}"' for rule, rows in self.rows]
        listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
        return (
            f"{listed} leave no room and hold only as equations, for {self.where}. "
            f"If that is meant, say it with ==; else loosen one of them."
        )


@dataclass(frozen=True)
class FollowingInequalities:
    """Inequalities of a rule, `count` out of `out_of`, that hold wherever the other rows hold."""

    rule: str
    rows: str
    count: int
    out_of: int

    def __str__(self) -> str:
        if self.count == self.out_of:
            follow = "its inequality follows" if self.out_of == 1 else f"all of its {self.out_of:,} inequalities follow"
            return f'the rule "{cut(self.rule)}" can be dropped: {follow} from the other rows.'
        follow = "follows" if self.count == 1 else "follow"
        out_of = counted(self.out_of, "inequality")
        return (
            f'{self.rows} of "{cut(self.rule)}", {self.count:,} of {out_of}, {follow} from the other rows: '
            f"dropping {'it' if self.count == 1 else 'them'} changes nothing."
        )


@dataclass(frozen=True)
class NearlyEmpty:
    """Rules that leave room of `room` only, in units of rows of length one, where right-hand sides are about `size`."""

    where: str
    room: float
    size: float
    rules: tuple[str, ...]

    def __str__(self) -> str:
        leave = "leaves" if len(self.rules) == 1 else "leave"
        return (
            f"nearly contradictory: {by_rules(self.rules)} {leave} {self.where} hardly any room, {self.room:.1g} where "
            f"the right-hand sides are about {self.size:.3g}. Where a small slip in a bound is the reason, correct it; "
            f"if they are meant to meet, say it with ==."
        )


@dataclass(frozen=True)
class InequalityWithoutEffect:
    """An inequality that binds no trained weight; `reason` tells why."""

    rule: str
    reason: str

    def __str__(self) -> str:
        return f'the rule "{cut(self.rule)}" does nothing: {self.reason}.'


Finding = HoldAsEquations | FollowingInequalities | NearlyEmpty | InequalityWithoutEffect | Overlooked


def inequalities(system: System, blocks: Sequence[Block]) -> Iterator[Finding]:
    """All findings about inequalities; a group of rules that share blocks is read together with its equations."""
    for number in set(rules_without_block(system, blocks)).intersection(system.inequality_rules):
        yield from _without_block(system, number)
    for rules, members in groups_of(len(system.rules), blocks):
        sides = [number for number in rules if system.rules[number].sense != "==" and system.rules[number].norm is None]
        if not sides or not members:
            continue
        count = sum(system.rules[number].equations for number in sides)
        pairs = sum(max(system.rules[number].pairs, system.rules[number].equations) for number in rules)
        if count <= MOST_ROWS and pairs <= MOST_PAIRS:
            yield from _of_group(system, rules)
        elif len(sides) > 1 and not _bound_single_entries(system, sides):
            names = tuple(system.rules[number].name for number in sides)
            yield Overlooked(names, count, "inequalities that follow or leave no room", unit="inequality")


def _without_block(system: System, number: int) -> Iterator[Finding]:
    rule = system.rules[number]
    if rule.size is not None and not rule.expression.terms:
        yield InequalityWithoutEffect(rule.name, "all weights in it are frozen, at values that satisfy it")
    elif not rule.equations:
        yield InequalityWithoutEffect(rule.name, "it has no inequalities, as one of its axes has length 0")
    elif holds_always(system, number):
        yield InequalityWithoutEffect(rule.name, "it holds for every weight")
    else:
        yield FollowingInequalities(rule.name, "all", rule.equations, rule.equations)


def _bound_single_entries(system: System, numbers: Sequence[int]) -> bool:
    """Whether the rules are a lower and an upper bound of single entries, of which neither can follow."""
    rules = [system.rules[number] for number in numbers]
    return len(rules) == 2 and rules[0].sense != rules[1].sense and all(rule.pairs <= rule.equations for rule in rules)


def _of_group(system: System, rules: Sequence[int]) -> Iterator[Finding]:
    program = RowProgram.of(system, rules)
    following: list[Integers] = []
    random = np.random.default_rng(0)
    for rows in program.components():
        part = program.select(rows)
        tight, room = hold_as_equations(part, system.tolerance)
        if len(tight):
            where = named_columns(system.layout, np.unique(part.rows.select(tight).columns))
            yield HoldAsEquations(tuple(_named_rows(system, part.rows.select(tight))), where)
        if room is None or room.margin <= room.threshold:
            continue
        part = part.as_equations(tight)
        yield from _nearly_empty(system, part, room)
        following.append(rows[following_rows(part, room, system, random)])
    if following:
        rows_following = program.rows.select(np.sort(np.concatenate(following)))
        for number in np.unique(rows_following.rule):
            rule = system.rules[number]
            part_of_rule = rows_following.select(np.flatnonzero(rows_following.rule == number))
            if not _is_bound_of_ordered(rule, part_of_rule, program):
                in_words = _phrase_rows(rule, part_of_rule.index)
                yield FollowingInequalities(rule.name, in_words, part_of_rule.count, rule.equations)


def _is_bound_of_ordered(rule: Rule, following: Rows, program: RowProgram) -> bool:
    """Whether the rule bounds many entries by one number, and those whose bound follows are in order with others.

    Entries in order between bounds are written so: the bounds of all but the first or the last follow.
    """
    one_bound = rule.pairs <= rule.equations and isinstance(rule.expression.constant, float)
    if not one_bound or following.count == rule.equations:
        return False
    pairs = program.rows.select(np.flatnonzero(~program.is_equation & (program.rows.lengths == 2)))
    differences = pairs.select(np.flatnonzero(pairs.values[0::2] + pairs.values[1::2] == 0.0))
    return bool(np.isin(following.columns, differences.columns).all())


def _nearly_empty(system: System, part: RowProgram, room: Widest) -> Iterator[NearlyEmpty]:
    size = float(np.abs(part.rhs[room.support]).max(initial=0.0))
    if room.margin < LITTLE_ROOM * size:
        support = part.rows.select(room.support)
        names = tuple(system.rules[rule].name for rule in np.unique(support.rule))
        yield NearlyEmpty(named_columns(system.layout, np.unique(support.columns)), room.margin, size, names)


def following_rows(part: RowProgram, room: Widest, system: System, random: np.random.Generator) -> Integers:
    """Inequalities that follow from the other rows, the later ones first, so that the rest imply all."""
    open_rows = ~part.is_equation & ~needed(part, room.point, RAYS * part.rows.count, random)
    removed = np.zeros(part.rows.count, bool)
    for number in np.flatnonzero(open_rows)[::-1]:
        remaining = np.flatnonzero(~removed)
        if follows(part.select(remaining), int(np.searchsorted(remaining, number)), system.tolerance):
            removed[number] = True
    return np.flatnonzero(removed)


def _named_rows(system: System, rows: Rows) -> Iterator[tuple[str, str]]:
    """Each rule of the rows with its rows in words: `row 3`, `rows 0, 2, … (9)`, `[0, 3]`, or `the inequality`."""
    for number in np.unique(rows.rule):
        rule = system.rules[number]
        yield rule.name, _phrase_rows(rule, rows.index[rows.rule == number])


def _phrase_rows(rule: Rule, index: Integers) -> str:
    if rule.equations == 1:
        return "the inequality"
    if len(index) == rule.equations:
        return f"all {rule.equations:,} rows"
    places = [tuple(int(k) for k in np.unravel_index(place, rule.shape)) for place in index[:MOST_SHOWN].tolist()]
    words = [str(place[0]) if len(place) == 1 else f"[{', '.join(map(str, place))}]" for place in places]
    more = f", … ({len(index):,})" if len(index) > MOST_SHOWN else ""
    return f"{'row' if len(index) == 1 else 'rows'} {', '.join(words)}{more}"


__all__ = ["FollowingInequalities", "HoldAsEquations", "InequalityWithoutEffect", "NearlyEmpty", "inequalities"]
