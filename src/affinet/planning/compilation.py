"""From a system of rules to blocks that share no entry: read, merge, settle what is irregular, solve."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from affinet.blocks.kinds import AnyBlock
from affinet.blocks.mirror import Mirror
from affinet.blocks.pairs import Pairs
from affinet.blocks.regular import RowBatch
from affinet.language.expression import Expression
from affinet.planning.contradiction import Contradiction
from affinet.planning.elimination.irregular import blocks_of
from affinet.planning.factors.panels import Panel, panel_blocks, read_panel
from affinet.planning.overlaps.bordering import MOST_EXTRA
from affinet.planning.overlaps.fixed_entries import FixedEntries, Others, rows_without, substituted
from affinet.planning.overlaps.grouping import grouped
from affinet.planning.overlaps.parting import part
from affinet.planning.overlaps.settling import settled
from affinet.planning.reading.candidates import Candidate
from affinet.planning.reading.fixings import Fixing, read_fixings
from affinet.planning.reading.lifting import lift
from affinet.planning.reading.sections import sections
from affinet.planning.reading.terms import read
from affinet.planning.refit.record import from_coefficients
from affinet.system.rows import Rows, concatenate
from affinet.system.system import System, coefficients

ONE_BY_ONE = 65_536
"""Rules of at most this many (equation, entry) pairs are read one equation at a time: it costs a few milliseconds, and
makes the plan of a small rule the same however it was said. Larger ones are read from their terms."""


def compile_blocks(
    system: System, *, one_by_one: int = ONE_BY_ONE, fixed_from: int = MOST_EXTRA, most_extra: int = MOST_EXTRA
) -> tuple[AnyBlock, ...]:
    """Blocks that together hold every equation of the system. Raises Contradiction and TooLargeError.

    Rules of more than `one_by_one` pairs are read from their terms. Those that fix more than `fixed_from` entries are
    substituted into the others; fewer can stand on top of regular rules, which they leave regular, as up to
    `most_extra` other equations do.
    """
    fixings, others = _read(system, one_by_one, fixed_from)
    fixed = FixedEntries(fixings, system)
    try:
        return _blocks(fixed, others, system, one_by_one, most_extra)
    except Contradiction as found:
        raise Contradiction({*found.rules, *fixed.substituted}, found.consequence) from None


def _blocks(
    fixed: FixedEntries, others: Others, system: System, one_by_one: int, most_extra: int
) -> tuple[AnyBlock, ...]:
    left_of = partial(rows_without, fixed=fixed, layout=system.layout)
    left = substituted(fixed, others, system)
    lifted, rows = lift(left.rows, system.layout)
    batches, pairs, panels = left.batches + lifted, left.pairs, left.panels
    held = [(batch.parameter, *batch.span) for batch in batches] + [
        span for pair in pairs for span in pair.entries.spans
    ]
    dense, crossed = panel_blocks(panels, held, rows, system, one_by_one=one_by_one)
    rows = left_of(concatenate([rows, *crossed]))
    parted = part(pairs, batches, rows, system, one_by_one=one_by_one, left_of=left_of)
    groups, products, clashing = grouped(parted.batches, system)
    regular = [Candidate(system, tuple(group), found=products.get(tuple(group))) for group in groups]
    regular += [Candidate(system, whole=block.rules, found=block) for block in dense]
    rows = concatenate([parted.rows, *clashing])
    found = settled(
        [*regular, *parted.candidates], rows, system, one_by_one=one_by_one, most_extra=most_extra, left_of=left_of
    )
    names = [rule.name for rule in system.rules]
    alone = blocks_of(found.rows, system.layout, system.tolerance, names)
    return (*(block for one in fixed.held() for block in one.blocks), *found.blocks, *alone)


def _read(system: System, one_by_one: int, fixed_from: int) -> tuple[list[Fixing], Others]:
    """What large rules fix, and every other rule in its regular form; the equations that have none."""
    fixings: list[Fixing] = []
    batches: list[RowBatch] = []
    pairs: list[Mirror | Pairs] = []
    panels: list[Panel] = []
    irregular, cancellation = [], system.tolerance.cancellation
    for number, rule in enumerate(system.rules):
        large = rule.nonzeros > one_by_one
        if large and rule.equations > fixed_from:
            held = read_fixings(rule, number, cancellation)
            if held:
                fixings += held
                continue
        if large and (apart := _in_sections(rule.expression, number, cancellation)):
            batches += apart
            continue
        found = (read(rule.expression, number, cancellation) or read_panel(system, number)) if large else None
        match found:
            case RowBatch():
                batches.append(found)
            case Mirror() | Pairs():
                pairs.append(found)
            case Panel():
                panels.append(found)
            case None:
                irregular.append(number)
    return fixings, Others(batches, pairs, panels, _rows(system, irregular))


def _rows(system: System, numbers: list[int]) -> Rows:
    """As `system.rows`."""
    pattern = from_coefficients(coefficients, system.layout, *system.terms(numbers))
    rhs, size = system.sides(numbers)
    return replace(pattern, rhs=rhs, size=size)


def is_regular(system: System, number: int) -> bool:
    """Whether a large rule is read from its terms, in a time that does not grow with the weights."""
    expression, cancellation = system.rules[number].expression, system.tolerance.cancellation
    return bool(_in_sections(expression, number, cancellation)) or read(expression, number, cancellation) is not None


def _in_sections(expression: Expression, number: int, cancellation: float) -> list[RowBatch]:
    """The batches of a rule of several sections, none where it has not or one of them is no batch of sums.

    Ties in sections, as of a matrix rolled by one, are classes together.
    """
    parts = sections(expression)
    if len(parts) < 2:
        return []
    found = [read(part, number, cancellation) for part in parts]
    batches = [batch for batch in found if isinstance(batch, RowBatch) and batch.sums]
    return batches if len(batches) == len(parts) else []


__all__ = ["ONE_BY_ONE", "compile_blocks", "is_regular"]
