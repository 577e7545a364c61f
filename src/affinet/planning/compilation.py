"""From a system of rules to blocks that share no entry: read, merge, settle what is irregular, solve."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import assert_never

from affinet.blocks.kinds import AnyBlock
from affinet.blocks.mirror import Mirror
from affinet.blocks.pairs import Pairs
from affinet.blocks.regular import RowBatch
from affinet.planning.contradiction import Contradiction
from affinet.planning.elimination.irregular import blocks_of
from affinet.planning.factors.panels import Panel, panel_blocks
from affinet.planning.forms import in_sections, read_rule
from affinet.planning.overlaps.fixed_entries import FixedEntries, OtherRules, rows_without, substitute
from affinet.planning.overlaps.grouping import grouped
from affinet.planning.overlaps.parting import part
from affinet.planning.overlaps.settling import settled
from affinet.planning.reading.candidates import Candidate
from affinet.planning.reading.fixings import Fixing
from affinet.planning.reading.lifting import lift
from affinet.planning.reading.terms import read
from affinet.planning.refit.record import from_coefficients
from affinet.system.rows import Rows, concatenate
from affinet.system.system import System, coefficients


def compile_blocks(system: System) -> tuple[AnyBlock, ...]:
    """Blocks that together hold every equation of the system. Raises Contradiction and TooLargeError.

    `system.limits` says which rules are read from their terms, and how many equations stand on top of regular ones.
    """
    fixings, others = _read(system)
    fixed = FixedEntries(fixings, system)
    try:
        return _blocks(fixed, others, system)
    except Contradiction as found:
        raise Contradiction({*found.rules, *fixed.rules_involved}, found.consequence) from None


def _blocks(fixed: FixedEntries, others: OtherRules, system: System) -> tuple[AnyBlock, ...]:
    left_of = partial(rows_without, fixed=fixed, layout=system.layout)
    left = substitute(fixed, others, system)
    lifted, rows = lift(left.rows, system.layout)
    batches, pairs, panels = left.batches + lifted, left.pairs, left.panels
    held = [(batch.parameter, *batch.span) for batch in batches] + [
        span for pair in pairs for span in pair.entries.spans
    ]
    dense, crossed = panel_blocks(panels, held, rows, system)
    rows = left_of(concatenate([rows, *crossed]))
    parted = part(pairs, batches, rows, system, left_of=left_of)
    groups, products, clashing = grouped(parted.batches, system)
    regular = [Candidate(system, tuple(group), found=products.get(tuple(group))) for group in groups]
    regular += [Candidate(system, whole=block.rules, found=block) for block in dense]
    rows = concatenate([parted.rows, *clashing])
    found = settled([*regular, *parted.candidates], rows, system, left_of=left_of)
    names = [rule.name for rule in system.rules]
    alone = blocks_of(found.rows, system.layout, system.tolerance, system.limits, names)
    return (*(block for one in fixed.blocks() for block in one.blocks), *found.blocks, *alone)


def _read(system: System) -> tuple[list[Fixing], OtherRules]:
    """What large rules fix, and every other rule in its regular form; the equations that have none."""
    fixings: list[Fixing] = []
    batches: list[RowBatch] = []
    pairs: list[Mirror | Pairs] = []
    panels: list[Panel] = []
    irregular = []
    for number in range(len(system.rules)):
        reading = read_rule(system, number)
        fixings += reading.fixings
        if not reading.fixings and not reading.forms:
            irregular.append(number)
        for form in reading.forms:
            match form:
                case RowBatch():
                    batches.append(form)
                case Mirror() | Pairs():
                    pairs.append(form)
                case Panel():
                    panels.append(form)
                case _:
                    assert_never(form)
    return fixings, OtherRules(batches, pairs, panels, _rows(system, irregular))


def _rows(system: System, numbers: list[int]) -> Rows:
    """As `system.rows`."""
    pattern = from_coefficients(coefficients, system.layout, *system.terms(numbers))
    rhs, size = system.sides(numbers)
    return replace(pattern, rhs=rhs, size=size)


def is_regular(system: System, number: int) -> bool:
    """Whether a large rule is read from its terms, in a time that does not grow with the weights."""
    expression, cancellation = system.rules[number].expression, system.tolerance.cancellation
    return bool(in_sections(expression, number, cancellation)) or read(expression, number, cancellation) is not None


__all__ = ["compile_blocks", "is_regular"]
