"""Write a plan as a table that a person can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from affinet.analysis.determined import free_numbers
from affinet.analysis.equations_alone import EquationsAlone
from affinet.analysis.findings.overlooked import Overlooked
from affinet.analysis.lookup.idle import holds_always
from affinet.analysis.lookup.together import groups_of, rank_of
from affinet.analysis.sentences import sentences
from affinet.blocks.block import Block
from affinet.blocks.interval import Interval
from affinet.blocks.phrases import many, solved_groups
from affinet.blocks.resolution import Core
from affinet.errors import visible
from affinet.language.calculus.terms import Parameter
from affinet.system.system import System

COLUMNS = ("rule", "equations", "entries", "rank", "free", "bytes a step", "kept as")
WITH_SENSES = ("rule", "rows", *COLUMNS[2:])
"""The columns of a plan with inequalities, whose rules have rows of a sense: `4 ==`, `40 >=`."""

MOST_LINES = 40
"""A table of more rules is shortened to the first and the last ones."""
MOST_WEIGHTS = 6
"""Weights that the line about free numbers names."""
MOST_FINDINGS = 10
HOW_TO_SHOW_ALL, HOW_TO_SHOW_FINDINGS = ": print(plan.table()) shows all", ": plan.findings"


def summary(
    system: System, blocks: tuple[Block, ...], equations: EquationsAlone, *, loops: bool, most: int | None = MOST_LINES
) -> str:
    """One line per rule; rules that became the same blocks share the numbers in the line of the first of them.

    `equations` is the system without the inequalities; rank and free numbers are those of it.

    Of more than `most` rules the first and the last are shown; all of them if it is None. `loops` tells whether
    compiled loops can project on the CPU.
    """
    if not system.every:
        return "There are no rules: all weights are free."
    groups = groups_of(len(system.every), blocks)
    order = [(place, rule, members) for rules, members in groups for place, rule in enumerate(rules)]
    first, last = _split_count(len(order), most)
    has_senses = system.has_inequalities
    lines: list[tuple[str, ...]] = [WITH_SENSES if has_senses else COLUMNS]
    for at, (place, rule, members) in enumerate(order):
        if first <= at < len(order) - last:
            continue
        rule_blocks = [block for block in members if rule in block.rules]
        form = _phrase_form(rule_blocks) if rule_blocks else _phrase_no_effect(system, rule)
        shared = place > 0 and at != len(order) - last
        numbers = ("",) * 4 if shared else _format_numbers(members)
        rows = f"{system.rule(rule).equations:,}" + (f" {system.rule(rule).sense}" if has_senses else "")
        lines.append((_shorten(system.rule(rule).name), rows, *numbers, form))
    table = format_table(lines)
    if any(line[2] == "" for line in lines):
        table.append("(A line without numbers is counted with the line above.)")
    if first + last < len(order):
        table.insert(2 + first, f"… {len(order) - first - last:,} more rules{HOW_TO_SHOW_ALL}")
    totals = _phrase_totals(system, blocks, equations)
    below = [totals, *_phrase_free_numbers(system, blocks), *_notes(system, blocks, equations, loops)]
    return "\n".join([*table, "", *below])


def in_words(system: System, blocks: tuple[Block, ...], equations: EquationsAlone, *, most: int = MOST_LINES) -> str:
    """A plain sentence for each rule that the shortened table shows, in its order."""
    order = [rule for rules, _ in groups_of(len(system.every), blocks) for rule in rules]
    first, last = _split_count(len(order), most)
    chosen = order[:first] + order[len(order) - last :] if first + last < len(order) else order
    lines = [f"  - {sentence}" for sentence in sentences(system, blocks, equations, chosen)]
    if len(chosen) < len(order):
        lines.insert(first, f"  … {len(order) - len(chosen):,} more")
    return "\n".join(["", "In words:", *lines]) if lines else ""


def without_hints_in_python(text: str) -> str:
    """The text of a plan for readers who have no plan in Python."""
    return text.replace(HOW_TO_SHOW_ALL, "").replace(HOW_TO_SHOW_FINDINGS, "")


def _split_count(count: int, most: int | None) -> tuple[int, int]:
    """How many of `count` lines are shown at the beginning and at the end."""
    return (count, 0) if most is None or count <= most else (most - most // 4, most // 4)


def with_findings(table: str, findings: Sequence[object]) -> str:
    """The table, and below it the first findings and the number of others; skipped checks are footnotes."""
    looked_for = [finding for finding in findings if not isinstance(finding, Overlooked)]
    shown = [f"  - {finding}" for finding in looked_for[:MOST_FINDINGS]]
    more = len(looked_for) - len(shown)
    remainder = [f"  … {many(more, 'more finding', 'more findings')}{HOW_TO_SHOW_FINDINGS}"] if more else []
    footnotes = [f"({finding})" for finding in findings if isinstance(finding, Overlooked)][:MOST_FINDINGS]
    below = ["", "Findings:", *shown, *remainder] if shown else []
    return "\n".join([table, *below, *([""] if footnotes else []), *footnotes])


def _phrase_form(blocks: list[Block]) -> str:
    """How a rule is kept, in one cell of the table; groups of several forms are counted together."""
    groups = [block.resolution().groups for block in blocks]
    grouped = [block for block, (count, _) in zip(blocks, groups, strict=True) if count]
    phrases = [block.describe() for block, (count, _) in zip(blocks, groups, strict=True) if not count]
    if len(grouped) == 1:
        phrases.append(grouped[0].describe())
    elif grouped:
        most = max(equations for _, equations in groups)
        phrases.append(solved_groups(sum(count for count, _ in groups), most, "up to "))
    return _shorten("; ".join(dict.fromkeys(phrases)), 72)


def _phrase_no_effect(system: System, rule: int) -> str:
    return "nothing: it holds for every weight" if holds_always(system, rule) else "nothing: other rules imply it"


def _format_numbers(blocks: list[Block]) -> tuple[str, str, str, str]:
    size = sum(block.size for block in blocks)
    rank = rank_of(blocks)
    free = Interval(size - rank.high, size - rank.low)
    return (
        f"{size:,}",
        _bounds(rank),
        _bounds(free),
        _bytes(sum(block.bytes_a_step() for block in blocks)),
    )


def _phrase_totals(system: System, blocks: tuple[Block, ...], equations: EquationsAlone) -> str:
    size, all_rank = sum(block.size for block in blocks), rank_of(blocks)
    free = Interval(size - all_rank.high, size - all_rank.low)
    total = sum(parameter.size for parameter in system.layout.parameters)
    rank, redundant = _bounds(equations.rank), _bounds(equations.redundant)
    written = f"{many(system.equations, 'equation')}, rank {rank} ({redundant} redundant)"
    inequalities, within = "", ""
    if system.has_inequalities:
        inequalities, within = (
            f" and {many(system.inequalities, 'inequality', 'inequalities')}",
            " within the inequalities",
        )
    return (
        f"{written}{inequalities} over {many(size, 'entry', 'entries')}; {_bounds(free)} of these stay free{within}. "
        f"Untouched entries of the same weights: {total - size:,}."
    )


def _notes(system: System, blocks: tuple[Block, ...], equations: EquationsAlone, loops: bool) -> list[str]:
    """Notes on ranks decided close to the tolerance or only bounded, on implied equations, and on a missing numba."""
    notes = []
    if equations.implied.low:
        notes.append(
            f"note: some inequalities leave no room, and hold only as equations: that is the same as "
            f"{many(equations.implied.low, 'more independent equation', 'more independent equations')}."
        )
    close = sum(block.ambiguous for block in blocks)
    if close:
        notes.append(
            f"note: the rank of {many(close, 'group')} of equations was decided close to the "
            f"tolerance (constants known to {system.tolerance.epsilon:.1e}); nearly equal equations may count as one."
        )
    rank = rank_of(blocks)
    low, high = rank.low, rank.high
    if low == sum(block.size for block in blocks) > 0:
        notes.append("note: nothing is left to train among these entries: the rules determine every one of them.")
    if low != high:
        notes.append(
            "note: a large irregular core has a rank that is bounded, not known; all of its equations are kept. "
            + "; ".join(_explain_bounds(core) for block in blocks if (core := block.resolution().core) is not None)
        )
    if not loops:
        notes.append(
            "note: numba is not installed, so projections on the CPU run on torch's own operations and take longer."
        )
    return notes


def _explain_bounds(core: Core) -> str:
    """Why a rank is only bounded: the peeled equations are independent, and the core is too large to factor."""
    rows, low, high = core.equations, core.rank.low, core.rank.high
    known = "Rank, free and redundant are known up to that."
    return (
        f"Of its {many(rows, 'equation')} {low:,} are independent, for each owns an entry that none after it has; the "
        f"others are more than are factored, and {'all' if high == rows else f'{high - low:,}'} of them may be. {known}"
    )


def _phrase_free_numbers(system: System, blocks: tuple[Block, ...]) -> list[str]:
    """The free numbers of each weight by itself, fewest first, and how they add up to the free numbers of all weights.

    The sum over weights, each free while the others follow, can exceed the free numbers of all weights at once: the
    difference is the number of equations that link weights.
    """
    free = free_numbers(system, blocks)
    bound = [(weight, count) for weight, count in free.items() if count.low < weight.size]
    if not bound or len(free) < 2:
        return []
    bound.sort(key=lambda item: (item[1].high / item[0].size, item[0].name))
    shown = [f"{weight.name} {_bounds(count)} of {weight.size:,}" for weight, count in bound[:MOST_WEIGHTS]]
    shown += [f"… ({len(bound) - MOST_WEIGHTS:,} more)"] if len(bound) > MOST_WEIGHTS else []
    untouched = len(free) - len(bound)
    free_note = f"; all of {many(untouched, 'other weight')}" if untouched else ""
    return [f"Free in each weight by itself: {', '.join(shown)}{free_note}. {_phrase_sum(free, rank_of(blocks))}"]


def _phrase_sum(free: Mapping[Parameter, Interval], rank: Interval) -> str:
    """The free numbers of all weights at once, from those of each by itself."""
    total = sum(weight.size for weight in free)
    low, high = sum(count.low for count in free.values()), sum(count.high for count in free.values())
    free_at_once = Interval(total - rank.high, total - rank.low)
    linked = Interval(max(0, low - free_at_once.high), high - free_at_once.low)
    if linked.high == 0:
        return f"That adds up to {_bounds(free_at_once)} of {total:,}."
    return (
        f"That adds up to {_bounds(Interval(low, high))}, of which equations between weights take {_bounds(linked)}: "
        f"{_bounds(free_at_once)} of {total:,} are free at once."
    )


def _bounds(interval: Interval) -> str:
    return f"{interval.low:,}" if interval.low == interval.high else f"{interval.low:,}..{interval.high:,}"


def _bytes(count: int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:,.0f} {unit}" if unit == "B" or count >= 100 else f"{count:,.1f} {unit}"
        count /= 1000  # type: ignore[assignment]
    raise AssertionError


def _shorten(text: str, most: int = 44) -> str:
    text = visible(" ".join(text.split()))
    return text if len(text) <= most else text[: most - 1] + "…"


def format_table(lines: list[tuple[str, ...]]) -> list[str]:
    """Lines of cells in columns, the first and the last one aligned to the left; the first line is the head."""
    count = len(lines[0])
    widths = [max(len(line[k]) for line in lines) for k in range(count)]
    left_aligned = {0, count - 1}
    shown = [
        "  ".join(
            cell.ljust(w) if k in left_aligned else cell.rjust(w)
            for k, (cell, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return [shown[0], "  ".join("─" * w for w in widths), *shown[1:]]
