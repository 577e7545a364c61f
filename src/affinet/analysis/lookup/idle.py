"""Rules that became no block: those that hold for every weight, and those that others say already."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affinet.analysis.lookup.incidence import SMALL, Incidence
from affinet.blocks.block import Block
from affinet.system.system import System

MOST_LOOKED_AT = 64
"""Equations of a large rule that are looked at, evenly spread."""


def idle(system: System, blocks: Sequence[Block]) -> list[int]:
    """The numbers of the rules that no block came from."""
    held = {rule for block in blocks for rule in block.rules}
    return [number for number in range(len(system.rules)) if number not in held]


def holds_always(system: System, number: int) -> bool:
    """Whether every equation of a rule says `0 == 0`; of a large rule's some, evenly spread, tell for all."""
    rule = system.rules[number]
    if not rule.expression.terms or not rule.equations:
        return True
    if max(rule.pairs, rule.equations) <= SMALL:
        return not system.rows([number]).lengths.any()
    incidence = Incidence(system)
    some = np.unique(np.linspace(0, rule.equations - 1, min(rule.equations, MOST_LOOKED_AT)).astype(np.int64))
    return not any(len(incidence.equation(number, int(index)).columns) for index in some)
