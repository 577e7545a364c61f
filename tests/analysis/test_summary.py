"""The table that `print(plan)` shows."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet import families
from affinet.blocks.interval import Interval

pytestmark = pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")  # some of these determine all

W = affinet.weights({"a": (4, 5), "b": (5, 4), "c": (6,)})


def lines(*rules: object) -> list[str]:
    return str(affinet.plan(rules)).splitlines()  # type: ignore[arg-type]


def test_the_table_has_a_line_a_rule_and_the_totals() -> None:
    shown = lines((W.a.sum(dim=1) == 1).named("rows"), (W.c[0] == W.c[1]).named("a tie"), W.c[0] == W.c[1])
    assert shown[0].split() == ["rule", "equations", "entries", "rank", "free", "bytes", "a", "step", "kept", "as"]
    assert shown[2].startswith("rows")
    assert "4 groups of 5 entries, 1 equation each" in shown[2]
    assert "2 entries tied in 1 group" in shown[3]
    totals = "6 equations, rank 5 (1 redundant) over 22 entries; 17 of these stay free."
    advice = "dropping it changes nothing. Was it meant to say something else?"
    assert shown[5:] == [
        "(A line without numbers is counted with the line above.)",
        "",
        f"{totals} Untouched entries of the same weights: 4.",
        "Free in each weight by itself: a 16 of 20, c 5 of 6. That adds up to 21 of 26.",
        "",
        "In words:",
        '  - "rows" keeps 4 sums of 5 weights each: 4 fewer free numbers.',
        '  - "a tie" ties 1 pair of weights: 1 fewer free number.',
        '  - "c[0] == c[1]" ties 1 pair of weights: 1 fewer free number.',
        "  - Together 5 fewer free numbers: 1 equation of these follows from the others.",
        "",
        "Findings:",
        f'  - the rule "c[0] == c[1]" follows from "a tie": {advice}',
    ]


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        (families.fix(W.c, np.arange(6) < 3, 1.0), "3 fixed entries"),
        (W.c[0] == 1, "1 fixed entry"),
        (0 * W.c == 0, "nothing: it holds for every weight"),
        (W.a.sum() + W.b.sum() == 1, "1 equation"),
        (W.c == W.c[0], "6 entries tied in 1 group"),
    ],
    ids=str,
)
def test_how_a_rule_is_kept(rule: affinet.Constraint, kept: str) -> None:
    assert lines(rule)[2].endswith(f"  {kept}")


def test_rules_that_share_blocks_share_the_numbers() -> None:
    shown = lines(W.a.sum(dim=1) == 0, W.a.sum(dim=0) == 0)
    kept = "equations along 2 axes of 20 entries"
    assert shown[2].split("  ", 1)[1].split() == ["4", "20", "8", "12", "320", "B", *kept.split()]
    assert shown[3].split("  ", 1)[1].split() == ["5", *kept.split()]
    assert shown[4].startswith("(A line without numbers is counted with the line above")


def test_large_regular_rules_are_named_for_what_they_are() -> None:
    w = affinet.weights({"s": (300, 300), "t": (300, 300), "u": (300, 300)})
    shown = lines(families.symmetric(w.s), families.skew(w.t), w.u == 2 * w.u + 0)
    assert shown[2].endswith("44,850 pairs mirrored within s")
    assert shown[3].endswith("44,850 pairs mirrored within t, of opposite sign")


def test_a_plan_without_rules_prints() -> None:
    assert lines() == ["There are no rules: all weights are free."]


def test_a_long_table_is_shortened_and_can_be_had_whole() -> None:
    plan = affinet.plan([(W.a[k // 5, k % 5] + W.b[k // 4, k % 4] == k).named(f"rule {k}") for k in range(20)] * 3)
    shown = str(plan).splitlines()
    assert shown[2 + 30] == "… 20 more rules: print(plan.table()) shows all"
    assert [line.split("  ")[0] for line in (shown[2], shown[31], shown[33], shown[42])] == [
        "rule 0",
        "rule 9 (2)",
        "rule 10 (3)",
        "rule 19 (3)",
    ]
    assert len(plan.table().splitlines()) == 2 + 60 + 1 + 2
    assert "Findings" not in plan.table()
    assert sum(line.startswith('  - "rule ') and "fewer" in line for line in shown) == 40


def test_at_most_ten_findings_are_shown() -> None:
    plan = affinet.plan([(W.c[k % 3] == 0 * W.c[3]).named(f"rule {k}") for k in range(15)])
    shown = str(plan).splitlines()
    assert len(plan.findings) == 12
    assert shown[-11].startswith('  - the rule "rule 14" follows from "rule')
    assert shown[-1] == "  … 2 more findings: plan.findings"


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (
            [W.a[0] == W.b[0, 0], W.a[0, 0] == W.c[0]],
            "a 16 of 20; all of 2 other weights. That adds up to 42, of which equations between weights take 2: 40",
        ),
        ([W.a.sum(1) == 1, W.b == 2], "b 0 of 20, a 16 of 20. That adds up to 16 of 40"),
        (
            [W.a[0, :3].sum() == W.c[:3].sum(), W.c.sum() == 1],
            "c 5 of 6; all of 1 other weight. That adds up to 25, of which equations between weights take 1: 24",
        ),
    ],
    ids=str,
)
def test_free_numbers_by_weight(rules: list[affinet.Constraint], said: str) -> None:
    (line,) = (line for line in lines(*rules) if line.startswith("Free"))
    assert line.startswith(f"Free in each weight by itself: {said}")
    assert line.endswith((" of 40.", " of 46 are free at once.", " of 26 are free at once."))


def test_weights_that_lose_nothing_are_not_listed() -> None:
    assert not any(line.startswith("Free in each") for line in lines(W.a[0, 0] == W.c[0]))
    w = affinet.weights({f"w{k}": (3,) for k in range(9)})
    shown = lines(*[w[f"w{k}"].sum() == 1 for k in range(9)])
    assert any(line.endswith("w4 2 of 3, w5 2 of 3, … (3 more). That adds up to 18 of 27.") for line in shown)


def test_an_interval_prints_its_bounds() -> None:
    assert str(Interval(3, 5)) == "3..5"
    assert str(Interval(4, 4)) == "4"


def test_one_more_finding_is_one() -> None:
    plan = affinet.plan([(W.c[k % 3] == 0 * W.c[3]).named(f"rule {k}") for k in range(14)])
    assert len(plan.findings) == 11
    assert str(plan).splitlines()[-1] == "  … 1 more finding: plan.findings"
