"""The plan as a table that a person can read."""

from __future__ import annotations

from typing import assert_never

from affinet.errors import visible
from affinet.language.terms import Integers
from affinet.structure.blocks import (
    Block,
    Bordered,
    Dense,
    Fixed,
    Interval,
    Mirror,
    MirroredProduct,
    Pairs,
    Product,
    Slices,
    Sparse,
    Ties,
)
from affinet.system.system import System

BYTES = 4
"""Bytes of a float32 entry: the figures for bytes a step are for float32 parameters."""

COLUMNS = ("rule", "equations", "became", "entries", "rank", "free", "bytes a step")


def summary(system: System, blocks: tuple[Block, ...]) -> str:
    """One line a rule; rules that became the same blocks share the numbers of the first of them."""
    lines: list[tuple[str, ...]] = [COLUMNS]
    for rules, members in _groups(len(system.rules), blocks):
        numbers = _numbers(members)
        for place, rule in enumerate(rules):
            mine = [block for block in members if rule in block.rules]
            shown = numbers if place == 0 else ("″",) * len(numbers)
            lines.append((_cut(system.rules[rule].name), f"{system.rules[rule].equations:,}", _became(mine), *shown))
    table = _table(lines)
    return "\n".join([*table, "", _totals(system, blocks), *_notes(system, blocks)])


def describe(block: Block) -> str:
    """What a block is, in a few words."""
    match block:
        case Slices():
            n, r = block.inner.size, len(block.basis)
            return f"{_many(block.outer.size, 'slice')} of {n:,} entries, {_many(r, 'equation')} each"
        case Product():
            return f"product of {len(block.slices)} projections along the axes of {block.size:,} entries"
        case Mirror():
            kind = "symmetric" if block.sign > 0 else "antisymmetric"
            return f"{kind} pairs of one box{_left_out(block.without)}"
        case MirroredProduct():
            return f"{describe(block.mirror)}; {describe(block.product)}"
        case Pairs():
            return f"{block.rank:,} pairs of {block.first.parameter.name} and {block.second.parameter.name}"
        case Fixed():
            return f"{block.size:,} fixed entr{'ies' if block.size != 1 else 'y'}"
        case Ties():
            classes = block.classes.count
            return f"{block.size:,} entries tied in {classes:,} class{'es' * (classes != 1)}"
        case Dense():
            k, r, n = block.basis.shape
            return f"{_many(k, 'component')} of {_many(r, 'equation')}, {n:,} unknowns"
        case Sparse():
            how = "sparse factor" if block.factored else "conjugate gradients"
            return f"one component of {block.matrix.shape[0]:,} equations ({how})"
        case Bordered():
            return f"{_many(block.extra, 'equation')} on top of {'; '.join(describe(base) for base in block.bases)}"
        case _:
            assert_never(block)


def _became(blocks: list[Block]) -> str:
    """All that a rule became, in one cell of the table; components of several forms are counted together."""
    dense = [block for block in blocks if isinstance(block, Dense)]
    others = [block for block in blocks if not isinstance(block, Dense)]
    phrases = [describe(block) for block in others]
    if len(dense) == 1:
        phrases.append(describe(dense[0]))
    elif dense:
        most = max(block.basis.shape[1] for block in dense)
        phrases.append(f"{sum(len(block.basis) for block in dense):,} components of up to {_many(most, 'equation')}")
    return _cut("; ".join(dict.fromkeys(phrases)) or "nothing: it holds for every weight", 72)


def _left_out(places: Integers) -> str:
    return f" less {len(places):,} entr{'ies' if len(places) != 1 else 'y'}" if len(places) else ""


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}{'s' * (count != 1)}"


def bytes_a_step(block: Block) -> int:
    """Bytes read and written to project one gradient and the weights, for float32 parameters."""
    match block:
        case Slices() | Product() | Mirror() | Pairs():
            return 4 * BYTES * block.size
        case MirroredProduct():
            return 8 * BYTES * block.size
        case Fixed():
            return 2 * (BYTES + 8) * block.size
        case Ties():
            return 4 * (BYTES + 8 + 8) * block.size
        case Dense():
            return 4 * (BYTES + 8 + 8) * block.size + 2 * int(block.basis.nbytes)
        case Sparse():
            return 4 * (BYTES + 8 + 8) * block.size + 2 * int(block.matrix.data.nbytes)
        case Bordered():
            # Bases are projected twice, and the extra equations are read twice.
            return 2 * sum(bytes_a_step(base) for base in block.bases) + 4 * int(block.matrix.data.nbytes)
        case _:
            assert_never(block)


def _groups(rules: int, blocks: tuple[Block, ...]) -> list[tuple[list[int], list[Block]]]:
    """Rules that share a block, with all their blocks; in the order of the rules."""
    leader = list(range(rules))

    def find(rule: int) -> int:
        while leader[rule] != rule:
            leader[rule] = leader[leader[rule]]
            rule = leader[rule]
        return rule

    for block in blocks:
        for rule in block.rules[1:]:
            low, high = sorted((find(block.rules[0]), find(rule)))
            leader[high] = low
    members: dict[int, tuple[list[int], list[Block]]] = {}
    for rule in range(rules):
        members.setdefault(find(rule), ([], []))[0].append(rule)
    for block in blocks:
        members[find(block.rules[0])][1].append(block)
    return list(members.values())


def _numbers(blocks: list[Block]) -> tuple[str, str, str, str]:
    size = sum(block.size for block in blocks)
    low, high = _rank(blocks)
    free = Interval(size - high, size - low)
    return f"{size:,}", _count(Interval(low, high)), _count(free), _bytes(sum(bytes_a_step(block) for block in blocks))


def _rank(blocks: list[Block] | tuple[Block, ...]) -> tuple[int, int]:
    ranks = [block.rank for block in blocks]
    low = sum(rank.low if isinstance(rank, Interval) else rank for rank in ranks)
    return low, sum(rank.high if isinstance(rank, Interval) else rank for rank in ranks)


def _totals(system: System, blocks: tuple[Block, ...]) -> str:
    size, (low, high) = sum(block.size for block in blocks), _rank(blocks)
    rows = system.equations
    redundant = Interval(rows - high, rows - low)
    total = sum(parameter.size for parameter in system.layout.parameters)
    return (
        f"{_many(rows, 'equation')}, rank {_count(Interval(low, high))} ({_count(redundant)} redundant) "
        f"over {size:,} entries; {_count(Interval(size - high, size - low))} of these stay free. "
        f"Untouched entries of the same weights: {total - size:,}."
    )


def _notes(system: System, blocks: tuple[Block, ...]) -> list[str]:
    """What was decided close to the tolerance, or not decided at all."""
    notes = []
    close = sum(_ambiguous(block) for block in blocks)
    if close:
        notes.append(
            f"note: the rank of {close:,} component{'s' * (close != 1)} was decided close to the "
            f"tolerance (constants known to {system.tolerance.epsilon:.1e}); nearly equal equations may count as one."
        )
    low, high = _rank(blocks)
    if low == sum(block.size for block in blocks) > 0:
        notes.append("note: nothing is left to train among these entries: the rules determine every one of them.")
    if low != high:
        notes.append(
            "note: a large irregular core has a rank that is bounded, not known; all of its equations are kept."
        )
    return notes


def _ambiguous(block: Block) -> int:
    match block:
        case Slices() | Dense() | Sparse():
            return block.ambiguous
        case Bordered():
            return block.ambiguous + sum(_ambiguous(base) for base in block.bases)
        case Product():
            return sum(part.ambiguous for part in block.slices)
        case MirroredProduct():
            return _ambiguous(block.product)
        case _:
            return 0


def _count(interval: Interval) -> str:
    return f"{interval.low:,}" if interval.low == interval.high else f"{interval.low:,}..{interval.high:,}"


def _bytes(count: int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:,.0f} {unit}" if unit == "B" or count >= 100 else f"{count:,.1f} {unit}"
        count /= 1000  # type: ignore[assignment]
    raise AssertionError


def _cut(text: str, most: int = 44) -> str:
    text = visible(" ".join(text.split()))
    return text if len(text) <= most else text[: most - 1] + "…"


def _table(lines: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(line[k]) for line in lines) for k in range(len(COLUMNS))]
    left = {0, 2}
    shown = [
        "  ".join(
            cell.ljust(w) if k in left else cell.rjust(w) for k, (cell, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return [shown[0], "  ".join("─" * w for w in widths), *shown[1:]]
