"""What each rule does, in one plain sentence, and how many free numbers it takes."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet import families
from affinet.analysis import sentences as module
from affinet.analysis.equations_alone import EquationsAlone
from affinet.analysis.sentences import sentences
from affinet.blocks.interval import Interval
from affinet.blocks.sparse import Sparse

pytestmark = pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")

W = affinet.weights({"a": (4, 5), "b": (5, 4), "c": (6,), "s": (300, 300), "t": (300, 300)})


def told(*rules: affinet.Constraint) -> list[str]:
    plan = affinet.plan(rules)
    return sentences(plan.system, plan.blocks, EquationsAlone(plan.system, plan.blocks), range(len(rules)))


@pytest.mark.parametrize(
    ("rule", "does"),
    [
        (W.c[:3] == W.c[3:], "ties 3 pairs of weights: 3 fewer free numbers."),
        (W.c[0] == 2 * W.c[1] + 1, "ties 1 pair of weights: 1 fewer free number."),
        (W.c == W.c[0], "ties 6 weights in 1 group: 5 fewer free numbers."),
        (W.c[2] == 1, "fixes 1 weight: 1 fewer free number."),
        (W.a == 0, "fixes 20 weights: 20 fewer free numbers."),
        (W.a.sum(dim=1) == 1, "keeps 4 sums of 5 weights each: 4 fewer free numbers."),
        (W.a[0].sum() == 1, "keeps 1 sum of 5 weights: 1 fewer free number."),
        (W.c @ np.arange(1.0, 7) == 1, "keeps 1 equation of 6 weights: 1 fewer free number."),
        (
            W.a @ np.array([[1.0, 2, 3, 4, 5], [1, 1, 1, 1, 1]]).T == 0,
            "keeps 2 equations in each of 4 groups of 5 weights: 8 fewer free numbers.",
        ),
        (W.a.sum() == W.b.sum(), "keeps 1 equation among 40 weights: 1 fewer free number."),
        (W.s == W.t.T, "ties 90,000 pairs of weights: 90,000 fewer free numbers."),
        (families.symmetric(W.s), "ties 44,850 pairs of weights: 44,850 fewer free numbers."),
        (families.skew(W.s), "fixes 300 weights and ties 44,850 pairs of weights: 45,150 fewer free numbers."),
        (0 * W.c == 0, "holds for every weight: no fewer free numbers."),
    ],
    ids=str,
)
def test_a_rule_is_told_by_what_it_does(rule: affinet.Constraint, does: str) -> None:
    assert told(rule.named("R")) == [f'"R" {does}']


def test_rules_that_share_weights_are_told_one_by_one_and_together() -> None:
    rows, columns = (W.s.sum(dim=axis) == 1 for axis in (1, 0))
    assert told(rows.named("rows"), columns.named("columns")) == [
        '"rows" keeps 300 sums of 300 weights each: 300 fewer free numbers.',
        '"columns" keeps 300 sums of 300 weights each: 300 fewer free numbers.',
        "Together 599 fewer free numbers: 1 equation of these follows from the others.",
    ]


def test_rules_that_take_what_they_say_need_no_sum() -> None:
    assert len(told(W.c.sum() == 1, W.c[0] == W.c[1])) == 2


def test_what_rules_take_adds_up_to_the_rank_of_the_plan() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        rules = [families.linear([W.a, W.c], random.integers(-1, 2, (3, 26)), 0).named(f"{k}") for k in range(3)]
        plan = affinet.plan(rules)
        said = sentences(plan.system, plan.blocks, EquationsAlone(plan.system, plan.blocks), range(3))
        taken = [int(line.split(": ")[1].split()[0]) for line in said[:3]]
        assert taken == [affinet.plan(rule).rank for rule in rules]
        if sum(taken) != plan.rank:
            assert said[3].startswith(f"Together {plan.rank} fewer free numbers")
        else:
            assert len(said) == 3


def test_large_irregular_rules_are_not_planned_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PAIRS", 4)
    irregular = (W.c.sum() + W.a.sum() == 1).named("sum")
    assert told((W.c[0] == W.c[1]).named("tie"), irregular, (W.c[1] == W.c[2]).named("more")) == [
        '"tie" ties 1 pair of weights: 1 fewer free number.',
        '"sum" keeps 1 equation; the rules that share entries with it take 3 fewer free numbers together.',
        '"more" ties 1 pair of weights: 1 fewer free number.',
    ]


def test_a_single_equation_on_top_of_large_rules_is_told_by_itself() -> None:
    w = affinet.weights({"w": (2048, 2048)})
    rules = [w.w.sum(dim=1) == 1, w.w.sum(dim=0) == 1, w.w[3, 5] == 0.5]
    assert told(*rules) == [
        '"w.sum(dim=1) == 1" keeps 2,048 sums of 2,048 weights each: 2,048 fewer free numbers.',
        '"w.sum(dim=0) == 1" keeps 2,048 sums of 2,048 weights each: 2,048 fewer free numbers.',
        '"w[3, 5] == 0.5" fixes 1 weight: 1 fewer free number.',
        "Together 4,096 fewer free numbers: 1 equation of these follows from the others.",
    ]


def test_a_rank_within_bounds_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = affinet.plan([W.a.sum() == W.b.sum()])
    (block,) = plan.blocks
    bounded = Sparse(
        block.parts, block.classes, None, np.zeros(3), Interval(2, 3), False, False, (0,)  # type: ignore[arg-type, union-attr]
    )  # fmt: skip
    (said,) = sentences(plan.system, (bounded,), EquationsAlone(plan.system, (bounded,)), [0])
    assert said.endswith("keeps 2 to 3 equations among 40 weights: 2 to 3 fewer free numbers.")
