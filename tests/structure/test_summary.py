"""The table that `print(plan)` shows."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet import families
from affinet.structure.blocks import Interval

pytestmark = pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")  # some of these determine all

W = affinet.weights({"a": (4, 5), "b": (5, 4), "c": (6,)})


def lines(*rules: object) -> list[str]:
    return str(affinet.plan(rules)).splitlines()  # type: ignore[arg-type]


def test_the_table_has_a_line_a_rule_and_the_totals() -> None:
    shown = lines((W.a.sum(dim=1) == 1).named("rows"), (W.c[0] == W.c[1]).named("a tie"), W.c[0] == W.c[1])
    assert shown[0].split() == ["rule", "equations", "became", "entries", "rank", "free", "bytes", "a", "step"]
    assert shown[2].startswith("rows")
    assert "4 slices of 5 entries, 1 equation each" in shown[2]
    assert "2 entries tied in 1 class" in shown[3]
    totals = "6 equations, rank 5 (1 redundant) over 22 entries; 17 of these stay free."
    advice = "dropping it changes nothing. Was it meant to say something else?"
    assert shown[5:] == [
        "",
        f"{totals} Untouched entries of the same weights: 4.",
        "Free in each weight, the others following: a 16 of 20, c 5 of 6.",
        "",
        "Findings:",
        f'  - the rule "c[0] == c[1]" follows from "a tie": {advice}',
    ]


@pytest.mark.parametrize(
    ("rule", "became"),
    [
        (families.fix(W.c, np.arange(6) < 3, 1.0), "3 fixed entries"),
        (W.c[0] == 1, "1 fixed entry"),
        (0 * W.c == 0, "nothing: it holds for every weight"),
        (W.a.sum() + W.b.sum() == 1, "1 component of 1 equation, 40 unknowns"),
        (W.c == W.c[0], "6 entries tied in 1 class"),
    ],
    ids=str,
)
def test_what_a_rule_became(rule: affinet.Constraint, became: str) -> None:
    assert became in lines(rule)[2]


def test_rules_that_share_blocks_share_the_numbers() -> None:
    shown = lines(W.a.sum(dim=1) == 0, W.a.sum(dim=0) == 0)
    assert "product of 2 projections along the axes of 20 entries" in shown[2]
    assert shown[3].split()[-4:] == ["″"] * 4


def test_large_regular_rules_are_named_for_what_they_are() -> None:
    w = affinet.weights({"s": (300, 300), "t": (300, 300), "u": (300, 300)})
    shown = lines(families.symmetric(w.s), families.skew(w.t), w.u == 2 * w.u + 0)
    assert "symmetric pairs of one box" in shown[2]
    assert "antisymmetric pairs of one box" in shown[3]


def test_a_plan_without_rules_prints() -> None:
    assert lines()[-1].startswith("0 equations, rank 0 (0 redundant) over 0 entries")


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
    assert len(plan.table().splitlines()) == 2 + 60 + 2
    assert "Findings" not in plan.table()


def test_at_most_ten_findings_are_shown() -> None:
    plan = affinet.plan([(W.c[k % 3] == 0 * W.c[3]).named(f"rule {k}") for k in range(15)])
    shown = str(plan).splitlines()
    assert len(plan.findings) == 12
    assert shown[-11].startswith('  - the rule "rule 14" follows from "rule')
    assert shown[-1] == "  … 2 more findings: plan.findings"


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([W.a[0] == W.b[0, 0], W.a[0, 0] == W.c[0]], "a 16 of 20; all of 2 other weights"),
        ([W.a.sum(1) == 1, W.b == 2], "b 0 of 20, a 16 of 20"),
        ([W.a[0, :3].sum() == W.c[:3].sum(), W.c.sum() == 1], "c 5 of 6; all of 1 other weight"),
    ],
    ids=str,
)
def test_free_numbers_by_weight(rules: list[affinet.Constraint], said: str) -> None:
    assert f"Free in each weight, the others following: {said}." in lines(*rules)


def test_weights_that_lose_nothing_are_not_listed() -> None:
    assert not any(line.startswith("Free in each") for line in lines(W.a[0, 0] == W.c[0]))
    w = affinet.weights({f"w{k}": (3,) for k in range(9)})
    shown = lines(*[w[f"w{k}"].sum() == 1 for k in range(9)])
    assert any(line.endswith("w4 2 of 3, w5 2 of 3, … (3 more).") for line in shown)


def test_an_interval_prints_its_bounds() -> None:
    assert str(Interval(3, 5)) == "3..5"
    assert str(Interval(4, 4)) == "4"


def test_one_more_finding_is_one() -> None:
    plan = affinet.plan([(W.c[k % 3] == 0 * W.c[3]).named(f"rule {k}") for k in range(14)])
    assert len(plan.findings) == 11
    assert str(plan).splitlines()[-1] == "  … 1 more finding: plan.findings"
