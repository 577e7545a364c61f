"""Compute the rank of nonlinear equations at given weights, to compare it with the rank at almost all points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from affinet.analysis.prices import at_weights
from affinet.analysis.rule_values import Weight
from affinet.analysis.tangent_space import tangent_space
from affinet.blocks.block import Block
from affinet.blocks.interval import Interval
from affinet.system.system import System


def ranks_here(system: System, blocks: Sequence[Block], weights: Mapping[str, Weight]) -> tuple[int | None, int | None]:
    """The rank at the weights of nonlinear equations and of linear ones in their blocks, and the generic rank of these.

    Both are None without nonlinear equations, and the first also where a component is too large for a dense factor.
    """
    layout = system.layout
    curved = [block for block in blocks if not set(block.rules).isdisjoint(system.curved_rules)]
    if not curved:
        return None, None
    lines = at_weights(system, weights)
    rows = lines.rows([k for k, rule in enumerate(lines.rules) if rule.sense == "==" and rule.norm is None])
    inside = np.zeros(layout.size, bool)
    for block in curved:
        inside[block.entries.columns(np.arange(block.size), layout)] = True
    owner = rows.row_of_each()[inside[rows.columns]]
    among = np.flatnonzero(np.bincount(owner, minlength=rows.count) > 0)
    space = tangent_space(rows.select(among), layout.size, system.curved_rules, system.tolerance, system.limits)
    return space.rank, sum(Interval.of(block.rank).low for block in curved)
