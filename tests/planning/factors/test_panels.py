"""Dense equations over several weights: never spelt out, exact in rank and projection, alone or beside other rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.blocks.dense import Dense
from affinet.blocks.slices import Slices
from affinet.planning.contradiction import Contradiction
from affinet.planning.factors.panels import read_panel
from affinet.plans.plan import Plan
from affinet.system.system import System
from tests.limits import plan_within
from tests.planning.random_rules import oracle_of, uses

W: Any = affinet.weights({"a": (4, 5), "b": (3, 4), "c": (6,), "d": (6,)})
DRAW = np.random.default_rng(0)
A = DRAW.standard_normal((5, 38))
LOW_RANK = DRAW.standard_normal((5, 2)) @ A[:2]
POINT = DRAW.standard_normal(38)
EVERYTHING = [W.a, W.b, W.c]

PANELS: dict[str, list[Any]] = {
    "several weights": [families.linear(EVERYTHING, A, POINT[:5])],
    "a transposed weight": [families.linear([W.b.T, W.c], A[:, :18], 1)],
    "strided selections": [families.linear([W.a[::2, 1:4], W.b[:, ::-1]], A[:, :18], POINT[:5])],
    "a weight listed twice": [families.linear([W.c, W.a, W.c], A[:, :32], 2)],
    "of low rank": [families.linear(EVERYTHING, LOW_RANK, LOW_RANK @ POINT)],
    "two that share entries": [
        families.linear([W.a, W.b], A[:2, :32], 1),
        families.linear([W.b, W.c], A[2:4, :18], POINT[:2]),
    ],
    "three in a chain": [
        families.linear([W.a, W.b], A[:2, :32], 1),
        families.linear([W.c, W.d], A[:2, :12], 0),
        families.linear([W.b, W.c], A[2:4, :18], POINT[:2]),
    ],
    "unused columns": [families.linear(EVERYTHING, A * (np.arange(38) % 5 > 0), 1)],
    "a sum of products": [A[:, :20] @ W.a.flatten() + 2 * (A[:, 20:26] @ W.c) == 1],
    "one equation twice": [families.linear(EVERYTHING, A[[0, 1, 0]], 1)],
}
BESIDE: dict[str, list[Any]] = {
    "a tie": [families.linear(EVERYTHING, A, 1), W.a[0, 0] == W.b[1, 1]],
    "row sums": [families.linear(EVERYTHING, A, 1), W.a.sum(1) == 1],
    "a pair": [families.linear(EVERYTHING, A, 1), W.c == W.d],
    "elsewhere": [families.linear([W.a, W.b], A[:, :32], 1), W.c == W.d],
}


def compiled(rules: list[Any], **limits: int) -> Plan:
    return plan_within(System.of(rules), one_by_one=1, **limits)


@pytest.mark.parametrize("large", [False, True], ids=["factored as small ones", "as large ones"])
@pytest.mark.parametrize("case", [*PANELS, *BESIDE])
def test_every_case_is_the_oracle(case: str, large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if large:
        monkeypatch.setattr("affinet.planning.factors.factor.GRAM_NUMBERS", 0)
        monkeypatch.setattr("affinet.kernels.torch.wide.FEWEST_NUMBERS", 0)
    rules = PANELS.get(case) or BESIDE[case]
    plan, truth = compiled(rules, **({"large_basis": 0} if large else {})), oracle_of(rules)
    if case in PANELS:
        assert {type(block) for block in plan.blocks} == {Dense}
    assert (plan.rank, plan.size) == (truth.rank, int((truth.matrix != 0).any(axis=0).sum()))
    assert all((count <= 1).all() for count in uses(plan).values())
    draw = torch.Generator().manual_seed(0)
    given = {p.name: torch.randn(p.shape, generator=draw, dtype=torch.float64) for p in plan.parameters}
    arrays = {name: x.numpy() for name, x in given.items()}
    projector = plan.projector(given)
    for found, wanted in (
        (projector.project(given), truth.project(arrays)),
        (projector.tangent(given), truth.tangent(arrays)),
    ):
        for name, values in wanted.items():
            np.testing.assert_allclose(found[name].numpy(), values, atol=1e-11)


def test_panels_are_the_users_own_numbers() -> None:
    system = System.of([families.linear(EVERYTHING, A, 1)])
    panel = read_panel(system, 0)
    assert panel is not None
    held = [piece.matrix.base for piece in panel.pieces]
    assert all(base is held[0] for base in held)
    np.testing.assert_array_equal(np.concatenate([piece.matrix for piece in panel.pieces], axis=1), A)


@pytest.mark.parametrize(
    "rule",
    [
        W.a.sum(1) == 1,
        A[:, :4] @ W.a == 1,
        W.c == W.d,
        families.linear(EVERYTHING, A * (np.arange(38) % 9 == 0), 1),
        W.c.cumsum(0) == 1,
    ],
    ids=["sums", "one matrix over columns", "pairs", "mostly zeros", "running sums"],
)
def test_what_is_no_panel(rule: Any) -> None:
    system = System.of([rule])
    assert read_panel(system, 0) is None


def test_a_single_cell_stays_slices_while_it_is_small() -> None:
    rules = [families.linear([W.a], A[:, :20], 1)]
    assert [type(block) for block in compiled(rules).blocks] == [Slices]
    assert [type(block) for block in compiled(rules, large_basis=0).blocks] == [Dense]


def test_panels_that_contradict_each_other_say_so() -> None:
    with pytest.raises(Contradiction) as found:
        compiled([W.d.sum() == 1, families.linear(EVERYTHING, A[:2], 1), families.linear(EVERYTHING, A[1:3], 2)])
    assert found.value.rules == (1, 2)


def test_a_panel_beyond_memory_says_so_before_it_is_factored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affinet.language.forecast.LIMIT", 1_000)
    with pytest.raises(affinet.TooLargeError, match=r'the dense factor of "mine", 5 equations over 38 entries, would'):
        compiled([families.linear(EVERYTHING, A, 1).named("mine")])


def test_violations_of_panels_are_the_oracles() -> None:
    rules = [families.linear(EVERYTHING, A, POINT[:5]), 3 * (A[:, :6] @ W.d) == 1]
    plan, truth = compiled(rules), oracle_of(rules)
    given = {p.name: torch.randn(p.shape, dtype=torch.float64) for p in plan.parameters}
    found = plan.projector(given).violation(given)
    wanted = truth.violation({name: x.numpy() for name, x in given.items()})
    assert list(found.values()) == pytest.approx(list(wanted.values()), rel=1e-12)
