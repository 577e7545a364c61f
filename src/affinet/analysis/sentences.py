"""Say in one plain sentence what a rule does to the weights, and how many free numbers it takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affinet.analysis.equations_alone import EquationsAlone
from affinet.analysis.lookup.entry_names import counted, quoted
from affinet.analysis.lookup.idle import holds_always
from affinet.analysis.lookup.together import groups_of, rank_of
from affinet.blocks.block import Block
from affinet.blocks.interval import Interval
from affinet.blocks.tally import Alike, Tally
from affinet.language.sense import Spectrum
from affinet.planning.compilation import compile_blocks, is_regular
from affinet.system.system import Rule, System

MOST_PAIRS = 2**17
"""Rules with up to this many (equation, entry) pairs in total are planned again one by one: some tenths of a second."""


def sentences(system: System, blocks: Sequence[Block], equations: EquationsAlone, rules: Sequence[int]) -> list[str]:
    """A sentence per rule, and one more if all rules together take fewer numbers than the sum of the single rules.

    `equations` is the system without the inequalities, which take no free numbers where they leave room. Rules that
    share blocks are planned once more, each by itself. The sentence for a large one counts the numbers that it takes
    together with the rules that share entries with it.
    """
    groups = {rule: group for group in groups_of(len(system.every), blocks) for rule in group[0]}
    lines, numbers_taken, pairs = [], Interval(0, 0), 0
    for rule in rules:
        sharing, members = groups[rule]
        name = quoted([system.rule(rule).name])
        own_blocks: Sequence[Block] | None = members
        if not members:
            lines.append(_phrase_no_effect(system, rule, name))
            continue
        if system.rule(rule).sense != "==":
            lines.append(f"{name} {_phrase_inequalities(system.rule(rule))}.")
            continue
        if len(sharing) > 1:
            own_blocks, pairs = _separate_blocks(system, rule, pairs)
        if own_blocks is None:
            own_equations = counted(system.rule(rule).equations, "equation")
            lines.append(
                f"{name} keeps {own_equations}; the rules that share entries with it take "
                f"{_phrase_fewer(rank_of(members))} together."
            )
            numbers_taken = Interval(0, numbers_taken.high + system.rule(rule).equations)
            continue
        rank = rank_of(own_blocks)
        numbers_taken = Interval(numbers_taken.low + rank.low, numbers_taken.high + rank.high)
        lines.append(f"{name} {_phrase_effect(own_blocks)}: {_phrase_fewer(rank)}.")
    total = equations.rank
    if len(rules) == len(system.every) and total.low == total.high < numbers_taken.low:
        follow = numbers_taken.low - total.low
        verb = "follows" if follow == 1 else "follow"
        lines.append(f"Together {_phrase_fewer(total)}: {counted(follow, 'equation')} of these {verb} from the others.")
    if len(rules) == len(system.every) and equations.implied.low:
        lines.append(f"Inequalities that leave no room take {counted(equations.implied.low, 'more free number')}.")
    return lines


def _separate_blocks(system: System, rule: int, pairs: int) -> tuple[Sequence[Block] | None, int]:
    """The blocks of a rule planned by itself, None where that takes long; and the number of pairs planned so far."""
    if system.rule(rule).curved:
        return None, pairs
    size = system.rule(rule).nonzeros
    if pairs + size <= MOST_PAIRS:
        return _planned_separately(system, rule), pairs + size
    return (_planned_separately(system, rule) if is_regular(system, rule) else None), pairs


def _planned_separately(system: System, rule: int) -> Sequence[Block] | None:
    """The blocks of a rule planned without the others; None where its numbers differ too much for float64."""
    try:
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            return compile_blocks(system.only([rule]))
    except FloatingPointError:
        return None


def _phrase_inequalities(rule: Rule) -> str:
    """What an inequality does, in a verb: `bounds 12 weights from below`."""
    if isinstance(rule.norm, Spectrum):
        matrices = f"{counted(rule.equations, 'matrix', 'matrices')} of {rule.norm.rows} by {rule.norm.columns} weights"
        if rule.norm.kind == "negative":
            return f"keeps {matrices} positive semidefinite"
        return f"bounds the singular values of {matrices}"
    if rule.norm is not None:
        vectors = f"{counted(rule.equations, 'vector')} of {counted(rule.expression.shape[-1], 'weight')}"
        measured = "length" if rule.norm == 2 else "sum of magnitudes"
        return f"bounds the {measured} of {vectors}{' each' if rule.equations > 1 else ''}"
    bounded = np.broadcast_to(np.isfinite(rule.expression.constant), rule.shape)
    count = int(np.count_nonzero(bounded))
    if rule.curved:
        return f"keeps {counted(count, 'nonlinear inequality', 'nonlinear inequalities')}"
    if rule.pairs <= rule.equations:
        signs = {float(np.sign(term.scalar)) if not term.factors else 0.0 for term in rule.expression.terms}
        upper = signs == {rule.sign}
        side = "from above" if upper else "from below" if signs == {-rule.sign} else "on one side"
        return f"bounds {counted(count, 'weight')} {side}"
    each = rule.pairs // rule.equations
    coefficients = [factor.values for term in rule.expression.terms for factor in term.factors]
    equally_long = each * rule.equations == rule.pairs and all(np.all(values != 0) for values in coefficients)
    among = f" of {counted(each, 'weight')}{' each' if count > 1 else ''}" if equally_long else ""
    return f"keeps {counted(count, 'inequality')}{among}"


def _phrase_no_effect(system: System, rule: int, name: str) -> str:
    if holds_always(system, rule):
        return f"{name} holds for every weight: no fewer free numbers."
    return f"{name} follows from other rules: no fewer free numbers."


def _phrase_fewer(rank: Interval) -> str:
    if rank.low == rank.high:
        return f"{counted(rank.low, 'fewer free number')}" if rank.low else "no fewer free numbers"
    return f"{rank.low:,} to {rank.high:,} fewer free numbers"


def _phrase_effect(blocks: Sequence[Block]) -> str:
    """The effect of blocks in verbs: `ties 3 pairs of weights and keeps 4 sums of 5 weights each`."""
    tally = sum((block.tally() for block in blocks), start=Tally())
    verbs = []
    if tally.fixed:
        verbs.append(f"fixes {counted(tally.fixed, 'weight')}")
    if tally.pairs:
        verbs.append(f"ties {counted(tally.pairs, 'pair')} of weights")
    if tally.grouped:
        verbs.append(f"ties {counted(tally.grouped, 'weight')} in {counted(tally.groups, 'group')}")
    equations = [_phrase_cells(form, cells) for form, cells in tally.cells.items()]
    if tally.among:
        rank = tally.equations
        number = counted(rank.low, "equation") if rank.low == rank.high else f"{rank.low:,} to {rank.high:,} equations"
        equations.append(f"{number} among {counted(tally.among, 'weight')}")
    if equations:
        verbs.append(f"keeps {' and '.join(equations)}")
    return " and ".join(verbs) or "holds for every weight"


def _phrase_cells(form: Alike, cells: int) -> str:
    """`4 sums of 5 weights each`, `2 equations in each of 4 groups of 5 weights`."""
    sums, equations, size = form
    word = "sum" if sums else "equation"
    each = " each" if cells > 1 else ""
    if equations == 1:
        return f"{counted(cells, word)} of {counted(size, 'weight')}{each}"
    if cells == 1:
        return f"{counted(equations, word)} among {counted(size, 'weight')}"
    return f"{counted(equations, word)} in each of {counted(cells, 'group')} of {counted(size, 'weight')}"
