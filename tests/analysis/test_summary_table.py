"""The plan as a table: exactly, for small plans of every kind of block."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet import families
from affinet.analysis.summary import _bytes
from affinet.blocks.bordered import Bordered

W = affinet.weights({"a": (3, 4), "b": (4,), "s": (300, 300), "T": (300, 300)})


TABLE = """\
rule             equations  entries  rank  free  bytes a step  kept as
───────────────  ─────────  ───────  ────  ────  ────────────  ──────────────────────────────────────
rows sum to one          3       12     3     9         192 B  3 groups of 4 entries, 1 equation each
b[0] == b[1]             1        2     1     1         160 B  2 entries tied in 1 group
3 * b[2] == 1            1        1     1     0          40 B  1 fixed entry

5 equations, rank 5 (0 redundant) over 15 entries; 10 of these stay free. \
Untouched entries of the same weights: 1.
Free in each weight by itself: b 2 of 4, a 9 of 12. That adds up to 11 of 16.

In words:
  - "rows sum to one" keeps 3 sums of 4 weights each: 3 fewer free numbers.
  - "b[0] == b[1]" ties 1 pair of weights: 1 fewer free number.
  - "3 * b[2] == 1" fixes 1 weight: 1 fewer free number."""


def test_the_table_of_a_small_plan() -> None:
    plan = affinet.plan([(W.a.sum(1) == 1).named("rows sum to one"), W.b[0] == W.b[1], 3 * W.b[2] == 1])
    assert str(plan) == TABLE


def test_rules_that_became_one_block_share_its_numbers() -> None:
    lines = str(affinet.plan([W.a.sum(1) == 1, W.a @ np.arange(4.0) == 0, W.b[0] == 2])).splitlines()
    kept = "3 groups of 4 entries, 2 equations each"
    assert lines[2].split()[-13:] == ["12", "6", "6", "192", "B", *kept.split()]
    assert lines[3].split()[-9:] == ["3", *kept.split()]
    assert "b[0] == 2" in lines[4]


def test_rules_that_say_nothing_say_so() -> None:
    assert "nothing: it holds for every weight" in str(affinet.plan([0 * W.b == 0]))


def test_long_names_and_large_numbers() -> None:
    text = str(affinet.plan([(W.s.sum(1) == 1).named("a name that goes on and on and on, for longer than a line")]))
    assert "a name that goes on and on and on, for long…" in text
    line = text.splitlines()[2].split()
    assert line[-13:-8] == ["90,000", "300", "89,700", "1.4", "MB"]
    assert line[-8:] == ["300", "groups", "of", "300", "entries,", "1", "equation", "each"]


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        ([W.a.sum(1) == 1], "3 groups of 4 entries, 1 equation each"),
        ([W.s.sum(1) == 1, W.s.sum(0) == 1], "equations along 2 axes of 90,000 entries"),
        ([families.symmetric(W.s)], "44,850 pairs mirrored within s"),
        ([families.skew(W.s)], "44,850 pairs mirrored within s, of opposite sign"),
        ([W.s == W.T.T], "90,000 pairs of s and T"),
        ([W.b == 1], "4 fixed entries"),
        ([W.b[:2] == W.b[2:]], "4 entries tied in 2 groups"),
        ([W.b[0] == W.b[3]], "2 entries tied in 1 group"),
        ([W.b[0] + W.b[1] == W.a[0, 0]], "1 equation"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_blocks_in_a_few_words(rules: list[affinet.Constraint], wanted: str) -> None:
    (block,) = affinet.plan(rules).blocks
    assert block.describe() == wanted


def test_ranks_decided_close_to_the_tolerance_are_noted() -> None:
    close = affinet.plan([W.b.sum() == 1, W.b @ np.array([1, 1, 1, 1 + 1e-13]) == 1])
    assert "note: the rank of 1 group of equations was decided close to the tolerance" in str(close)
    clear = affinet.plan([W.b.sum() == 1, W.b @ np.arange(4.0) == 1])
    assert "note" not in str(clear)


def test_components_of_several_forms_are_counted_together() -> None:
    three, four = W.b[0] + W.b[1] - W.a[0, 0], W.a[1, 0] + W.a[1, 2] + W.b[2] - W.a[2, 3]
    text = str(affinet.plan([affinet.stack([three, four]) == 0]))
    assert "2 equations, each by itself" in text.splitlines()[2]


def test_several_ranks_close_to_the_tolerance_are_components() -> None:
    almost = np.array([1, 1, 1, 1 + 1e-13])
    rules = [rule for row in (W.a[0, :4], W.b) for rule in (row.sum() == 1, row @ almost == 1)]
    assert "note: the rank of 2 groups of equations was decided close to the tolerance" in str(affinet.plan(rules))


def test_bytes_of_equations_on_top_count_the_bases_twice_and_the_equations_twice() -> None:
    w = affinet.weights({"a": (300, 300)})
    (block,) = affinet.plan([w.a.sum(dim=1) == 1, w.a.sum(dim=0) == 1, w.a[:2, :2].sum() == 1]).blocks
    assert isinstance(block, Bordered)
    assert block.bytes_a_step() == 2 * 4 * 4 * 90_000 + 4 * 4 * 8


@pytest.mark.parametrize(
    ("count", "said"), [(999, "999 B"), (1_500, "1.5 kB"), (250_000_000, "250 MB"), (3_200_000_000_000, "3,200 GB")]
)
def test_bytes_in_a_few_digits(count: int, said: str) -> None:
    assert _bytes(count) == said
