"""New rules planned with the blocks of the old ones: what changed is planned, the rest is the same objects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import affinet
from affinet import families
from affinet.kernels.torch.projector import Projector
from affinet.plans.updating import _match_rules, updated
from affinet.system.system import System
from tests.planning.random_rules import SHAPES, oracle_of
from tests.planning.random_rules import systems as drawn_rules
from tests.planning.refit.test_refit import bits, no_factors

W = affinet.weights({"a": (300, 300), "b": (300, 300), "c": (40,), "d": (40,)})


def masks(count: int) -> list[np.ndarray]:
    numbers = np.random.default_rng(0)
    return [numbers.random((300, 300)) < 0.9 for _ in range(count)]


def test_blocks_of_other_weights_are_the_same_objects() -> None:
    first, second = masks(2)
    kept = [W.b.sum(1) == 1, W.b.sum(0) == 1, W.c == W.d]
    before = affinet.plan([W.a[first] == 0, *kept])
    after = updated(before, [W.a[second] == 0, *kept])
    same = [block for block in after.blocks if any(block is other for other in before.blocks)]
    assert {type(block).__name__ for block in same} == {"Commuting", "Ties"}
    assert after.rank == second.sum() + 599 + 40
    assert [rule.name for rule in after.system.rules] == [
        rule.name for rule in affinet.plan([W.a[second] == 0, *kept]).system.rules
    ]


def test_rules_that_compare_otherwise_are_other_rules() -> None:
    """The expression of `w == 0` and of `w >= 0` is the same, and so is that of two balls of one vector."""
    rules = [W.c == 0, W.c >= 0, W.c <= 0, families.l1_ball(W.c, 1), families.l2_ball(W.c, 1), families.l2_ball(W.c, 2)]
    shared = rules[0].expression
    for number, before in enumerate(rules):
        for other, after in enumerate(rules):
            for old, new in ((before, after), (replace(before, expression=shared), replace(after, expression=shared))):
                matched = _match_rules(System.of(old), System.of(new))
                assert matched == ({0: 0} if number == other else {}), (before, after)


def test_rules_that_move_in_the_list_keep_their_numbers_right() -> None:
    mask = masks(1)[0]
    kept = [W.b.sum(1) == 1, W.b.sum(0) == 1, (W.c == W.d).named("tie")]
    before = affinet.plan([W.a[mask] == 0, *kept])
    after = updated(before, kept[::-1])
    assert sorted(rule for block in after.blocks for rule in block.rules) == [0, 1, 2]
    (ties,) = (block for block in after.blocks if type(block).__name__ == "Ties")
    assert ties.rules == (0,)
    assert str(after.table()) == affinet.plan(kept[::-1]).table()


def test_other_right_hand_sides_cost_no_factor_once_they_were_changed() -> None:
    """The first update plans and records; the next ones look up what coefficients decided."""
    draw = np.random.default_rng(7)
    matrix, kept = draw.standard_normal((30, 40)), [W.a.sum(1) == 1]
    sides = draw.standard_normal((3, 30))
    first = updated(affinet.plan([matrix @ W.c == sides[0], *kept]), [matrix @ W.c == sides[1], *kept])
    with no_factors():
        second = updated(first, [matrix @ W.c == sides[2], *kept])
    assert sorted(map(bits, second.blocks)) == sorted(map(bits, affinet.plan([matrix @ W.c == sides[2], *kept]).blocks))


def test_kernels_of_the_same_blocks_serve_on() -> None:
    first, second = masks(2)
    kept = [families.symmetric(W.b)]
    tensors = {name: torch.randn(SIZES[name]) for name in ("a", "b")}
    before = affinet.plan([W.a[first] == 0, *kept])
    old = Projector(before, tensors)
    after = updated(before, [W.a[second] == 0, *kept])
    new = Projector(after, tensors, before=old)
    served = [kernel for kernel in new.kernels(tensors) if any(kernel is other for other in old.kernels(tensors))]
    assert [kernel.names for kernel in served] == [("b",)]
    found, wanted = new.project(tensors), Projector(affinet.plan([W.a[second] == 0, *kept]), tensors).project(tensors)
    assert all(torch.equal(found[name], wanted[name]) for name in found)
    assert not found["a"][torch.from_numpy(second)].any()


SIZES = {"a": (300, 300), "b": (300, 300)}


def test_what_contradicts_the_rest_is_told_as_ever() -> None:
    mask = masks(1)[0]
    before = affinet.plan([W.a[mask] == 0, W.c == W.d])
    with pytest.raises(affinet.InfeasibleError, match="cannot hold together"):
        updated(before, [W.a[mask] == 0, W.c == W.d, W.c[0] == 1, W.d[0] == 2])
    with pytest.warns(affinet.NothingToTrainWarning):
        updated(before, [W.a[mask] == 0, W.c == W.d, W.c.diff() == 0, W.c[0] == 1])


def test_another_tolerance_plans_all_anew() -> None:
    before = affinet.plan([W.c == W.d])
    after = updated(before, [W.c == np.ones(40, np.float32), W.d == 1])
    assert after.system.tolerance.epsilon == float(np.finfo(np.float32).eps)
    given_ = affinet.plan([W.c == W.d], tolerance=1e-5)
    assert updated(given_, [W.c == 2 * W.d]).system.tolerance.epsilon == 1e-5


@pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")
@settings(max_examples=60)
@given(first=drawn_rules(contradictions=False), second=drawn_rules(contradictions=False), data=st.data())
def test_an_updated_plan_is_the_plan(first: Any, second: Any, data: st.DataObject) -> None:
    """Rules drawn from both, in any order; those of one point hold together, and others are left out."""
    chosen = data.draw(st.lists(st.sampled_from(first.rules), max_size=4, unique_by=id)) if first.rules else []
    rules = [*chosen, *(second.rules if not chosen else ())]
    if not rules:
        return
    after, truth = updated(affinet.plan(first.rules), rules), oracle_of(rules)
    numbers = np.random.default_rng(0)
    weights = {name: numbers.standard_normal(shape) for name, shape in SHAPES.items()}
    tensors = {p.name: torch.from_numpy(weights[p.name]) for p in after.parameters}
    assert after.rank == truth.rank
    assert after.rows == sum(rule.rows for rule in rules)
    assert {rule for block in after.blocks for rule in block.rules} <= set(range(len(rules)))
    fresh = affinet.plan(rules).projector(tensors).project(tensors) if tensors else {}
    found = after.projector(tensors).project(tensors) if tensors else {}
    for name in fresh:
        assert torch.allclose(found[name], fresh[name], rtol=1e-9, atol=1e-9)
