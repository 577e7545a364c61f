"""Find rules that no block came from: those that hold for every weight, and those that other rules imply."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affinet.analysis.lookup.incidence import SMALL, Incidence
from affinet.blocks.block import Block
from affinet.system.system import System

MOST_LOOKED_AT = 64
"""Number of equations of a large rule that are examined, evenly spread."""


def rules_without_block(system: System, blocks: Sequence[Block]) -> list[int]:
    """The numbers of the rules that no block came from."""
    compiled_rules = {rule for block in blocks for rule in block.rules}
    return [number for number in range(len(system.rules)) if number not in compiled_rules]


def holds_always(system: System, number: int) -> bool:
    """Whether every equation of a rule says `0 == 0`, or none of its inequalities has a bound.

    For a large rule an evenly spread sample decides.
    """
    rule = system.rule(number)
    if not rule.expression.terms or not rule.equations:
        return True
    if rule.norm is not None:
        return False
    if rule.sense != "==" and not np.isfinite(rule.expression.constant).any():
        return True
    if rule.curved:
        return False
    if max(rule.pairs, rule.equations) <= SMALL:
        return not system.rows([number]).lengths.any()
    incidence = Incidence(system)
    sampled = np.unique(np.linspace(0, rule.equations - 1, min(rule.equations, MOST_LOOKED_AT)).astype(np.int64))
    return not any(len(incidence.equation(number, int(index)).columns) for index in sampled)
