"""Count the steps that nonlinear equations shortened, refused, or returned from slowly, and warn of long runs of them.

A run belongs to a cell: other cells of its block may move freely meanwhile. Counts belong to one training and are not
part of its saved state.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from affinet.blocks.curved_cells import Outcome
from affinet.blocks.kinds import AnyBlock
from affinet.blocks.law import is_curved
from affinet.errors import ShortenedStepsWarning, SlowReturnWarning, callers_line
from affinet.plans.plan import Plan
from affinet.report.observation import StepCounts

IN_SEQUENCE = 10
"""How many shortened or refused steps of a cell in sequence cause a warning; fewer may be an accident of one batch."""


@dataclass
class _Count:
    """The counts of one block; `run` has the shortened or refused steps of each cell in sequence, None for none.

    Bit k of `shortened`, `refused` and `slow` is set where step k was so in some cell: other processes may have others.
    """

    steps: int = 0
    shortened: int = 0
    refused: int = 0
    slow: int = 0
    run: Tensor | None = None
    longest: int = 0
    last_refused: bool = False
    warned_of_run: bool = False
    warned_of_slow: bool = False


class ReturnCounts:
    """The counts of all blocks of nonlinear equations of one training."""

    def __init__(self, former: ReturnCounts | None = None) -> None:
        """`former` are the counts before parameters were frozen or thawed, or rules were replaced."""
        self._counts: WeakKeyDictionary[AnyBlock, _Count] = WeakKeyDictionary()
        if former is not None:
            self._counts = former._counts

    def add(self, block: AnyBlock, outcome: Outcome | None) -> None:
        """Count a step that was taken; `outcome` is None where all cells took it in full."""
        count = self._counts.setdefault(block, _Count())
        step = 1 << count.steps
        count.steps += 1
        if outcome is None or not outcome.refused.shape[0]:  # a process may hold no cell
            count.run = None
            return
        shortenings, refused, slow = (torch.as_tensor(part) for part in outcome)
        stopped = (shortenings > 0) | refused
        run = torch.where(stopped, 1 if count.run is None else count.run + 1, 0)
        marks = [(stopped & ~refused).any(), refused.any(), slow.any(), run.max(), (refused & (run == run.max())).any()]
        # One transfer from the device.
        shortened, any_refused, any_slow, longest, at_longest = torch.stack([mark.long() for mark in marks]).tolist()
        count.shortened |= shortened * step
        count.refused |= any_refused * step
        count.slow |= any_slow * step
        count.run, count.longest, count.last_refused = run if longest else None, longest, bool(at_longest)

    def warn(self, plan: Plan) -> None:
        """Warn once per block of runs of IN_SEQUENCE shortened or refused steps, and of slow returns."""
        for block in plan.blocks:
            count = self._counts.get(block)
            if count is None or not (count.longest or count.slow):
                continue
            names = [plan.system.rule(number).name for number in block.rules]
            if count.longest >= IN_SEQUENCE and not count.warned_of_run:
                count.warned_of_run = True
                warning = ShortenedStepsWarning(names, count.longest, count.last_refused)
                warnings.warn(warning, stacklevel=callers_line())
            if count.slow and not count.warned_of_slow:
                count.warned_of_slow = True
                warnings.warn(SlowReturnWarning(names), stacklevel=callers_line())

    def by_rule(self, plan: Plan, united: Callable[[AnyBlock, list[int]], list[int]]) -> dict[str, StepCounts]:
        """Name of each nonlinear rule → the counts of its blocks, added up; the steps are those of the busiest.

        `united` unites the bits of a block with those of other processes.
        """
        counts: dict[str, StepCounts] = {}
        curved = plan.system.curved_rules
        for block in plan.blocks:
            if not is_curved(block.law()):  # the nearest point of a convex set is always found
                continue
            count = self._counts.get(block, _Count())
            marked = [bits.bit_count() for bits in united(block, [count.shortened, count.refused, count.slow])]
            for number in block.rules:
                if number in curved or plan.system.rule(number).norm is not None:
                    name = plan.system.rule(number).name
                    counts[name] = counts.get(name, StepCounts(0, 0, 0, 0)).plus(count.steps, *marked)
        return counts
