"""Group rules that share blocks, and add up the ranks of blocks."""

from __future__ import annotations

from collections.abc import Sequence

from affinet.blocks.block import Block
from affinet.blocks.interval import Interval


def groups_of(rules: int, blocks: Sequence[Block]) -> list[tuple[list[int], list[Block]]]:
    """Groups of rules that share blocks, as (rule numbers, blocks), in the order of the rules."""
    leader = list(range(rules))

    def find(rule: int) -> int:
        while leader[rule] != rule:
            leader[rule] = leader[leader[rule]]
            rule = leader[rule]
        return rule

    for block in blocks:
        for rule in block.rules[1:]:
            low, high = sorted((find(block.rules[0]), find(rule)))
            leader[high] = low
    members: dict[int, tuple[list[int], list[Block]]] = {}
    for rule in range(rules):
        members.setdefault(find(rule), ([], []))[0].append(rule)
    for block in blocks:
        members[find(block.rules[0])][1].append(block)
    return list(members.values())


def rank_of(blocks: Sequence[Block]) -> Interval:
    """Bounds on the number of independent equations of these blocks."""
    return sum((Interval.of(block.rank) for block in blocks), start=Interval(0, 0))
