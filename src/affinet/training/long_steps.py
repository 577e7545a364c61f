"""A warning where an entry follows from many free numbers, and their steps add up in it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from affinet.analysis.lookup.naming import entry
from affinet.blocks.kinds import AnyBlock
from affinet.errors import LongStepsWarning, callers_line
from affinet.kernels.torch.bases.basis import Basis
from affinet.kernels.torch.bases.reach import Reach, farthest
from affinet.plans.plan import Plan

FEW = 8.0
"""How much farther than a free number an entry may move. Sensible learning rates lie within a factor of ten of those
at which a loss diverges."""


def warn_of_long_steps(plan: Plan, blocks: Sequence[tuple[AnyBlock, Basis]]) -> None:
    """Warn (LongStepsWarning) of the entry that moves farthest, where that is more than `FEW` times a free number."""
    found: list[tuple[Reach, AnyBlock]] = []
    for block, basis in blocks:
        reach = farthest(basis)
        if reach is not None and reach.length > FEW:
            found.append((reach, block))
    if not found:
        return
    reach, block = max(found, key=lambda each: each[0].length)
    parameter = next(p for p in plan.parameters if p.name == reach.name)
    rules = [plan.system.rules[rule].name for rule in block.rules]
    where = entry(parameter, reach.position)
    warning = LongStepsWarning(where, rules, reach.numbers, reach.length, len(found) - 1)
    warnings.warn(warning, stacklevel=callers_line())
