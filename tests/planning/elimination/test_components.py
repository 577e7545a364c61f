"""What is left after elimination: components batched by their sizes, large ones alone, whatever the order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import affinet
from affinet import families
from affinet.blocks.dense import Dense
from affinet.blocks.fixed import Fixed
from affinet.blocks.interval import Interval
from affinet.blocks.sparse import Sparse
from tests.limits import planned

DRAW = np.random.default_rng(3)
COEFFICIENTS = DRAW.uniform(0.5, 2.0, (30, 4))


def test_small_components_of_one_form_are_one_batch() -> None:
    w = affinet.weights({"a": (30, 3), "b": (30,)})
    rules = [(COEFFICIENTS[:, :3] * w.a).sum(dim=1) + COEFFICIENTS[:, 3] * w.b == 1]
    (block,) = affinet.plan(rules).blocks
    assert isinstance(block, Dense)
    assert block.basis.shape == (30, 1, 4)
    assert block.ranks.tolist() == [1] * 30


@given(st.permutations(range(6)))
def test_the_order_of_equations_does_not_matter(order: list[int]) -> None:
    w = affinet.weights({"a": (3, 4), "b": (6,)})
    said = [(COEFFICIENTS[k] * w.a[k // 2]).sum() + w.b[k] == k for k in range(6)]
    (block,) = affinet.plan([said[k] for k in order]).blocks
    assert isinstance(block, Dense)
    assert block.basis.shape == (3, 2, 6)


def test_ties_carry_their_weight_into_components() -> None:
    w = affinet.weights({"a": (3,), "b": (3,)})
    plan = affinet.plan([w.a[0] == 2 * w.b[0], w.a.sum() + w.b.sum() == 1])
    (block,) = plan.blocks
    assert isinstance(block, Dense)
    assert (plan.rank, plan.free) == (2, 4)
    assert sorted(block.classes.weight.tolist()) == [1.0, 1.0, 1.0, 1.0, 1.25]


@pytest.mark.parametrize(("rows", "kind"), [(512, Dense), (513, Sparse)])
def test_a_component_beyond_the_limit_stays_sparse(rows: int, kind: type) -> None:
    w = affinet.weights({"a": (2 * rows,)})
    places = np.sort(np.random.default_rng(rows).choice(2 * rows, rows + 2, replace=False))
    matrix = np.zeros((rows, 2 * rows))
    for k, offset in enumerate((0, 1, 2)):
        matrix[np.arange(rows), places[np.arange(rows) + offset]] = (1.0, 0.3, -0.2)[k] + DRAW.uniform(0, 0.1, rows)
    plan = affinet.plan(families.linear([w.a], sparse.coo_array(matrix), 1))
    # Far from the free ones the recurrence has forgotten them: these entries are determined to rounding.
    assert [type(block) for block in plan.blocks if not isinstance(block, Fixed)] == [kind]
    assert (plan.rank, plan.free) == (rows, 2)


def test_a_core_too_large_to_factor_is_reported_as_an_interval() -> None:
    w = affinet.weights({"a": (9,)})
    matrix = sum((k + 1) * np.roll(np.eye(9), k, axis=1) for k in range(3))
    rule = families.linear([w.a], matrix, 1)
    plan = planned(rule, dense_rows=4, largest_core=4, most_eliminated=0)
    assert isinstance(plan.rank, Interval)
    assert (plan.rank.low <= 9 <= plan.rank.high, str(plan.free)) == (True, f"0..{9 - plan.rank.low}")
    assert f"rank {plan.rank} " in str(plan)
    found = plan.projector({"a": torch.zeros(9).double()}).project({"a": torch.randn(9).double()})
    assert np.allclose(matrix @ found["a"].numpy(), 1, atol=1e-12)


def test_components_beyond_memory_say_so_before_they_are_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    w = affinet.weights({"a": (30, 3), "b": (30,)})
    rule = (COEFFICIENTS[:, :3] * w.a).sum(dim=1) + COEFFICIENTS[:, 3] * w.b == 1
    monkeypatch.setattr(
        "affinet.planning.elimination.components.forecast", lambda what, size: _refused(what, size, 900)
    )
    with pytest.raises(affinet.TooLargeError, match=r'30 components of 1 equation over 4 unknowns of "mine", as dense'):
        affinet.plan(rule.named("mine"))


def _refused(what: str, size: int, limit: int) -> None:
    if size * 8 > limit:
        raise affinet.TooLargeError(what, size * 8, limit, "Say less.")
