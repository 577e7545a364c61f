"""A coefficient that is exactly zero is no coefficient: its entry is in no equation, whoever asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

import affinet
from affinet import families
from affinet.errors import InfeasibleError
from affinet.plans.plan import Plan
from affinet.system.system import System
from tests.limits import plan_within

MASK = np.array([0.0, 1.0, 1.0])
W: Any = affinet.weights({"a": (1,), "b": (3,), "e": (3,), "m": (4, 4), "k": (2, 3)})
NOTHING_LEFT = pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")


class Three(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.b = torch.nn.Parameter(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
        self.e = torch.nn.Parameter(torch.tensor([4.0, 5.0, 6.0], dtype=torch.float64))


def attached(*rules: Any) -> tuple[Three, affinet.Handle]:
    model = Three()
    return model, affinet.project(model, torch.optim.SGD(model.parameters(), lr=0.1), list(rules))


def counts(*rules: Any) -> tuple[int, int, int]:
    plan = affinet.plan(list(rules))
    assert str(plan)
    return plan.rows, plan.rank, plan.size


def test_a_mask_and_an_index_pin_what_the_mask_holds() -> None:
    w: Any = affinet.weights(Three())
    model, handle = attached(*((MASK * w.b)[i] == 0 for i in range(3)))
    assert model.b.tolist() == [1.0, 0.0, 0.0]
    assert (handle.plan.rank, handle.plan.size) == (2, 2)
    assert "rank 2 (1 redundant) over 2 entries" in str(handle.plan)


def test_a_tie_with_nothing_fixes_the_other_side() -> None:
    w: Any = affinet.weights(Three())
    model, handle = attached((MASK * w.b)[0] == w.e[0])
    assert (model.b.tolist(), model.e.tolist()) == ([1.0, 2.0, 3.0], [0.0, 5.0, 6.0])
    assert (handle.plan.rank, handle.plan.size) == (1, 1)


@NOTHING_LEFT
def test_a_product_with_a_zero_contradicts_nothing() -> None:
    assert counts(2 * W.a == 0.5, (W.a @ np.array([[0, 0, -1.0]]))[0] == 0) == (2, 1, 1)


NOTHING: dict[str, Any] = {
    "a mask": (MASK * W.b)[0],
    "a mask and a slice": (MASK * W.b)[:1].sum(),
    "a mask and an array of indices": (np.array([0.0, 0.0, 1.0]) * W.b)[[0, 1, 1]][1],
    "the lower triangle of triu": W.m.triu()[2, 1],
    "the upper triangle of tril": W.m.tril(-1)[1, 1],
    "a matrix on the right": (W.b @ np.array([[0.0, 1.0]] * 3))[0],
    "a matrix on the left": (np.array([[1.0, 0.0], [0.0, 0.0]]) @ W.k)[1, 2],
    "a sparse matrix": (sparse.csr_array(np.array([[1.0, 0.0], [0.0, 0.0]])) @ W.k)[1, 2],
    "differences that cancel": (W.b - W.b)[0],
    "three terms that cancel": 0.1 * W.b[0] + 0.2 * W.b[0] - 0.3 * W.b[0],
    "zero times a weight": 0 * W.b[1],
    "a weight that underflows": W.b[1] * 1e-200 * 1e-200,
    "coefficients that underflow": ((np.array([1e-200, 1.0, 1.0]) * W.b) * np.array([1e-200, 1.0, 1.0]))[0],
    "a running sum of zeros": (np.array([0.0, 0.0, 1.0]) * W.b).cumsum(0)[1],
    "a difference of zeros": (np.array([0.0, 0.0, 1.0]) * W.b).diff()[0],
    "a diagonal of zeros": (np.eye(4)[::-1] * W.m).diagonal()[0],
    "a mean of zeros": (np.array([[0.0] * 3, [1.0] * 3]) * W.k).mean(1)[0],
    "stacked zeros": affinet.stack([0 * W.b, W.b])[0, 1],
    "a negative zero": (-0.0 * W.b)[2],
}


@pytest.mark.parametrize("nothing", NOTHING.values(), ids=list(NOTHING))
def test_wherever_a_zero_meets_an_index(nothing: Any) -> None:
    assert counts(nothing == 0) == (1, 0, 0)
    assert counts(nothing == W.e[0]) == (1, 1, 1)
    assert counts(nothing == 0, W.b == W.e)[1:] == (3, 6)
    with pytest.raises(InfeasibleError, match=r"it says 0 == 0\.5, and no weight is left in it"):
        affinet.plan(nothing == 0.5)


@pytest.mark.parametrize("text", ["([0, 1, 1] * b)[0]", "m.triu()[2, 1]", "0 * b[0]", "b[0] - b[0]", "(b @ [0, 0, 0])"])
def test_the_same_as_text(text: str) -> None:
    assert counts(affinet.parse(f"{text} == 0", W)) == (1, 0, 0)
    assert counts(affinet.parse(f"{text} == e[0]", W)) == (1, 1, 1)
    with pytest.raises(InfeasibleError, match=r"0 == 0\.5"):
        affinet.plan(affinet.parse(f"{text} == 0.5", W))


FAMILIES: dict[str, tuple[Any, int]] = {
    "a matrix with stored zeros": (
        families.linear([W.b, W.e], sparse.csr_array(([0.0, 1.0], ([0, 0], [0, 3])), shape=(1, 6))),
        1,
    ),
    "a dense matrix with a row of zeros": (families.linear([W.b], np.diag([1.0, 0.0, 1.0])), 2),
    "signs of zero": (families.share(W.e, [0, 0, 0], signs=[0, 1, 1]), 2),
    "what is already outside the band": (families.banded(W.m.triu(), 0, 1), 3),
    "blocks of a triangle": (families.block_diagonal(W.m.triu(), 2), 4),
    "a triangle that is symmetric": (families.symmetric(W.m.triu()), 6),
    "a masked weight fixed": (families.fix(MASK * W.b), 2),
    "a masked weight tied": (families.tie(MASK * W.b, W.e), 3),
    "sums of masked rows": (families.sum_to(np.array([[0.0], [1.0]]) * W.k, 0, 1), 1),
    "means of a diagonal": (families.zero_mean(np.eye(4) * W.m), 4),
}


@NOTHING_LEFT
@pytest.mark.parametrize(("rule", "rank"), FAMILIES.values(), ids=list(FAMILIES))
def test_families_of_expressions_with_zeros(rule: affinet.Constraint, rank: int) -> None:
    """Said whole, and entry by entry."""
    assert not np.any(rule.expression.constant)
    each = [rule.expression[place] == 0 for place in np.ndindex(rule.shape)]
    for rules in (rule, each):
        plan = affinet.plan(rules)
        assert (plan.rank, plan.size) == (rank, affinet.plan(rule).size)
        assert str(plan)


def test_a_weight_that_only_zeros_speak_of_is_none_of_the_rules(tmp_path: Path) -> None:
    """Its frozen, missing or infinite numbers are nobody's business."""
    plan = affinet.plan([W.e[0] + (np.array([0.0, 0.0, 1.0]) * W.b)[:2].sum() == 1, W.e[1] == 0 * W.m[0, 0]])
    assert [parameter.name for parameter in plan.parameters] == ["e"]
    plan.save(tmp_path / "plan.safetensors")
    again = affinet.Plan.load(tmp_path / "plan.safetensors")
    assert [parameter.name for parameter in again.parameters] == ["e"]
    assert str(again) == str(plan)


def test_a_plan_that_was_saved_with_terms_of_zeros_is_read_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As versions did that kept a term whose coefficients are all zero."""
    rules = [(MASK[[1, 0, 0]] * W.b)[1:] == W.e[1:], (MASK[[0, 0, 1]] * W.m[0, :3])[:2] == 0]
    with monkeypatch.context() as patch:
        for module in ("system", "stored.description"):
            patch.setattr(f"affinet.system.{module}.without_zeros", lambda expression: expression)
        kept = affinet.plan(rules)
        kept.save(tmp_path / "plan.safetensors")
        assert [parameter.name for parameter in kept.parameters] == ["b", "e", "m"]
    again, fresh = affinet.Plan.load(tmp_path / "plan.safetensors"), affinet.plan(rules)
    assert [parameter.name for parameter in again.parameters] == ["e"]
    assert (again.rank, again.size, str(again)) == (2, 2, str(fresh))


def test_multipliers_keep_the_shape_of_the_rule() -> None:
    w: Any = affinet.weights(Three())
    rules = [(MASK * w.b == 0).named("masked"), ((MASK * w.b)[0] == 0).named("nothing"), (w.e.sum() == 1).named("sum")]
    model, handle = attached(*rules)
    (model.b.sum() + 2 * model.e.sum()).backward()
    handle.project_gradients()
    found = handle.multipliers()
    assert found["masked"].tolist() == [0.0, 1.0, 1.0]
    assert (found["nothing"].shape, float(found["nothing"])) == ((), 0.0)
    assert float(found["sum"]) == pytest.approx(2.0)
    assert set(handle.violation().values()) == {0.0}


def read_from_terms(*rules: Any) -> Plan:
    """The plan of large rules: their equations are not written out."""
    system = System.of(list(rules))
    return plan_within(system, one_by_one=0)


SUM = np.array([[2.0], [0.0], [1.0]])
CANCELLING: dict[str, tuple[Any, int, int]] = {
    "a weight less itself": (W.m - W.m == 0, 0, 0),
    "a weight less itself, and another": (W.m - W.m + W.m.T == 1, 16, 16),
    "three terms": (0.1 * W.m + 0.2 * W.m - 0.3 * W.m == 0, 0, 0),
    "sums": (W.m.sum(1) - W.m.sum(1) == 0, 0, 0),
    "sums of which some cancel": (W.m.sum(1) - W.m[:, :2].sum(1) == 1, 4, 8),
    "a matrix": (W.b @ SUM - (W.b @ SUM).flip() == 0, 0, 0),
    "a matrix over two weights": (W.b @ SUM + W.e @ SUM - (W.e @ SUM).flip() == 0, 1, 2),
    "the diagonal of a difference": (W.m - W.m.T == 0, 6, 12),
}


@NOTHING_LEFT
@pytest.mark.parametrize(("rule", "rank", "size"), CANCELLING.values(), ids=list(CANCELLING))
def test_large_rules_whose_coefficients_cancel(rule: affinet.Constraint, rank: int, size: int) -> None:
    for plan in (read_from_terms(rule), affinet.plan(rule)):
        assert (plan.rank, plan.size) == (rank, size)
        assert str(plan)


def test_a_large_rule_that_cancels_and_says_a_number_is_contradictory() -> None:
    big: Any = affinet.weights({"m": (300, 300), "b": (300,), "c": (300,)})
    dense = np.random.default_rng(0).standard_normal((300, 300))
    for nothing in (big.m - big.m, big.m.sum(1) - big.m.sum(1), dense @ big.b - dense @ big.b):
        assert affinet.plan(nothing == 0).rank == 0
        with pytest.raises(InfeasibleError, match=r"0 == 0\.5"):
            affinet.plan(nothing == 0.5)
