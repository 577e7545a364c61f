"""What all findings look at: groups of rules that share blocks, and the equations of small groups, factored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from affinet.analysis.lookup.incidence import SMALL
from affinet.analysis.lookup.singular import Component, deepened, factored, uncounted
from affinet.analysis.lookup.together import groups_of, rank_of
from affinet.blocks.block import Block
from affinet.language.origin import Family, FamilyName
from affinet.planning.elimination.components import Giant, split
from affinet.system.distinct import distinct
from affinet.system.rows import Rows
from affinet.system.system import System

MEANT: frozenset[FamilyName] = frozenset(("equivariant", "subspace", "share", "moments"))
"""Families that say which set the weights lie in: what this makes zero or equal is what they are there for."""
MOST_PAIRS = 2**21
"""(equation, entry) pairs that are written out at most, of all groups together."""
MOST_WORK = 4e9
"""Products of numbers that the factors of all components take at most: some seconds."""
LARGEST = 600
"""Equations or entries of a component that is factored: half a second each."""


@dataclass(frozen=True, eq=False)
class Group:
    """Rules that share blocks. `rows` are their equations where they were written out, None where they are many."""

    rules: tuple[int, ...]
    blocks: tuple[Block, ...]
    rows: Rows | None


@dataclass(frozen=True, eq=False)
class Look:
    """A plan as the findings see it."""

    system: System
    blocks: tuple[Block, ...]

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The groups in the order of their rules; the smallest are written out first, while there is room."""
        found = [group for group in groups_of(len(self.system.rules), self.blocks) if group[1]]
        of_rule = [max(rule.pairs, rule.equations) for rule in self.system.rules]
        pairs = [sum(of_rule[rule] for rule in rules) for rules, _ in found]
        written, total = set[int](), 0
        for number in sorted(range(len(found)), key=pairs.__getitem__):
            total += pairs[number]
            if total > MOST_PAIRS or max(of_rule[rule] for rule in found[number][0]) > SMALL:
                continue
            written.add(number)
        return tuple(
            Group(tuple(rules), tuple(blocks), self.system.rows(rules) if number in written else None)
            for number, (rules, blocks) in enumerate(found)
        )

    @cached_property
    def components(self) -> tuple[tuple[Component, ...], tuple[int, ...]]:
        """The components that were factored, and the rules of those that were not."""
        found: list[Component] = []
        left: set[int] = set()
        work = 0.0
        for group in self.groups:
            if group.rows is None:
                continue
            used = group.rows.select(np.flatnonzero(group.rows.lengths > 0))
            own: list[Component] = []
            for batch in split(used, np.zeros(used.count), self.system.limits):
                if isinstance(batch, Giant):
                    left |= {int(k) for k in distinct(used.rule[batch.rows])}
                    continue
                k, r, n = batch.matrix.shape
                work += float(k) * r * n * min(r, n)
                if (max(r, n) > LARGEST and min(r, n) > 2) or work > MOST_WORK:
                    left |= {int(rule) for rule in distinct(used.rule[batch.rows].ravel())}
                    continue
                own += factored(batch, used, self.system.tolerance)
            missed = used.count - sum(len(component.rhs) for component in own)
            found += _as_planned(own, rank_of(group.blocks).low - missed)
        return tuple(found), tuple(sorted(left))

    def meant(self, rules: Sequence[int]) -> bool:
        """Whether all of these rules say which set the weights lie in, and so mean what follows from it."""
        origins = [self.system.rules[rule].origin for rule in rules]
        return all(isinstance(origin, Family) and origin.name in MEANT for origin in origins)

    def names(self, rules: Sequence[int]) -> tuple[str, ...]:
        """What reports call some rules."""
        return tuple(self.system.rules[rule].name for rule in rules)


def _as_planned(components: list[Component], rank: int) -> list[Component]:
    """The components of a group with as many independent equations as planning found in them, at the least.

    Planning eliminates, and tells equations apart by coefficients far too small for the singular values of all.
    """
    missing = rank - sum(component.rank for component in components)
    if missing <= 0:
        return components
    lost = [
        (float(size), place)
        for place, component in enumerate(components)
        if component.rank < len(component.sizes)
        for size in uncounted(component)
    ]
    extra = Counter(place for _, place in sorted(lost, reverse=True)[:missing])
    return [deepened(one, extra[place]) if extra[place] else one for place, one in enumerate(components)]
