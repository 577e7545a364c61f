"""The equations of a plan without its inequalities: what rank and redundancy of equations are about."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from affinet.analysis.lookup.together import rank_of
from affinet.blocks.block import Block
from affinet.blocks.interval import Interval
from affinet.planning.compilation import compile_blocks
from affinet.system.system import System


@dataclass(frozen=True, eq=False)
class EquationsAlone:
    """The system of the equation rules of a plan, and their blocks, planned once more where there are inequalities."""

    all_rules: System
    all_blocks: tuple[Block, ...]

    @cached_property
    def system(self) -> System:
        rules = self.all_rules.every
        if not self.all_rules.has_inequalities:
            return self.all_rules
        return self.all_rules.only([number for number, rule in enumerate(rules) if rule.sense == "=="])

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        if not self.all_rules.has_inequalities:
            return self.all_blocks
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            return tuple(compile_blocks(self.system))

    @cached_property
    def rank(self) -> Interval:
        """Independent equations among those that are written."""
        return rank_of(self.blocks)

    @cached_property
    def redundant(self) -> Interval:
        """Equations that follow from other equations."""
        return Interval(self.all_rules.equations - self.rank.high, self.all_rules.equations - self.rank.low)

    @cached_property
    def implied(self) -> Interval:
        """Independent equations that hold because inequalities leave no room, in addition to those that are written."""
        total = rank_of(self.all_blocks)
        return Interval(max(0, total.low - self.rank.high), max(0, total.high - self.rank.low))
