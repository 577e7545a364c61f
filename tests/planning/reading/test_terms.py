"""Which block each large regular rule becomes, and that it stays small however large the weight is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest

import affinet
from affinet import families
from affinet.blocks.commuting import Commuting
from affinet.blocks.fixed import Fixed
from affinet.blocks.kinds import AnyBlock
from affinet.blocks.mirror import Mirror
from affinet.blocks.pairs import Pairs
from affinet.blocks.slices import Slices
from affinet.blocks.ties import Ties

LARGE = {"a": (512, 768), "b": (768, 512), "s": (512, 512), "conv": (512, 256, 3, 3)}
MIX = np.random.default_rng(0).standard_normal((3, 512))

REGULAR: dict[str, tuple[Callable[[Any], list[Any]], list[type], int]] = {
    "row sums": (lambda w: [w.a.sum(dim=1) == 1], [Slices], 512),
    "column sums": (lambda w: [w.a.sum(dim=0) == 1], [Slices], 768),
    "rows and columns": (lambda w: [w.a.sum(dim=1) == 0, w.a.sum(dim=0) == 0], [Commuting], 1279),
    "symmetric": (lambda w: [families.symmetric(w.s)], [Mirror], 512 * 511 // 2),
    "skew": (lambda w: [families.skew(w.s)], [Mirror], 512 * 513 // 2),
    "transpose across layers": (lambda w: [w.a == w.b.T], [Pairs], 512 * 768),
    "scaled across layers": (lambda w: [2 * w.a == 1 - w.b.T], [Pairs], 512 * 768),
    "zero mean kernels": (lambda w: [families.zero_mean(w.conv)], [Slices], 512 * 256),
    "flipped kernels": (lambda w: [w.conv == w.conv.flip(2, 3)], [Mirror], 512 * 256 * 4),
    "fixed centres": (lambda w: [w.conv[:, :, 1, 1] == 0, families.zero_mean(w.conv)], [Fixed, Slices], 2 * 512 * 256),
    "matrix on the left": (lambda w: [MIX @ w.a == 1], [Slices], 3 * 768),
    "halves of rows": (lambda w: [w.a[:, :384].sum(dim=1) == w.a[:, 384:].sum(dim=1)], [Slices], 512),
    "sums along two axes": (
        lambda w: [w.conv.sum(dim=(2, 3)) == 0, w.conv.sum(dim=0) == 0],
        [Commuting],
        512 * 256 + 256 * 9 - 256,
    ),
    "equal halves": (lambda w: [w.a[:256] == w.a[256:]], [Pairs], 256 * 768),
    "opposite columns": (lambda w: [w.a[:, ::2] == -w.a[:, 1::2]], [Slices], 512 * 384),
}


def held(value: object) -> int:
    """Bytes that a block holds; a broadcast axis is held once."""
    if isinstance(value, np.ndarray):
        return value.itemsize * int(
            np.prod([n for n, step in zip(value.shape, value.strides, strict=True) if step], dtype=int)
        )
    if isinstance(value, tuple):
        return sum(held(part) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return sum(held(getattr(value, field.name)) for field in fields(value))
    return 8


@pytest.mark.parametrize(("make", "kinds", "rank"), REGULAR.values(), ids=REGULAR)
def test_large_rules_are_regular_and_small(make: Callable[[Any], list[Any]], kinds: list[type], rank: int) -> None:
    plan = affinet.plan(make(affinet.weights(LARGE)))
    assert [type(block) for block in plan.blocks] == kinds
    assert plan.rank == rank
    assert sum(held(block) for block in plan.blocks) < 100_000


def irregular(blocks: tuple[AnyBlock, ...]) -> Iterator[AnyBlock]:
    return (block for block in blocks if not isinstance(block, Slices | Commuting | Mirror | Pairs))


def test_cells_that_an_irregular_rule_touches_are_split_off() -> None:
    w = affinet.weights(LARGE)
    plan = affinet.plan([w.a.sum(dim=1) == 1, w.a[3, 5] == 0.25, w.a[7, 1] == w.a[9, 2]])
    (large,) = (block for block in plan.blocks if isinstance(block, Slices) and block.outer.size > 2)
    assert large.outer.size == 509
    assert plan.rank == 514
    assert sum(block.size for block in irregular(plan.blocks)) < 4 * 768


def test_a_mirror_gives_up_the_entries_that_something_touches() -> None:
    w = affinet.weights({"s": (200, 200)})
    plan = affinet.plan([families.symmetric(w.s), w.s[3, 4] == 1])
    assert [type(block) for block in plan.blocks] == [Mirror, Fixed]
    assert [block.size for block in plan.blocks] == [200 * 199 - 2, 2]
    assert (plan.rank, plan.size) == (200 * 199 // 2 + 1, 200 * 199)


def test_scaled_ties_inside_cells_hold_to_their_own_rounding() -> None:
    w = affinet.weights({"a": (800, 60)})
    plan = affinet.plan(w.a[:, :-1] == 3 * w.a[:, 1:])
    assert [type(block) for block in plan.blocks] == [Ties]
    assert (plan.rank, plan.free) == (800 * 59, 800)


@pytest.mark.parametrize("totals", [(1.0, 2.0), (3.0, 1.0)])
def test_rows_and_columns_that_disagree_contradict(totals: tuple[float, float]) -> None:
    w = affinet.weights({"a": (300, 400)})
    with pytest.raises(affinet.InfeasibleError, match="cannot hold together"):
        affinet.plan([w.a.sum(dim=1) == totals[0], w.a.sum(dim=0) == totals[1]])


def test_matrices_on_both_sides_commute_where_they_agree() -> None:
    draw = np.random.default_rng(1)
    left, right, inside = (
        draw.standard_normal((2, 300)),
        draw.standard_normal((400, 3)),
        draw.standard_normal((300, 400)),
    )
    w = affinet.weights({"a": (300, 400)})
    plan = affinet.plan([left @ w.a == left @ inside, w.a @ right == inside @ right])
    assert [type(block) for block in plan.blocks] == [Commuting]
    assert plan.rank == 2 * 400 + 3 * 300 - 6
    with pytest.raises(affinet.InfeasibleError, match="cannot hold together"):
        affinet.plan([left @ w.a == left @ inside, w.a @ right == inside @ right + 1])


def test_equations_said_in_a_loop_are_one_batch() -> None:
    w = affinet.weights({"a": (40, 30)})
    (block,) = affinet.plan([w.a[k].sum() == k for k in range(40)]).blocks
    assert isinstance(block, Slices)
    assert (block.outer.size, block.inner.size, len(block.rules)) == (40, 30, 40)


def test_seven_billion_weights_plan_in_little_memory() -> None:
    shapes = {
        f"layers.{k}.{name}": shape
        for k in range(4)
        for name, shape in (("up", (11008, 4096)), ("down", (4096, 11008)))
    }
    w = affinet.weights(shapes)
    plan = affinet.plan([rule for p in w for rule in (p.sum(dim=1) == 0, p.sum(dim=0) == 0)])
    assert [type(block) for block in plan.blocks] == [Commuting] * 8
    assert plan.rank == 8 * (11008 + 4096 - 1)
    assert sum(held(block) for block in plan.blocks) < 200_000
