"""Which sets the planning makes of inequality rules, on the road of single rows and on that of terms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import affinet
from affinet.blocks.ball import Ball
from affinet.blocks.chain import Chain
from affinet.blocks.cone import Cone
from affinet.blocks.fixed import Fixed
from affinet.blocks.polyhedron import Polyhedron
from affinet.blocks.slices import Slices
from affinet.language.constraint import Constraint
from affinet.planning.compilation import compile_blocks
from affinet.system.limits import Limits
from affinet.system.system import System

ROADS = pytest.mark.parametrize("limits", [Limits(), Limits(one_by_one=0, fixed_from=0)], ids=["rows", "terms"])


def blocks_of(rules: list[Constraint], limits: Limits) -> tuple[Any, ...]:
    return compile_blocks(System.of(rules, limits=limits))


def weights(**shapes: tuple[int, ...]) -> affinet.Weights:
    return affinet.weights(shapes)


@ROADS
def test_bounds_are_a_box(limits: Limits) -> None:
    w = weights(a=(3, 4))
    (cone,) = blocks_of([w.a >= -1, w.a <= 2], limits)
    assert isinstance(cone, Cone)
    assert cone.row is None
    assert (cone.size, cone.lower.tolist(), cone.upper.tolist()) == (12, [[-1.0]], [[2.0]])


@ROADS
def test_several_bounds_of_an_entry_are_the_tightest(limits: Limits) -> None:
    w = weights(a=(4,))
    (cone,) = blocks_of([w.a >= -1, w.a[1:] >= [-2, 0, 0], 2 * w.a[:2] <= 6, -w.a >= -5], limits)
    assert isinstance(cone, Cone)
    assert np.broadcast_to(cone.lower, (4, 1)).ravel().tolist() == [-1, -1, 0, 0]
    assert np.broadcast_to(cone.upper, (4, 1)).ravel().tolist() == [3, 3, 5, 5]


@ROADS
def test_bounds_beside_a_sum_are_cells(limits: Limits) -> None:
    w = weights(a=(3, 4))
    (cone,) = blocks_of([w.a >= 0, w.a.sum(dim=1) == 1], limits)
    assert isinstance(cone, Cone)
    assert (cone.cells, cone.width, cone.equation) == (3, 4, True)
    assert cone.row is not None
    np.testing.assert_allclose(np.broadcast_to(cone.row, (3, 4)) / cone.rhs, 1.0)
    (cone,) = blocks_of([w.a.sum(dim=0) <= 1], limits)
    assert (cone.cells, cone.width, cone.equation, cone.rules) == (4, 3, False, (0,))


@ROADS
def test_equations_that_no_bound_touches_stay_as_they_are(limits: Limits) -> None:
    w = weights(a=(3, 4), b=(6, 6))
    kinds = {type(block) for block in blocks_of([w.a >= 0, w.b.sum(dim=1) == 1], limits)}
    assert kinds == {Cone, Slices}


@ROADS
@pytest.mark.parametrize("increasing", [True, False])
def test_differences_are_chains(limits: Limits, *, increasing: bool) -> None:
    w = weights(a=(3, 5))
    difference = w.a.diff(dim=1)
    rule = difference >= 0.5 if increasing else difference <= -0.5
    (chain,) = blocks_of([rule], limits)
    assert isinstance(chain, Chain)
    assert (chain.cells, chain.width) == (3, 5)
    assert np.unique(chain.gap).tolist() == [0.5]
    system = System.of([rule])
    columns = chain.entries.columns(np.arange(15), system.layout).reshape(3, 5)
    assert (np.diff(columns, axis=1) == (1 if increasing else -1)).all()


@ROADS
def test_chains_along_the_first_axis_with_bounds(limits: Limits) -> None:
    w = weights(a=(5, 3))
    (chain,) = blocks_of([w.a[1:] >= w.a[:-1], w.a >= 0], limits)
    assert isinstance(chain, Chain)
    assert (chain.cells, chain.width, chain.lower.tolist()) == (3, 5, [[0.0]])


@ROADS
def test_bounds_of_which_one_bounds_a_chain_inside_are_a_polyhedron(limits: Limits) -> None:
    w = weights(a=(5,))
    (block,) = blocks_of([w.a.diff() >= 0, w.a[2] <= 1], limits)
    assert isinstance(block, Polyhedron)


@ROADS
def test_bounds_of_tied_entries_are_intersected(limits: Limits) -> None:
    w = weights(a=(4,), b=(4,))
    blocks = blocks_of([w.a == 2 * w.b, w.a >= 1, w.b <= 3], limits)
    (block,) = blocks
    assert isinstance(block, Polyhedron)
    assert (block.size, block.rank) == (8, 4)


@ROADS
def test_bounds_that_meet_fix(limits: Limits) -> None:
    w = weights(a=(4,))
    blocks = blocks_of([w.a >= 1, w.a[:2] <= 1], limits)
    assert sorted(type(block).__name__ for block in blocks) == ["Cone", "Fixed"]
    (fixed,) = [block for block in blocks if isinstance(block, Fixed)]
    assert fixed.size == 2


@ROADS
def test_a_sum_that_leaves_no_room_fixes(limits: Limits) -> None:
    w = weights(a=(3, 4))
    blocks = blocks_of([w.a >= 0.25, w.a.sum(dim=1) <= [1, 2, 2]], limits)
    assert {type(block) for block in blocks} == {Cone, Fixed}
    (fixed,) = [block for block in blocks if isinstance(block, Fixed)]
    assert fixed.size == 4


@ROADS
def test_rows_that_say_an_equation_together_are_one(limits: Limits) -> None:
    w = weights(a=(3, 4))
    sums = w.a.sum(dim=1)
    blocks = blocks_of([sums <= 1, sums >= 1], limits)
    assert sum(block.rank for block in blocks) == 3
    assert not any(isinstance(block, Cone | Polyhedron) for block in blocks)


@ROADS
def test_infinite_bounds_are_none(limits: Limits) -> None:
    w = weights(a=(3,))
    (cone,) = blocks_of([w.a <= np.array([1.0, np.inf, 2.0])], limits)
    assert cone.size == 2


@ROADS
@pytest.mark.parametrize("order", [1, 2])
def test_norms_are_balls(limits: Limits, order: int) -> None:
    w = weights(a=(3, 4))
    rule = (affinet.families.l1_ball if order == 1 else affinet.families.l2_ball)(w.a, 2.0, dim=0)
    (ball,) = blocks_of([rule], limits)
    assert isinstance(ball, Ball)
    assert (ball.cells, ball.width, ball.order, ball.radius.tolist()) == (4, 3, order, [[2.0]])


def test_bounds_of_seven_billion_weights_take_no_memory_per_weight() -> None:
    w = weights(a=(70_000, 100_000))
    (cone,) = blocks_of([w.a >= 0, w.a <= 1], Limits())
    assert (cone.size, cone.lower.tolist()) == (7_000_000_000, [[0.0]])
    (cone,) = blocks_of([w.a >= 0, w.a.sum(dim=1) == 1], Limits())
    assert (cone.cells, cone.width) == (70_000, 100_000)
    for dim, shape in ((1, (1, 99_999)), (0, (1, 69_999))):
        (chain,) = blocks_of([affinet.families.monotone(w.a, dim=dim)], Limits())
        assert chain.gap.shape == shape


def test_bounds_beside_fixed_entries_are_a_box_of_the_others() -> None:
    w = weights(a=(300, 300))
    mask = np.zeros((300, 300), bool)
    mask[::2] = True
    fixed, cone = blocks_of([affinet.families.fix(w.a, where=mask, value=0.5), w.a >= 0.25], Limits())
    assert isinstance(fixed, Fixed)
    assert isinstance(cone, Cone)
    assert (fixed.size, cone.size) == (45_000, 45_000)
    with pytest.raises(affinet.InfeasibleError) as raised:
        affinet.plan([affinet.families.fix(w.a, where=mask, value=0.5).named("half"), (w.a >= 1).named("one")])
    assert raised.value.rules == ("half", "one")


@ROADS
def test_balls_of_different_parts_of_one_weight_are_planned(limits: Limits) -> None:
    w = weights(a=(2, 3))
    first, second = blocks_of([affinet.families.l2_ball(w.a[0], 1), affinet.families.l1_ball(w.a[1], 1)], limits)
    assert isinstance(first, Ball)
    assert isinstance(second, Ball)
    with pytest.raises(affinet.RuleError, match="can be in no other rule"):
        blocks_of([affinet.families.l2_ball(w.a, 1, dim=1), affinet.families.l1_ball(w.a, 1, dim=0)], limits)
