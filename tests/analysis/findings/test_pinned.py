"""Entries that can take one value only are named, unless a rule says so of them alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.analysis.findings.nothing_left import NothingLeft
from affinet.analysis.findings.pinned import Pinned

pytestmark = pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")

W = affinet.weights({"a": (4, 6), "b": (6, 4), "c": (5,), "big": (400, 400), "x": ()})


def found(*rules: affinet.Constraint) -> list[Pinned]:
    return [finding for finding in affinet.plan(rules).findings if isinstance(finding, Pinned)]


def test_a_row_that_two_sums_pin_to_zero_is_named_as_a_slice() -> None:
    partial = W.a[:, 1:].sum(dim=1)
    (one,) = found((W.a.sum(dim=1) == 1).named("rows"), (partial == 1).named("without the first"))
    assert (one.weight, one.where, one.entries, one.value) == ("a", "a[:, 0]", 4, 0.0)
    assert one.rules == ("rows", "without the first")
    assert str(one) == (
        'a[:, 0] can only take the value 0: the rules "rows" and "without the first" together leave them no choice. If '
        "that is meant, say it as a rule of its own (a[:, 0] == 0); else loosen one of them."
    )


def test_the_rules_that_pin_each_entry_are_told_apart() -> None:
    three, two = (W.c[0] + W.c[1] + W.c[2] == 1).named("three"), (W.c[1] + W.c[2] == 0).named("two")
    square = families.linear([W.a[0, :2]], np.array([[1, 1], [1, -1]]), [3, 1]).named("square")
    told = {one.where: (one.value, one.rules) for one in found(three, two, square)}
    assert told == {"c[0]": (1.0, ("three", "two")), "a[0, :2]": (None, ("square",))}


def test_one_matrix_can_pin_too() -> None:
    (one,) = found(families.linear([W.c], np.array([[1, 1, 1, 0, 0], [0, 1, 1, 0, 0.0]]), [3, 1]).named("A"))
    assert (one.where, one.value, one.rules) == ("c[0]", 2.0, ("A",))
    assert 'the rule "A" leaves it no choice' in str(one)
    assert str(one).endswith("else loosen the rule.")


def test_entries_of_large_regular_rules_are_found() -> None:
    matrix = np.zeros((2, 400))
    matrix[0, :5], matrix[1, 1:5] = 1, 1
    (one,) = found((matrix @ W.big == 1).named("M"))
    assert (one.where, one.entries, one.value) == ("big[0, :]", 400, 0.0)


def test_an_entry_that_a_fixed_one_and_a_sum_over_large_rules_leave_no_choice() -> None:
    rules = [(W.big.sum(dim=1) == 1).named("rows"), (W.big[3, 1:].sum() == 0).named("the rest")]
    (one,) = found(*rules)
    assert one.where == "big[3, 0]"
    assert one.rules == ("rows", "the rest")


@pytest.mark.parametrize(
    "rules",
    [
        [families.fix(W.c, value=2)],
        [W.a[0, 1] == 0],
        [W.a == 1, W.a.sum() == 24],
        [W.x == 3],
        [families.skew(W.big)],
        [families.skew(W.a[:, :4])],
        [W.a.sum(dim=1) == 1, W.a.sum(dim=0) == 4 / 6],
        [families.banded(W.big, 1, 1)],
        [families.block_diagonal(W.big, 4)],
        [2 * W.big[0] == 6, W.big.sum(dim=1) == 2_400 / 2],
        [W.a.diff(dim=1) == 1],
        [W.c[0] == 2, W.c[0] == W.c[1], W.c[1] == 3 * W.c[2]],
        [families.symmetric(W.big), W.big[0, 1] == 0.3],
        [families.equivariant(W.a[0, :2], outputs=[np.array([[0.6, -0.8], [0.8, 0.6]])])],
    ],
    ids=str,
)
def test_what_is_said_outright_or_left_free_is_not_told(rules: list[affinet.Constraint]) -> None:
    assert found(*rules) == []


def test_a_weight_of_which_nothing_is_left_is_told_once() -> None:
    findings = affinet.plan([families.linear([W.c], np.eye(5) + 1, 6)]).findings
    assert [type(finding) for finding in findings] == [NothingLeft]
    assert str(findings[0]).startswith("nothing is left to train in c: the rule")
    assert str(findings[0]).endswith("all of its 5 entries. Loosen a rule, or say what is meant with families.fix.")


def test_a_weight_of_one_entry_has_nothing_left() -> None:
    assert "determines its one entry. Loosen" in str(NothingLeft("c", 1, ("r",)))
    assert "determines all of its 2,000 entries. Loosen" in str(NothingLeft("c", 2000, ("r",)))


def test_all_rules_are_named_where_a_tiny_coefficient_tells_them_apart() -> None:
    tiny = ((torch.tensor([1e-6, 1, 1]) * W.c[:3]).sum() == 2).named("tiny")
    (one,) = found(tiny, (W.c[1] + W.c[2] == 1).named("sum"))
    assert (one.where, one.rules) == ("c[0]", ("tiny", "sum"))
    assert one.value == pytest.approx(1e6)


def test_among_large_rules_those_about_the_entries_beside_it_are_named_too() -> None:
    symmetric, three = families.symmetric(W.big).named("symmetric"), (W.big[0, :3].sum() == 2).named("three")
    (one,) = found(symmetric, three, (W.big[0, 1:3].sum() == 1).named("two"))
    assert (one.where, one.value, one.rules) == ("big[0, 0]", 1.0, ("three", "two"))


def test_an_entry_on_top_of_symmetric_row_sums_is_found() -> None:
    regular = [families.symmetric(W.big).named("symmetric"), (W.big.sum(dim=1) == 1).named("rows")]
    on_top = [(W.big[0, :40].sum() == 1).named("forty"), (W.big[0, 1:40].sum() == 1).named("less one")]
    (one,) = found(*regular, *on_top)
    assert (one.where, one.entries) == ("big[0, 0]", 1)
    assert one.rules == ("symmetric", "rows", "forty", "less one")
