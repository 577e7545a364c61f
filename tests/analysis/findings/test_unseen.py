"""What is not looked for among large rules is said; rules whose blocks tell it are not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

import affinet
from affinet import families
from affinet.analysis.findings.overlooked import Overlooked

W = affinet.weights({"big": (400, 400), "long": (200_000,)})
PLACES = np.random.default_rng(0).permutation(200_000)


def found(*rules: affinet.Constraint) -> list[Overlooked]:
    return [one for one in affinet.plan(rules).findings if isinstance(one, Overlooked)]


def scattered(entries: int, rows: int) -> sparse.csr_array:
    """Equations of `entries` random numbers; neighbours share one entry in twos."""
    draw = np.random.default_rng(1)
    columns = PLACES[: rows * entries].reshape(rows, entries).copy()
    columns[1::2, 0] = columns[0::2, 1]
    values = draw.standard_normal(rows * entries)
    return sparse.csr_array((values, columns.ravel(), np.arange(0, rows * entries + 1, entries)), (rows, 200_000))


def test_irregular_equations_are_named() -> None:
    matrix = scattered(4, 20_000)
    (one,) = found(families.linear([W.long], matrix, np.ones(20_000)).named("scattered"))
    assert one == Overlooked(("scattered",), 20_000, "near-redundancy")


def test_classes_beside_sums_are_named() -> None:
    ties = W.long[PLACES[:50_000]] == W.long[PLACES[50_000:100_000]]
    sums = families.linear([W.long], scattered(4, 20_000), np.ones(20_000))
    told = found(ties.named("ties"), sums.named("sums"))
    assert {one.reason for one in told} == {"near-redundancy and entries made equal"}


@pytest.mark.parametrize(
    "rules",
    [
        [W.big.sum(dim=1) == 1, W.big.sum(dim=0) == 1],
        [families.symmetric(W.big), W.big.sum(dim=1) == 1],
        [W.long[PLACES[:100_000]] == W.long[PLACES[100_000:]]],
        [np.random.default_rng(0).standard_normal((3, 400)) @ W.big == 1],
        [W.big == 0],
    ],
    ids=str,
)
def test_regular_rules_are_not_named(rules: list[affinet.Constraint]) -> None:
    assert found(*rules) == []
