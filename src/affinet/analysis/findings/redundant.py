"""Find rules that follow from the other rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from affinet.analysis.findings.looking import Group, Look
from affinet.analysis.findings.overlooked import Overlooked
from affinet.analysis.lookup.entry_names import cut, quoted
from affinet.analysis.lookup.idle import holds_always, rules_without_block
from affinet.analysis.lookup.singular import Component
from affinet.analysis.lookup.together import rank_of
from affinet.errors import TooLargeError
from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.compilation import compile_blocks
from affinet.planning.contradiction import Contradiction
from affinet.system import lapack

MOST_WORK = 3e9
"""Multiplications that all least-squares problems may take: some seconds."""
MOST_PLANS = 120
"""At most this many plans of large regular rules are made again without one of them, at a few milliseconds each."""
LARGEST_PLANNED = 2**16
"""A group of large rules is planned again if its irregular blocks have at most this many entries."""
MOST_OTHERS = 12
"""Among at most this many other rules, those that are not needed are dropped from the list one by one."""

FINE = 1e-8
"""Smallest singular value at which ten digits still distinguish equations."""


@dataclass(frozen=True)
class Redundant:
    """A rule all of whose equations follow from other rules: dropping it changes nothing."""

    rule: str
    others: tuple[str, ...]

    def __str__(self) -> str:
        follow = f"follows from {quoted(self.others)}"
        return f'the rule "{cut(self.rule)}" {follow}: dropping it changes nothing. Was it meant to say something else?'


def redundant(look: Look) -> Iterator[Redundant | Overlooked]:
    """Of rules that follow from one another the later ones are reported, so that the remaining ones imply all rules."""
    components = _SmallComponents(look)
    yield from components.findings()
    for group in look.groups:
        if group.rows is None and len(group.rules) > 1:
            yield from _check_large_group(look, group)
    for rule in rules_without_block(look.system, look.blocks):
        if not holds_always(look.system, rule):
            yield _check_dropped_rule(look, rule)


class _SmallComponents:
    """Components of small rules from which redundant rules are removed one by one; local to `redundant`."""

    def __init__(self, look: Look) -> None:
        self._look = look
        factored, skipped = look.components
        self._skipped = set(skipped)
        self._of: dict[int, list[Component]] = {}
        # A rule with an equation in a component of full rank is needed there, and most components have full rank.
        full = [component.rule for component in factored if component.rank == len(component.rhs)]
        needed = set(np.concatenate(full).tolist()) if full else set()
        for component in factored:
            if component.rank < len(component.rhs):
                for rule in component.rules:
                    self._of.setdefault(rule, []).append(component)
        self._open = [rule for rule in self._of if rule not in needed and rule not in self._skipped]
        self._removed: set[int] = set()
        self._work = 0.0
        self._labels: dict[int, Integers] = {}

    def findings(self) -> Iterator[Redundant | Overlooked]:
        late = set[int]()
        for rule in sorted(self._open, reverse=True):
            if not self._is_spare(rule):
                continue
            sources = self._find_twins(rule)
            if sources is None and self._work > MOST_WORK:
                late.add(rule)
                continue
            if sources is None:
                sources = self._find_sources(rule, self._removed)
            if sources is not None:
                self._removed.add(rule)
                yield Redundant(self._look.names([rule])[0], self._look.names(self._drop_sources(rule, sources)))
        yield from self._skipped_checks(late)

    def _is_spare(self, rule: int) -> bool:
        """Whether planning counts at least as many redundant equations as this rule and the removed ones have."""
        removed = [rule, *self._removed]
        return all(
            np.isin(component.rule, removed).sum() <= len(component.rhs) - component.rank
            for component in self._of[rule]
        )

    def _skipped_checks(self, late: set[int]) -> Iterator[Overlooked]:
        """Skipped checks by group, except groups that have full rank (no rule is redundant) and consist of ties."""
        for group in self._look.groups:
            unchecked = sorted((self._skipped | late) & set(group.rules))
            if not unchecked:
                continue
            rules = [self._look.system.rules[rule] for rule in group.rules]
            spare = sum(rule.equations for rule in rules) > rank_of(group.blocks).low
            ties = all(rule.pairs <= 2 * rule.equations for rule in rules)
            if spare or not ties:
                what = "redundancy and near-redundancy" if spare else "near-redundancy"
                equations = sum(self._look.system.rules[rule].equations for rule in unchecked)
                yield Overlooked(self._look.names(unchecked), equations, what)

    def _find_twins(self, rule: int) -> list[int] | None:
        """Rules that repeat every equation of this rule up to a factor; None if an equation is not repeated."""
        twins: set[int] = set()
        for component in self._of[rule]:
            if component.sizes[component.rank - 1] < FINE:
                return None
            if id(component) not in self._labels:
                self._labels[id(component)] = _label_rows(component.matrix)
            labels, of_rule = self._labels[id(component)], component.rule == rule
            remaining = np.flatnonzero(~of_rule & ~np.isin(component.rule, list(self._removed)))
            first = dict(zip(labels[remaining[::-1]].tolist(), component.rule[remaining[::-1]].tolist(), strict=True))
            if not all(label in first for label in labels[of_rule].tolist()):
                return None
            twins |= {int(first[label]) for label in labels[of_rule].tolist()}
        return sorted(twins)

    def _find_sources(self, rule: int, without: set[int]) -> list[int] | None:
        """The rules from which this rule follows, None if it does not follow."""
        sources: set[int] = set()
        for component in self._of[rule]:
            r, n = component.matrix.shape
            self._work += float(r) * n * min(r, n)
            of_rule = component.rule == rule
            remaining = ~of_rule & ~np.isin(component.rule, list(without))
            if not remaining.any():
                return None
            combination, *_ = lapack.lstsq(component.matrix[remaining].T, component.matrix[of_rule].T, rcond=None)
            gap = component.matrix[of_rule] - combination.T @ component.matrix[remaining]
            bound = self._look.system.tolerance.rank(*component.matrix.shape) * max(component.sizes[0], 1.0)
            # The gap of a rule that is needed is at least the smallest singular value, spread over its equations.
            bound = min(bound, 0.5 * float(component.sizes[component.rank - 1]) / sqrt(of_rule.sum()))
            if np.linalg.norm(gap, axis=1).max() > bound:
                return None
            used = np.abs(combination).max(axis=1) > 1e-9
            sources |= {int(k) for k in component.rule[remaining][used]}
        return sorted(sources)

    def _drop_sources(self, rule: int, sources: Sequence[int]) -> list[int]:
        """The sources without those that are not needed."""
        needed = list(sources)
        everyone = {other for component in self._of[rule] for other in component.rules}
        for other in sources if len(sources) <= MOST_OTHERS and self._work <= MOST_WORK else ():
            fewer = [k for k in needed if k != other]
            if fewer and self._find_sources(rule, everyone - set(fewer) - {rule}) is not None:
                needed = fewer
        return needed


def _label_rows(matrix: Floats) -> Integers:
    """Labels of rows: equal for rows that are equal or opposite to ten digits."""
    lead = np.take_along_axis(matrix, np.argmax(np.abs(matrix) > 1e-10, axis=1)[:, None], 1)
    labels: Integers = np.unique(np.round(matrix * np.sign(lead), 10), axis=0, return_inverse=True)[1].reshape(-1)
    return labels


def _check_large_group(look: Look, group: Group) -> Iterator[Redundant | Overlooked]:
    """Plan a group again without each rule: the rule is redundant if the rank stays."""
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
        remaining = [k for k in alive if k != rule]
        if remaining and _plan_rank(look, remaining) == rank.low:
            alive = remaining
            yield Redundant(look.names([rule])[0], look.names(_drop_unneeded(look, rule, remaining)))


def _check_dropped_rule(look: Look, rule: int) -> Redundant | Overlooked:
    """The finding for a rule that planning dropped because rules about the same weights imply it."""
    weights = _weight_names(look, rule)
    neighbours = [group for group in look.groups if any(weights & _weight_names(look, k) for k in group.rules)]
    candidates = sorted({k for group in neighbours for k in group.rules})
    if len(candidates) > MOST_OTHERS:
        return Overlooked(look.names([rule]), look.system.rules[rule].equations, "what says it already")
    return Redundant(look.names([rule])[0], look.names(_drop_unneeded(look, rule, candidates)))


def _drop_unneeded(look: Look, rule: int, candidates: list[int]) -> list[int]:
    """The candidates without those that are not needed to imply the rule."""
    needed = candidates
    for other in candidates if len(candidates) <= MOST_OTHERS else ():
        fewer = [k for k in needed if k != other]
        rank = _plan_rank(look, fewer) if fewer else None
        if rank is not None and rank == _plan_rank(look, [*fewer, rule]):
            needed = fewer
    return needed


def _weight_names(look: Look, rule: int) -> set[str]:
    return {term.parameter.name for term in look.system.rules[rule].expression.terms}


def _plan_rank(look: Look, rules: Sequence[int]) -> int | None:
    """The rank of these rules, None where it is not known or they cannot be planned without the others."""
    try:
        blocks = compile_blocks(replace(look.system, rules=tuple(look.system.rules[rule] for rule in rules)))
    except (Contradiction, TooLargeError):
        return None
    rank = rank_of(blocks)
    return rank.low if rank.low == rank.high else None
