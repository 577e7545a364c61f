"""Contradictions: an irreducible set of rules, and a sentence that says what they say together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import affinet
from affinet import families
from affinet.errors import InfeasibleError

W = affinet.weights({"a": (4, 5), "b": (5,), "c": (3, 3, 3)})


SENTENCES: dict[str, tuple[list[Any], tuple[str, ...], str]] = {
    "two values": (
        [W.b[0] == 1, W.b[0] == 3, W.b[1] == 1],
        ("b[0] == 1", "b[0] == 3"),
        r"0 == -?[12](\.0)? for b\[0\]",
    ),
    "one rule": (
        [0 * W.b == 1],
        ("0 * b == 1",),
        r"it says 0 == 1, and no weight is left in it\. Change it or drop it",
    ),
    "a row": (
        [(W.a.sum(dim=1) == 1).named("rows sum to one"), (W.a[0] == 0).named("first row is zero")],
        ("rows sum to one", "first row is zero"),
        r"together they say 0 == -?1 for a\[0, :\]",
    ),
    "a cycle": (
        [W.b[0] == W.b[1] + 1, W.b[1] == W.b[2] + 1, W.b[2] == W.b[0]],
        ("b[0] == b[1] + 1", "b[1] == b[2] + 1", "b[2] == b[0]"),
        r"0 == -?2 for b",
    ),
    "rows against columns": (
        [W.a.sum(dim=1) == 1, W.a.sum(dim=0) == 1],
        ("a.sum(dim=1) == 1", "a.sum(dim=0) == 1"),
        r"for a\.",
    ),
}


@pytest.mark.parametrize(("rules", "names", "sentence"), SENTENCES.values(), ids=SENTENCES)
def test_the_sentence(rules: list[Any], names: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(affinet.InfeasibleError, match=sentence) as found:
        affinet.plan(rules)
    assert set(found.value.rules) == set(names)


HIDDEN: dict[str, Callable[[], list[Any]]] = {
    "in a forest of ties": lambda: (
        [(W.b[k] == W.b[k + 1]).named(f"link {k}") for k in range(4)] + [(W.b[0] == W.b[4] + 1).named("off")]
    ),
    "in dense equations": lambda: [
        *(
            ((row @ W.b) == 1).named(f"row {k}")
            for k, row in enumerate(np.random.default_rng(0).standard_normal((4, 5)))
        ),
        (np.random.default_rng(0).standard_normal((4, 5)).sum(axis=0) @ W.b == 5).named("sum of all"),
    ],
    "between slices": lambda: [
        (W.c.sum(dim=(1, 2)) == 1).named("one"),
        (W.c.sum(dim=0) == 1).named("two"),
        (W.b == 0).named("apart"),
    ],
    "three rules of many": lambda: [
        *((W.a[k].sum() == 1).named(f"row {k}") for k in range(4)),
        (W.a[:2].sum() == 3).named("half"),
        *((W.b[k] == k).named(f"b{k}") for k in range(5)),
    ],
}


@pytest.mark.parametrize("make", HIDDEN.values(), ids=HIDDEN)
def test_named_rules_are_irreducible(make: Callable[[], list[Any]]) -> None:
    rules = make()
    with pytest.raises(affinet.InfeasibleError, match="cannot hold together") as found:
        affinet.plan(rules)
    chosen = [rule for rule in rules if rule.name in found.value.rules]
    assert len(chosen) == len(found.value.rules) < len(rules) + 1
    with pytest.raises(affinet.InfeasibleError, match="cannot hold together"):
        affinet.plan(chosen)
    for left_out in chosen:
        affinet.plan([rule for rule in chosen if rule is not left_out])


def test_many_rules_of_which_two_contradict() -> None:
    w = affinet.weights({"a": (300,)})
    rules = [(w.a[k] == w.a[k + 1]).named(f"tie {k}") for k in range(0, 298, 2)]
    rules += [(w.a[10] == 1).named("ten"), (w.a[11] == 2).named("eleven")]
    with pytest.raises(affinet.InfeasibleError, match="cannot hold together") as found:
        affinet.plan(rules)
    assert set(found.value.rules) == {"tie 10", "ten", "eleven"}


def test_the_number_of_a_large_contradiction_is_that_of_its_rules() -> None:
    w = affinet.weights({"a": (1000, 1000)})
    with pytest.raises(affinet.InfeasibleError, match=r"together they say 0 == 1 for a"):
        affinet.plan([w.a.sum(dim=0) == 1, w.a.sum() == 1001])


def test_one_rule_whose_numbers_leave_float64() -> None:
    chain = affinet.concat([W.b[:1], W.b[:4] - 1e-100 * W.b[1:]]) == [1, 0, 0, 0, 0]
    with pytest.raises(affinet.InfeasibleError, match=r"\nit asks for numbers beyond float64 \(1\.8e308\), or what is"):
        affinet.plan(chain)


def test_a_gap_that_may_be_rounding_says_the_tolerance_that_takes_it() -> None:
    rules = [families.linear([W.b[:3]], [[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]], [1 / 3, 0.66666])]
    with pytest.raises(InfeasibleError, match=r"That is 5e-06 of what was added up: .* tolerance=1e-05\)\. Change it"):
        affinet.plan(rules)
    assert affinet.plan(rules, tolerance=1e-5).rank == 1


def test_a_gap_that_no_tolerance_takes_is_told_as_rounding() -> None:
    first, second = np.array([1.0, 2.0, 3.0]), np.array([3.0, -1.0, 2.0])
    near = first + 1e-3 * second  # a tolerance of 1e-4 takes it for the first, and then 1 and 2 contradict each other
    rules = families.linear([W.b[:3]], [first, near, near], [1.0, 2.0, 2.0002])
    with pytest.raises(InfeasibleError, match="the equations depend on each other but for rounding"):
        affinet.plan(rules)
    with pytest.raises(InfeasibleError):
        affinet.plan(rules, tolerance=1e-4)


def test_a_gap_of_large_rules_is_told_without_planning_them_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affinet.analysis.diagnosis.explaining.READ_AS_ONE", 0)
    rules = [families.linear([W.b[:3]], [[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]], [1 / 3, 0.66666])]
    with pytest.raises(
        InfeasibleError, match=r"That is 5e-06 of what was added up: it may be the rounding of the const"
    ):
        affinet.plan(rules)
