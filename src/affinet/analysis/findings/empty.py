"""Find rules and equations without effect: `0 == 0` for every weight, or about frozen weights only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from affinet.analysis.findings.looking import Look
from affinet.analysis.lookup.entry_names import counted, cut
from affinet.analysis.lookup.idle import holds_always, rules_without_block
from affinet.language.origin import Linear


@dataclass(frozen=True)
class HoldsAlways:
    """A rule of which `equations` out of `out_of` equations say `0 == 0`, so that every weight satisfies them."""

    rule: str
    equations: int
    out_of: int

    def __str__(self) -> str:
        if not self.out_of:
            return f'the rule "{cut(self.rule)}" has no equations: one of its axes has length 0. Check its slices.'
        if self.equations == self.out_of:
            many = "its equation says" if self.out_of == 1 else f"its {self.out_of:,} equations say"
            return f'the rule "{cut(self.rule)}" holds for every weight: {many} 0 == 0. Drop it, or check its signs.'
        says = "says" if self.equations == 1 else "say"
        return (
            f'{counted(self.equations, "equation")} of {self.out_of:,} of the rule "{cut(self.rule)}" {says} 0 == 0: '
            f"rows of zeros. Drop them, or check how they were made."
        )


@dataclass(frozen=True)
class NothingTrained:
    """A rule about frozen weights only: it holds at their values, and training never affects it."""

    rule: str

    def __str__(self) -> str:
        return (
            f'the rule "{cut(self.rule)}" touches no trained weight: all weights in it are frozen, and satisfy it. '
            f"It does nothing until one of them is trained."
        )


def empty(look: Look) -> Iterator[HoldsAlways | NothingTrained]:
    """Rules that constrain no weight, and zero rows of small matrices (not of `w == w.T`, which has them by nature)."""
    for number in rules_without_block(look.system, look.blocks):
        rule = look.system.rules[number]
        if rule.size is not None and not rule.expression.terms:
            yield NothingTrained(rule.name)
        elif holds_always(look.system, number):
            yield HoldsAlways(rule.name, rule.equations, rule.equations)
    for group in look.groups:
        if group.rows is None:
            continue
        lost = group.rows.rule[np.flatnonzero(group.rows.lengths == 0)]
        for number, count in zip(*np.unique(lost, return_counts=True), strict=True):
            rule = look.system.rules[number]
            if isinstance(rule.origin, Linear):
                yield HoldsAlways(rule.name, int(count), rule.equations)
