"""Rules that say nothing beside the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from affinet.analysis.findings.looking import Group, Look
from affinet.analysis.findings.overlooked import Overlooked
from affinet.analysis.lookup.idle import holds_always, idle
from affinet.analysis.lookup.naming import cut, quoted
from affinet.analysis.lookup.singular import Component
from affinet.analysis.lookup.together import rank_of
from affinet.errors import TooLargeError
from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.compilation import compile_blocks
from affinet.planning.contradiction import Contradiction
from affinet.system import lapack

MOST_WORK = 3e9
"""Products of numbers that all least-squares problems take at most: some seconds."""
MOST_PLANS = 120
"""Plans of large regular rules that are made again without one of them: a millisecond or a few each."""
LARGEST_PLANNED = 2**16
"""Entries of irregular blocks up to which a group of large rules is planned again."""
MOST_OTHERS = 12
"""Other rules up to which those that are not needed are left out, one by one."""

FINE = 1e-8
"""Smallest singular value from which ten digits tell equations apart."""


@dataclass(frozen=True)
class Redundant:
    """A rule that follows from others wholly: dropping it changes nothing."""

    rule: str
    others: tuple[str, ...]

    def __str__(self) -> str:
        follow = f"follows from {quoted(self.others)}"
        return f'the rule "{cut(self.rule)}" {follow}: dropping it changes nothing. Was it meant to say something else?'


def redundant(look: Look) -> Iterator[Redundant | Overlooked]:
    """Of rules that follow from one another the later ones are told, so that the rest say all that was said."""
    alike = _Alike(look)
    yield from alike.found()
    for group in look.groups:
        if group.rows is None and len(group.rules) > 1:
            yield from _of_large(look, group)
    for rule in idle(look.system, look.blocks):
        if not holds_always(look.system, rule):
            yield _of_idle(look, rule)


class _Alike:
    """Components of small rules from which redundant rules are taken one by one; local to `redundant`."""

    def __init__(self, look: Look) -> None:
        self._look = look
        factored, left = look.components
        self._left = set(left)
        self._of: dict[int, list[Component]] = {}
        # A rule with an equation in a component of full rank is needed there, and most components are such.
        full = [component.rule for component in factored if component.rank == len(component.rhs)]
        needed = set(np.concatenate(full).tolist()) if full else set()
        for component in factored:
            if component.rank < len(component.rhs):
                for rule in component.rules:
                    self._of.setdefault(rule, []).append(component)
        self._open = [rule for rule in self._of if rule not in needed and rule not in self._left]
        self._gone: set[int] = set()
        self._work = 0.0
        self._labels: dict[int, Integers] = {}

    def found(self) -> Iterator[Redundant | Overlooked]:
        late = set[int]()
        for rule in sorted(self._open, reverse=True):
            if not self._spare(rule):
                continue
            sources = self._twins(rule)
            if sources is None and self._work > MOST_WORK:
                late.add(rule)
                continue
            if sources is None:
                sources = self._sources(rule, self._gone)
            if sources is not None:
                self._gone.add(rule)
                yield Redundant(self._look.names([rule])[0], self._look.names(self._fewer(rule, sources)))
        yield from self._overlooked(late)

    def _spare(self, rule: int) -> bool:
        """Whether planning counts as many redundant equations as the rule and those that are gone have together."""
        gone = [rule, *self._gone]
        return all(np.isin(one.rule, gone).sum() <= len(one.rhs) - one.rank for one in self._of[rule])

    def _overlooked(self, late: set[int]) -> Iterator[Overlooked]:
        """By group, less those of full rank (none of their rules can be redundant) and those of ties alone."""
        for group in self._look.groups:
            missed = sorted((self._left | late) & set(group.rules))
            if not missed:
                continue
            rules = [self._look.system.rules[rule] for rule in group.rules]
            spare = sum(rule.equations for rule in rules) > rank_of(group.blocks).low
            ties = all(rule.pairs <= 2 * rule.equations for rule in rules)
            if spare or not ties:
                what = "redundancy and near-redundancy" if spare else "near-redundancy"
                equations = sum(self._look.system.rules[rule].equations for rule in missed)
                yield Overlooked(self._look.names(missed), equations, what)

    def _twins(self, rule: int) -> list[int] | None:
        """Rules that say each equation of this one word for word, but for a factor; None where one has no such twin."""
        twins: set[int] = set()
        for component in self._of[rule]:
            if component.sizes[component.rank - 1] < FINE:
                return None
            if id(component) not in self._labels:
                self._labels[id(component)] = _labels(component.matrix)
            labels, own = self._labels[id(component)], component.rule == rule
            rest = np.flatnonzero(~own & ~np.isin(component.rule, list(self._gone)))
            first = dict(zip(labels[rest[::-1]].tolist(), component.rule[rest[::-1]].tolist(), strict=True))
            if not all(label in first for label in labels[own].tolist()):
                return None
            twins |= {int(first[label]) for label in labels[own].tolist()}
        return sorted(twins)

    def _sources(self, rule: int, without: set[int]) -> list[int] | None:
        """The rules that this one follows from, None where it does not."""
        sources: set[int] = set()
        for component in self._of[rule]:
            r, n = component.matrix.shape
            self._work += float(r) * n * min(r, n)
            own = component.rule == rule
            rest = ~own & ~np.isin(component.rule, list(without))
            if not rest.any():
                return None
            said, *_ = lapack.lstsq(component.matrix[rest].T, component.matrix[own].T, rcond=None)
            gap = component.matrix[own] - said.T @ component.matrix[rest]
            bound = self._look.system.tolerance.rank(*component.matrix.shape) * max(component.sizes[0], 1.0)
            # A rule that is needed is off by the smallest singular value at the least, spread over its equations.
            bound = min(bound, 0.5 * float(component.sizes[component.rank - 1]) / sqrt(own.sum()))
            if np.linalg.norm(gap, axis=1).max() > bound:
                return None
            used = np.abs(said).max(axis=1) > 1e-9
            sources |= {int(k) for k in component.rule[rest][used]}
        return sorted(sources)

    def _fewer(self, rule: int, sources: Sequence[int]) -> list[int]:
        """The sources less those that the others make up for."""
        needed = list(sources)
        everyone = {other for component in self._of[rule] for other in component.rules}
        for other in sources if len(sources) <= MOST_OTHERS and self._work <= MOST_WORK else ():
            fewer = [k for k in needed if k != other]
            if fewer and self._sources(rule, everyone - set(fewer) - {rule}) is not None:
                needed = fewer
        return needed


def _labels(matrix: Floats) -> Integers:
    """The same number for rows that are equal or opposite, to ten digits."""
    lead = np.take_along_axis(matrix, np.argmax(np.abs(matrix) > 1e-10, axis=1)[:, None], 1)
    labels: Integers = np.unique(np.round(matrix * np.sign(lead), 10), axis=0, return_inverse=True)[1].reshape(-1)
    return labels


def _of_large(look: Look, group: Group) -> Iterator[Redundant | Overlooked]:
    """Planned again without one rule: it is redundant where the rank stays."""
    rank = rank_of(group.blocks)
    spare = sum(look.system.rules[rule].equations for rule in group.rules) - rank.low
    candidates = [rule for rule in group.rules if look.system.rules[rule].equations <= spare]
    if not candidates:
        return
    irregular = sum(block.size for block in group.blocks if block.resolution().irregular)
    if rank.low < rank.high or irregular > LARGEST_PLANNED or len(candidates) * len(group.rules) > MOST_PLANS:
        equations = sum(look.system.rules[rule].equations for rule in group.rules)
        yield Overlooked(look.names(group.rules), equations, "redundancy")
        return
    alive = list(group.rules)
    for rule in reversed(candidates):
        rest = [k for k in alive if k != rule]
        if rest and _rank(look, rest) == rank.low:
            alive = rest
            yield Redundant(look.names([rule])[0], look.names(_needed(look, rule, rest)))


def _of_idle(look: Look, rule: int) -> Redundant | Overlooked:
    """A rule that planning dropped, for others say it; these speak of the same weights."""
    own = _weights(look, rule)
    near = [group for group in look.groups if any(own & _weights(look, k) for k in group.rules)]
    others = sorted({k for group in near for k in group.rules})
    if len(others) > MOST_OTHERS:
        return Overlooked(look.names([rule]), look.system.rules[rule].equations, "what says it already")
    return Redundant(look.names([rule])[0], look.names(_needed(look, rule, others)))


def _needed(look: Look, rule: int, others: list[int]) -> list[int]:
    """The others less those that the rest of them make up for."""
    needed = others
    for other in others if len(others) <= MOST_OTHERS else ():
        fewer = [k for k in needed if k != other]
        rank = _rank(look, fewer) if fewer else None
        if rank is not None and rank == _rank(look, [*fewer, rule]):
            needed = fewer
    return needed


def _weights(look: Look, rule: int) -> set[str]:
    return {term.parameter.name for term in look.system.rules[rule].expression.terms}


def _rank(look: Look, rules: Sequence[int]) -> int | None:
    """The rank of some of the rules, None where it is not known or they cannot be planned without the others."""
    try:
        blocks = compile_blocks(replace(look.system, rules=tuple(look.system.rules[rule] for rule in rules)))
    except (Contradiction, TooLargeError):
        return None
    rank = rank_of(blocks)
    return rank.low if rank.low == rank.high else None
