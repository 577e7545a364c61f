"""Weights that rules leave nothing of to train: every entry determined, though no rule fixes the weight outright."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import assert_never

import numpy as np

from affinet.structure.blocks import (
    Block,
    Bordered,
    Dense,
    Fixed,
    Mirror,
    MirroredProduct,
    Pairs,
    Part,
    Product,
    Slices,
    Sparse,
    Ties,
)
from affinet.system.system import Rule, System


def determined(system: System, blocks: Iterable[Block]) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    """Name and size of every parameter whose entries can take one value only, and the names of the rules that say so.

    Less those that a rule of single entries covers wholly, such as `bias == 0`: that was meant. A parameter counts
    where the rank of its blocks is known; time follows the number of blocks, and for small components their size.
    """
    counts: Counter[str] = Counter()
    rules: dict[str, set[int]] = {}
    for block in blocks:
        for name, count in _counts(block):
            counts[name] += count
            rules.setdefault(name, set()).update(block.rules)
    for parameter in system.layout.parameters:
        if parameter.size and counts[parameter.name] == parameter.size:
            touching = [k for k in sorted(rules[parameter.name]) if _touches(system.rules[k], parameter.name)]
            if not any(_fixes(system.rules[k], parameter.size) for k in touching):
                yield parameter.name, parameter.size, tuple(system.rules[k].name for k in touching)


def _counts(block: Block) -> list[tuple[str, int]]:
    """How many entries of each parameter the block determines."""
    if not isinstance(block, Dense):
        return _entries(block) if block.rank == block.size else []
    full = block.ranks == block.members.shape[1]
    known = np.zeros(block.classes.count, bool)
    known[block.members[full].ravel()] = True
    return _inside(block.parts, known[block.classes.class_of]) if full.any() else []


def _entries(block: Block) -> list[tuple[str, int]]:
    """How many entries of each parameter the block speaks of."""
    match block:
        case Slices():
            return [(block.parameter.name, block.size)]
        case Product() | Mirror():
            return [(block.view.parameter.name, block.size)]
        case MirroredProduct():
            return [(block.mirror.view.parameter.name, block.size)]
        case Pairs():
            return [(view.parameter.name, block.rank) for view in (block.first, block.second)]
        case Fixed() | Ties() | Dense() | Sparse():
            return [(part.parameter.name, part.size) for part in block.parts]
        case Bordered():
            loose = [(part.parameter.name, part.size) for part in block.loose]
            return [*(pair for base in block.bases for pair in _entries(base)), *loose]
        case _:
            assert_never(block)


def _inside(parts: Iterable[Part], known: np.ndarray) -> list[tuple[str, int]]:
    found, first = [], 0
    for part in parts:
        found.append((part.parameter.name, int(known[first : first + part.size].sum())))
        first += part.size
    return found


def _touches(rule: Rule, name: str) -> bool:
    return any(term.parameter.name == name for term in rule.expression.terms)


def _fixes(rule: Rule, entries: int) -> bool:
    """Whether the rule is about single entries, and about at least so many."""
    return rule.pairs <= rule.equations and rule.equations >= entries
