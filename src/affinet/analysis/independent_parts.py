"""Part affine rules so that no two parts share an entry: into groups of rules, and large groups into slices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import EllipsisType

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from affinet.analysis.aligned_axes import align, slots
from affinet.analysis.lookup.incidence import reach
from affinet.system.system import Rule, System

Box = tuple[slice, ...] | EllipsisType
"""The index of the equations of a part in the shape of their rule."""


@dataclass(frozen=True, eq=False)
class Part:
    """Equations that share no entry with those of other parts.

    `system` has the rules of this part, in the layout of all; rule k of them is `boxes[k]` of rule `numbers[k]`.
    """

    numbers: tuple[int, ...]
    system: System
    boxes: tuple[Box, ...]


def parts_of(system: System, numbers: Sequence[int]) -> Iterator[Part]:
    """The parts of the numbered affine rules, balls excepted. All rules are one part if they are small together."""
    sizes = {number: _size(system.rules[number]) for number in numbers}
    most = system.limits.pairs_at_once
    joined: list[int] = []
    gathered = 0
    for group in _groups(system, numbers) if sum(sizes.values()) > most else [list(numbers)]:
        size = sum(sizes[number] for number in group)
        if size > most:
            yield from _slices(system, group, size)
            continue
        if joined and gathered + size > most:
            yield _undivided(system, joined)
            joined, gathered = [], 0
        joined += group
        gathered += size
    if joined:
        yield _undivided(system, joined)


def _size(rule: Rule) -> int:
    """The pairs of a rule; an equation without a pair counts, too."""
    return max(rule.pairs, rule.equations)


def _undivided(system: System, numbers: Sequence[int]) -> Part:
    ordered = sorted(numbers)
    rules = tuple(system.rules[number] for number in ordered)
    return Part(tuple(ordered), replace(system, rules=rules, curved=()), (...,) * len(ordered))


def _groups(system: System, numbers: Sequence[int]) -> list[list[int]]:
    """The rules by groups, in which the ranges of entries that rules read overlap."""
    read = [
        (*(system.layout.start(term.parameter) + end for end in reach(term)), k)
        for k, number in enumerate(numbers)
        for term in system.rules[number].expression.terms
        if term.count
    ]
    low, high, owner = np.array(read, np.int64).reshape(-1, 3).T
    order = np.argsort(low, kind="stable")
    furthest = np.maximum.accumulate(high[order])
    begins = np.concatenate([[True], low[order][1:] > furthest[:-1]])[: len(order)]
    stretch, count = np.cumsum(begins) - 1, len(numbers)
    ends = (owner[order], count + stretch)
    size = count + int(begins.sum())
    graph = sparse.csr_array((np.ones(len(order), np.int8), ends), shape=(size, size))
    groups: dict[int, list[int]] = {}
    for number, label in zip(numbers, csgraph.connected_components(graph, directed=False)[1].tolist(), strict=False):
        groups.setdefault(label, []).append(number)
    return list(groups.values())


def _slices(system: System, group: Sequence[int], size: int) -> Iterator[Part]:
    """A large group in slices of about `limits.pairs_at_once` pairs; the whole group where it has no slices."""
    group = sorted(group)
    rules = [system.rules[number] for number in group]
    wanted = -(-size // system.limits.pairs_at_once)
    positions = align(rules, wanted)
    if positions is None:
        yield _undivided(system, group)
        return
    low, high = slots(positions)
    width = max(1, (high - low) // wanted)
    for first in range(low, high, width):
        chosen = []
        for number, rule, position in zip(group, rules, positions, strict=True):
            begin, end = max(first - position.shift, 0), min(first + width - position.shift, position.length)
            if begin >= end:
                continue
            axis = position.axis
            box: Box = ... if axis is None else (*(slice(None),) * axis, slice(begin, end))
            chosen.append((number, rule if axis is None else _cut(rule, box), box))
        if chosen:
            owners, parts, boxes = zip(*chosen, strict=True)
            yield Part(owners, replace(system, rules=parts, curved=()), boxes)


def _cut(rule: Rule, box: Box) -> Rule:
    return replace(rule, expression=rule.expression[box], size=None)
