"""Compile a system of rules to blocks that share no entry: read, merge, resolve irregular equations, solve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import assert_never

from affinet.blocks.kinds import AnyBlock
from affinet.blocks.mirror import Mirror
from affinet.blocks.pairs import Pairs
from affinet.blocks.regular import RowBatch
from affinet.planning.contradiction import Contradiction
from affinet.planning.curved.curved_blocks import check_apart, separate_curved
from affinet.planning.curved.joined_balls import joined_balls
from affinet.planning.curved.mixed_components import Neighbours
from affinet.planning.elimination.irregular import solve_irregular
from affinet.planning.factors.panels import Panel, make_panel_blocks
from affinet.planning.forms import in_sections, read_rule
from affinet.planning.inequalities.separating import separate_inequalities
from affinet.planning.overlaps.fixed_entries import FixedEntries, OtherRules, rows_without, substitute
from affinet.planning.overlaps.grouping import group_batches
from affinet.planning.overlaps.parting import separate_pairs
from affinet.planning.overlaps.shared_entries import resolve
from affinet.planning.reading.candidates import Candidate
from affinet.planning.reading.fixings import Fixing
from affinet.planning.reading.lifting import lift
from affinet.planning.reading.term_patterns import read
from affinet.planning.refit.record import from_coefficients
from affinet.system.rows import Rows, concatenate
from affinet.system.system import System, coefficients


def compile_blocks(system: System) -> tuple[AnyBlock, ...]:
    """Blocks that together hold every equation of the system. Raises Contradiction and TooLargeError.

    `system.limits` says which rules are read from their terms, and how many equations stand on top of regular ones.
    """
    fixings, other_rules = _read_rules(system)
    fixed = FixedEntries(fixings, system)
    try:
        return _compile(fixed, other_rules, system)
    except Contradiction as contradiction:
        rules = {*contradiction.rules, *fixed.rules_involved}
        raise Contradiction(rules, contradiction.consequence, entries=contradiction.entries) from None


def _compile(fixed: FixedEntries, other_rules: OtherRules, system: System) -> tuple[AnyBlock, ...]:
    over_free = partial(rows_without, fixed=fixed, layout=system.layout)
    remaining = substitute(fixed, other_rules, system)
    joined = joined_balls(system)
    curved, neighbours = separate_curved(remaining, system, fixed, over_free, joined)
    sets, remaining = _separate_inequalities(fixed, neighbours, system, over_free, joined)
    check_apart(curved, sets, system)
    lifted, rows = lift(remaining.rows, system.layout)
    batches, pairs, panels = remaining.batches + lifted, remaining.pairs, remaining.panels
    occupied = [(batch.parameter, *batch.span) for batch in batches] + [
        span for pair in pairs for span in pair.entries.spans
    ]
    dense, panel_rows = make_panel_blocks(panels, occupied, rows, system)
    rows = over_free(concatenate([rows, *panel_rows]))
    separated = separate_pairs(pairs, batches, rows, system, over_free=over_free)
    groups, products, clashing = group_batches(separated.batches, system)
    regular = [Candidate(system, tuple(group), solved=products.get(tuple(group))) for group in groups]
    regular += [Candidate(system, rules=block.rules, solved=block) for block in dense]
    rows = concatenate([separated.rows, *clashing])
    resolved = resolve([*regular, *separated.candidates], rows, system, over_free=over_free)
    names = [rule.name for rule in system.rules]
    irregular_blocks = solve_irregular(resolved.rows, system.layout, system.tolerance, system.limits, names)
    return (
        *(block for fixed_blocks in fixed.blocks() for block in fixed_blocks.blocks),
        *curved,
        *sets,
        *resolved.blocks,
        *irregular_blocks,
    )


def _separate_inequalities(
    fixed: FixedEntries,
    neighbours: Neighbours,
    system: System,
    over_free: Callable[[Rows], Rows],
    joined: tuple[int, ...],
) -> tuple[list[AnyBlock], OtherRules]:
    """The sets of the inequality rules, and the equations that share no entry with them.

    Rules that are `joined` with nonlinear ones have none.
    """
    equations = neighbours.equations
    numbers = [
        k for k, rule in enumerate(system.rules) if rule.sense != "==" and k not in (*neighbours.numbers, *joined)
    ]
    if not numbers and not neighbours.unshared.count:
        return [], equations
    lifted, rows = lift(equations.rows, system.layout)
    equations = replace(equations, batches=equations.batches + lifted, rows=rows)
    return separate_inequalities(
        equations, numbers, system, fixed=fixed, over_free=over_free, further=neighbours.unshared
    )


def _read_rules(system: System) -> tuple[list[Fixing], OtherRules]:
    """The entries that large rules fix, the other rules in their regular forms, and the equations without one."""
    fixings: list[Fixing] = []
    batches: list[RowBatch] = []
    pairs: list[Mirror | Pairs] = []
    panels: list[Panel] = []
    irregular = []
    for number in [number for number, rule in enumerate(system.rules) if rule.sense == "=="]:
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
    return fixings, OtherRules(batches, pairs, panels, _lower(system, irregular))


def _lower(system: System, numbers: list[int]) -> Rows:
    """`system.rows(numbers)`, with a pattern that a new planning with other right-hand sides reuses."""
    if not numbers:
        return concatenate([])
    pattern = from_coefficients(coefficients, system.layout, *system.terms(numbers))
    rhs, size = system.sides(numbers)
    return replace(pattern, rhs=rhs, size=size)


def is_regular(system: System, number: int) -> bool:
    """Whether a large rule is read from its terms, in a time that does not grow with the weights."""
    expression, cancellation = system.rules[number].expression, system.tolerance.cancellation
    return bool(in_sections(expression, number, cancellation)) or read(expression, number, cancellation) is not None


__all__ = ["compile_blocks", "is_regular"]
