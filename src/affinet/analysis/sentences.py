"""Say in one plain sentence what a rule does to the weights, and how many free numbers it takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affinet.analysis.lookup.idle import holds_always
from affinet.analysis.lookup.naming import counted, quoted
from affinet.analysis.lookup.together import groups_of, rank_of
from affinet.blocks.block import Block
from affinet.blocks.interval import Interval
from affinet.blocks.tally import Alike, Tally
from affinet.planning.compilation import compile_blocks, is_regular
from affinet.system.system import System

MOST_PAIRS = 2**17
"""(Equation, entry) pairs of rules that are planned once more, each by itself: some tenths of a second."""


def sentences(system: System, blocks: Sequence[Block], rules: Sequence[int]) -> list[str]:
    """A sentence for each of these rules, and one more where together they take fewer numbers than one by one.

    Rules that share blocks are planned once more, each by itself; the large ones among them are told with the others.
    """
    groups = {rule: group for group in groups_of(len(system.rules), blocks) for rule in group[0]}
    said, taken, pairs = [], Interval(0, 0), 0
    for rule in rules:
        sharing, members = groups[rule]
        name = quoted([system.rules[rule].name])
        own: Sequence[Block] | None = members
        if not members:
            said.append(_nothing(system, rule, name))
            continue
        if len(sharing) > 1:
            own, pairs = _within(system, rule, pairs)
        if own is None:
            equations = counted(system.rules[rule].equations, "equation")
            said.append(f"{name} keeps {equations}; the rules that it meets take {_fewer(rank_of(members))} together.")
            taken = Interval(0, taken.high + system.rules[rule].equations)
            continue
        rank = rank_of(own)
        taken = Interval(taken.low + rank.low, taken.high + rank.high)
        said.append(f"{name} {_does(own)}: {_fewer(rank)}.")
    total = rank_of(blocks)
    if len(rules) == len(system.rules) and total.low == total.high < taken.low:
        follow = taken.low - total.low
        verb = "follows" if follow == 1 else "follow"
        said.append(f"Together {_fewer(total)}: {counted(follow, 'equation')} of these {verb} from the others.")
    return said


def _within(system: System, rule: int, pairs: int) -> tuple[Sequence[Block] | None, int]:
    """The blocks of a rule by itself, None where that takes long; and the pairs that were planned until now."""
    size = system.rules[rule].nonzeros
    if pairs + size <= MOST_PAIRS:
        return _alone(system, rule), pairs + size
    return (_alone(system, rule) if is_regular(system, rule) else None), pairs


def _alone(system: System, rule: int) -> Sequence[Block] | None:
    """The blocks of a rule without the others; None where its numbers lie too far apart to plan it so."""
    try:
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            return compile_blocks(system.only([rule]))
    except FloatingPointError:
        return None


def _nothing(system: System, rule: int, name: str) -> str:
    if holds_always(system, rule):
        return f"{name} holds for every weight: no fewer free numbers."
    return f"{name} is what other rules say already: no fewer free numbers."


def _fewer(rank: Interval) -> str:
    if rank.low == rank.high:
        return f"{counted(rank.low, 'fewer free number')}" if rank.low else "no fewer free numbers"
    return f"{rank.low:,} to {rank.high:,} fewer free numbers"


def _does(blocks: Sequence[Block]) -> str:
    """What blocks do, as verbs: `ties 3 pairs of weights and keeps 4 sums of 5 weights each`."""
    tally = sum((block.tally() for block in blocks), start=Tally())
    said = []
    if tally.fixed:
        said.append(f"fixes {counted(tally.fixed, 'weight')}")
    if tally.pairs:
        said.append(f"ties {counted(tally.pairs, 'pair')} of weights")
    if tally.grouped:
        said.append(f"ties {counted(tally.grouped, 'weight')} in {counted(tally.groups, 'group')}")
    kept = [_alike(form, cells) for form, cells in tally.cells.items()]
    if tally.among:
        rank = tally.equations
        number = counted(rank.low, "equation") if rank.low == rank.high else f"{rank.low:,} to {rank.high:,} equations"
        kept.append(f"{number} among {counted(tally.among, 'weight')}")
    if kept:
        said.append(f"keeps {' and '.join(kept)}")
    return " and ".join(said) or "holds for every weight"


def _alike(form: Alike, cells: int) -> str:
    """`4 sums of 5 weights each`, `2 equations in each of 4 groups of 5 weights`."""
    sums, equations, size = form
    word = "sum" if sums else "equation"
    each = " each" if cells > 1 else ""
    if equations == 1:
        return f"{counted(cells, word)} of {counted(size, 'weight')}{each}"
    if cells == 1:
        return f"{counted(equations, word)} among {counted(size, 'weight')}"
    return f"{counted(equations, word)} in each of {counted(cells, 'group')} of {counted(size, 'weight')}"
