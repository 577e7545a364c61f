"""A view of the plan that all findings share: groups of rules with common blocks, and factored small components."""

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

DEFINING_FAMILIES: frozenset[FamilyName] = frozenset(("equivariant", "subspace", "share", "moments"))
"""Families that state the set in which weights lie: entries that they make zero or equal are intended."""
MOST_PAIRS = 2**21
"""At most this many (equation, entry) pairs are written out, summed over all groups."""
MOST_WORK = 4e9
"""Multiplications that factoring all components may take: some seconds."""
LARGEST = 600
"""Components with more equations or entries are not factored; one of this size takes half a second."""


@dataclass(frozen=True, eq=False)
class Group:
    """Rules that share blocks. `rows` are their equations if they were written out, None if there are too many."""

    rules: tuple[int, ...]
    blocks: tuple[Block, ...]
    rows: Rows | None


@dataclass(frozen=True, eq=False)
class Look:
    """A plan with its groups of rules and factored components, computed when a finding first needs them."""

    system: System
    blocks: tuple[Block, ...]

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The groups in the order of their rules; the smallest are written out first, while there is room."""
        shared = [group for group in groups_of(len(self.system.rules), self.blocks) if group[1]]
        of_rule = [max(rule.pairs, rule.equations) for rule in self.system.rules]
        pairs = [sum(of_rule[rule] for rule in rules) for rules, _ in shared]
        written, total = set[int](), 0
        for number in sorted(range(len(shared)), key=pairs.__getitem__):
            total += pairs[number]
            if total > MOST_PAIRS or max(of_rule[rule] for rule in shared[number][0]) > SMALL:
                continue
            written.add(number)
        return tuple(
            Group(tuple(rules), tuple(blocks), self.system.rows(rules) if number in written else None)
            for number, (rules, blocks) in enumerate(shared)
        )

    @cached_property
    def components(self) -> tuple[tuple[Component, ...], tuple[int, ...]]:
        """The components that were factored, and the rules of those that were not."""
        components: list[Component] = []
        skipped: set[int] = set()
        work = 0.0
        for group in self.groups:
            if group.rows is None:
                continue
            used = group.rows.select(np.flatnonzero(group.rows.lengths > 0))
            group_components: list[Component] = []
            for batch in split(used, np.zeros(used.count), self.system.limits):
                if isinstance(batch, Giant):
                    skipped |= {int(k) for k in distinct(used.rule[batch.rows])}
                    continue
                k, r, n = batch.matrix.shape
                work += float(k) * r * n * min(r, n)
                if (max(r, n) > LARGEST and min(r, n) > 2) or work > MOST_WORK:
                    skipped |= {int(rule) for rule in distinct(used.rule[batch.rows].ravel())}
                    continue
                group_components += factored(batch, used, self.system.tolerance)
            unfactored = used.count - sum(len(component.rhs) for component in group_components)
            components += _as_planned(group_components, rank_of(group.blocks).low - unfactored)
        return tuple(components), tuple(sorted(skipped))

    def defines_weights(self, rules: Sequence[int]) -> bool:
        """Whether all of these rules state the set in which weights lie, so that its consequences are intended."""
        origins = [self.system.rules[rule].origin for rule in rules]
        return all(isinstance(origin, Family) and origin.name in DEFINING_FAMILIES for origin in origins)

    def names(self, rules: Sequence[int]) -> tuple[str, ...]:
        """The names of these rules in reports."""
        return tuple(self.system.rules[rule].name for rule in rules)


def _as_planned(components: list[Component], rank: int) -> list[Component]:
    """The components of a group, with their ranks raised until they sum to at least the rank that planning found.

    Planning eliminates, and so separates equations by coefficients that are too small to show in singular values.
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
    return [
        deepened(component, extra[place]) if extra[place] else component for place, component in enumerate(components)
    ]
