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
    assert shown[-1] == (
        "6 equations, rank 5 (1 redundant) over 22 entries; 17 of these stay free. "
        "Untouched entries of the same weights: 4."
    )


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


def test_an_interval_prints_its_bounds() -> None:
    assert str(Interval(3, 5)) == "3..5"
    assert str(Interval(4, 4)) == "4"
