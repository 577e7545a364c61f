"""Warn where an entry is a sum of many free numbers, so that their steps add up in it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from affinet.analysis.lookup.entry_names import entry
from affinet.blocks.kinds import AnyBlock
from affinet.errors import LongStepsWarning, callers_line
from affinet.kernels.bases.basis import Basis
from affinet.kernels.bases.reach import Reach, farthest
from affinet.plans.plan import Plan

LONGEST = 8.0
"""The longest move of an entry, in moves of a free number, without a warning. Sensible learning rates are within a
factor of ten of those at which a loss diverges."""


def warn_of_long_steps(plan: Plan, blocks: Sequence[tuple[AnyBlock, Basis]]) -> None:
    """Warn (LongStepsWarning) of the entry that moves farthest, if that is over `LONGEST` times as far as a number."""
    long_reaches: list[tuple[Reach, AnyBlock]] = []
    for block, basis in blocks:
        reach = farthest(basis)
        if reach is not None and reach.length > LONGEST:
            long_reaches.append((reach, block))
    if not long_reaches:
        return
    reach, block = max(long_reaches, key=lambda pair: pair[0].length)
    parameter = next(p for p in plan.parameters if p.name == reach.name)
    rule_names = [plan.system.rule(rule).name for rule in block.rules]
    entry_name = entry(parameter, reach.position)
    warning = LongStepsWarning(entry_name, rule_names, reach.numbers, reach.length, len(long_reaches) - 1)
    warnings.warn(warning, stacklevel=callers_line())
