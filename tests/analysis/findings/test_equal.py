"""Entries that can no longer differ are named, unless equations of two entries lead from one to the other."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet import families
from affinet.analysis.findings.equal_entries import Equal

W = affinet.weights({"a": (4, 6), "s": (4, 4), "c": (12,), "big": (400, 400)})


def found(*rules: affinet.Constraint) -> list[Equal]:
    return [finding for finding in affinet.plan(rules).findings if isinstance(finding, Equal)]


def test_two_sums_make_two_entries_equal() -> None:
    rules = [(W.c[0] + W.c[1] + W.c[2] == 1).named("one"), (W.c[0] + W.c[1] + W.c[3] == 1).named("other")]
    (pair,) = found(*rules)
    assert str(pair) == (
        'c[2:4] can no longer differ (2 entries, equal): no equation ties them, but the rules "one" and "other" '
        "together do. If that is not meant, loosen one of them."
    )


def test_twelve_weights_can_no_longer_differ() -> None:
    weights = affinet.weights({"v": (13,)})
    kept = np.zeros((13, 2))
    kept[:12, 0], kept[12, 1] = 1, 1
    others = np.linalg.qr(kept, mode="complete")[0][:, 2:]
    matrix = np.random.default_rng(0).standard_normal((11, 11)) @ others.T
    (one,) = found(families.linear([weights.v], matrix).named("A"))
    assert (one.where, one.entries, one.how, one.rules) == ("v[:12]", 12, "equal", ("A",))


def test_opposite_entries_count_too() -> None:
    told = found(W.c[:4].sum() == 0, W.c[2] + W.c[3] + 2 * W.c[4] == 0, W.c[4] == 0)
    assert [(pair.where, pair.how) for pair in told] == [(f"c[{at}]", "equal or opposite") for at in (":2", "2:4")]


def test_many_classes_are_counted() -> None:
    total = W.c[:6] + W.c[6:]
    few = found(total[:4] + W.a[0, :4] == 1, total[:4] + W.a[1, :4] == 1)
    assert [one.entries for one in few] == [2, 2, 2, 2]
    square = affinet.concat([total + W.a[0], total + W.a[1]]) == 1
    extra = affinet.stack([W.a[2, 0] + W.a[2, 1] + W.a[2, 2], W.a[2, 0] + W.a[2, 1] + W.a[2, 3]]) == 1
    (many,) = found(square.named("sums"), extra.named("sums too"), total.sum() + W.a[2].sum() == 0)
    assert (many.classes, many.entries, many.how) == (7, 14, "equal")
    assert "14 entries in 7 classes can no longer differ within their class, such as" in str(many)


@pytest.mark.parametrize(
    "rules",
    [
        [W.c[0] == W.c[1], W.c[1] == W.c[2]],
        [families.symmetric(W.s), W.s.sum(dim=1) == 1],
        [families.toeplitz(W.big)],
        [W.a.sum(dim=0) == 1, W.a.sum(dim=1) == 1.5],
        [families.subspace([W.c], np.ones((12, 1)))],
        [families.equivariant(W.s, inputs=[np.eye(4)[[1, 2, 3, 0]]], outputs=[np.eye(4)[[1, 2, 3, 0]]])],
        [W.c.diff() == 1],
        [W.big == W.big.T],
        [families.tie(W.c[:6], W.a[0], W.a[1])],
    ],
    ids=str,
)
def test_what_was_tied_or_is_free_is_not_told(rules: list[affinet.Constraint]) -> None:
    assert found(*rules) == []


def test_entries_of_large_rules_along_two_axes_are_found() -> None:
    weights = affinet.weights({"w": (400, 4)})
    sums = np.array([[1, 1], [1, 1], [1, 0], [0, 1.0]])
    (one,) = found(
        (weights.w @ sums == 1).named("rows"), (weights.w.sum(dim=0) == [100, 100, 200, 200]).named("columns")
    )
    assert (one.where, one.entries, one.classes, one.how, one.rules) == ("w[0, 2:]", 800, 400, "equal", ("rows",))
