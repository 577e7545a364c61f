"""Small blocks in one compiled call: on every case of the contract table, and where a tensor is not as it needs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import affinet
from affinet import families
from affinet.kernels.torch import small_blocks
from affinet.kernels.torch.projector import Projector
from affinet.kernels.torch.small_blocks import SmallBlocks
from affinet.plans.plan import Plan
from tests.contract.building import directions_of, plan_of, tensors_of
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.kernels.judging import apart, missed, moved_again

pytest.importorskip("numba")

Tensors = dict[str, Tensor]
DTYPES = (torch.float32, torch.float64)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
W: Any = affinet.weights({"a": (6, 6), "b": (6, 5), "c": (7,)})
DRAW = np.random.default_rng(0)
KINDS: dict[str, list[affinet.Constraint]] = {
    "rows": [W.a.sum(dim=1) == np.arange(6.0)],
    "columns": [W.a.sum(dim=0) == 1],
    "some rows": [affinet.stack([W.a[k].sum() for k in (0, 1, 4)]) == 1],
    "slices": [W.a @ DRAW.standard_normal((6, 2)) == 1],
    "exact slices": [W.b[:, 0] == 2, W.b[:, 1] == -W.b[:, 2], W.b[:, 2:].sum(dim=1) == 1],
    "ties": [families.share(W.a, DRAW.integers(0, 9, (6, 6)))],
    "scaled ties": [W.a[0] == 3 * W.a[3] + 0.5, W.c[:5] == -0.25 * W.b[1]],
    "a component": [families.linear([W.b, W.c], DRAW.standard_normal((4, 37)), 1.0)],
    "little left free": [families.linear([W.b, W.c], DRAW.standard_normal((30, 37)), 1.0)],
    "nothing left free": [families.linear([W.c], DRAW.standard_normal((7, 7)), 1.0)],
    "tied components": [W.a[0, :4].sum() + W.b[0, 0] == 1, W.a[0, 1] == 2 * W.c[0] + 1, W.a[0, 2] == -W.b[1, 1]],
    "symmetric": [families.symmetric(W.a)],
    "skew": [families.skew(W.a)],
    "shifted mirror": [W.a - W.a.T == np.triu(np.ones((6, 6)), 1) - np.tril(np.ones((6, 6)), -1)],
    "pairs": [W.a[:, :5] == 3 * W.b + 1],
    "small pairs": [W.b == -0.5 * W.a[:, 1:]],
    "fixed": [W.c[np.array([1, 4, 5])] == np.array([1.0, 2, 3]), W.a[0, 0] == 2],
}
pytestmark = pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")


def one_by_one(plan: Plan, like: Tensors) -> Projector:
    """The projector that calls the kernel of every block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_blocks, "MOST_ENTRIES", -1)
        projector = Projector(plan, like)
    assert projector._prepare(like).small is None
    return projector


def taken(projector: Projector, like: Tensors) -> SmallBlocks:
    found = projector._prepare(like).small
    assert found is not None
    return found


def random_tensors(plan: Plan, dtype: torch.dtype, seed: int) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    return {p.name: torch.randn(p.shape, generator=generator, dtype=torch.float64).to(dtype) for p in plan.parameters}


def assert_alike(plan: Plan, weights: Tensors, gradients: Tensors, condition: float = 0.0) -> None:
    """Both ways differ by rounding; a border and sparse equations are solved for, and have a condition number."""
    fast, slow = plan.projector(weights), one_by_one(plan, weights)
    assert apart(plan, fast.project(weights), slow.project(weights), weights, condition=condition) <= 1.0
    assert apart(plan, fast.tangent(weights), slow.tangent(weights), weights, condition=condition) <= 1.0
    for decay in ({}, dict.fromkeys(weights, 0.3), {next(iter(weights)): 0.7}):
        both = [{name: values.clone() for name, values in gradients.items()} for _ in range(2)]
        fast.project_gradients_(both[0], weights, decay)
        slow.project_gradients_(both[1], weights, decay)
        assert apart(plan, *both, gradients, weights, condition=condition, quiet=True) <= 1.0


@each_dtype
@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_call_says_what_the_kernels_say(case: Case, dtype: torch.dtype) -> None:
    condition = directions_of(case.name)[0]
    for path in ("terms", "equations"):
        weights, gradients = tensors_of(case, "far", dtype), tensors_of(case, "gradients", dtype)
        assert_alike(plan_of(case.name, path), weights, gradients, condition)


@each_dtype
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_block_is_taken(name: str, dtype: torch.dtype) -> None:
    plan = affinet.plan(KINDS[name])
    weights = random_tensors(plan, dtype, 0)
    projector = plan.projector(weights)
    taken(projector, weights)
    assert projector._prepare(weights).remaining == ()
    assert_alike(plan, weights, random_tensors(plan, dtype, 1))
    found = projector.project(weights)
    assert moved_again(plan, found, projector.project(found)) <= 1.0
    assert missed(plan, found) <= 1.0


@each_dtype
def test_blocks_of_all_kinds_in_one_plan(dtype: torch.dtype) -> None:
    w: Any = affinet.weights(dict.fromkeys("abcdefgh", (6, 6)) | {"i": (7,), "j": (40,)})
    plan = affinet.plan(
        [
            w.a.sum(dim=1) == 1,
            w.b.sum(dim=0) == 2,
            families.symmetric(w.c),
            w.d == 2 * w.e.T + 1,
            families.share(w.f, np.arange(36).reshape(6, 6) // 4),
            w.g @ np.arange(1.0, 7) == 3,
            families.linear([w.h, w.i], np.random.default_rng(5).standard_normal((3, 43)), 1.0),
            w.j[:20] == 0.5,
        ]
    )
    weights = random_tensors(plan, dtype, 2)
    assert plan.projector(weights)._prepare(weights).remaining == ()
    assert_alike(plan, weights, random_tensors(plan, dtype, 3))


def test_equal_and_opposite_entries_are_equal_to_the_bit() -> None:
    plan = affinet.plan([W.a[:3] == -W.a[3:], W.b[0] == W.b[1], W.b[2:4].sum() + W.c[0] == 1, W.c[0] == -W.c[1]])
    weights = random_tensors(plan, torch.float32, 4)
    taken(plan.projector(weights), weights)
    found = plan.projector(weights).project(weights)
    assert torch.equal(found["a"][:3], -found["a"][3:])
    assert torch.equal(found["b"][0], found["b"][1])
    assert found["c"][0] == -found["c"][1]


def test_a_missing_gradient_counts_as_zero_and_stays_missing() -> None:
    plan = affinet.plan(W.a[:, :5] == 3 * W.b + 1)
    weights = random_tensors(plan, torch.float32, 5)
    given = torch.randn(6, 6)
    some: dict[str, Tensor | None] = {"a": given.clone(), "b": None}
    plan.projector(weights).project_gradients_(some, weights, {"a": 0.0, "b": 0.5})
    whole = {"a": given.clone(), "b": torch.zeros(6, 5)}
    one_by_one(plan, weights).project_gradients_(whole, weights, {})
    assert some["b"] is None
    assert some["a"] is not None
    assert apart(plan, {**whole, "a": some["a"]}, whole, {**whole, "a": given}, quiet=True) <= 1.0


def _transposed(x: Tensor) -> Tensor:
    return x.T.contiguous().T


def _half(x: Tensor) -> Tensor:
    return x.to(torch.bfloat16)


def _subclass(x: Tensor) -> Tensor:
    return x.as_subclass(type("Other", (Tensor,), {}))


@pytest.mark.parametrize("changed", [_transposed, _half, _subclass])
def test_other_tensors_go_to_the_kernels(changed: Callable[[Tensor], Tensor]) -> None:
    plan = affinet.plan([W.a.sum(dim=1) == 1, W.c[0] == W.c[1]])
    weights = random_tensors(plan, torch.float32, 6)
    projector = plan.projector(weights)
    others = {"a": changed(weights["a"].clone()), "c": weights["c"].to(changed(weights["a"]).dtype)}
    assert not taken(projector, weights).settle(others, affine=True, quiet=0.0)
    projector.project_(others)
    wanted = projector.project(weights)["a"]
    # Weights are rounded by u, and so is what each of two passes stores: numbers of up to 4. The projection on sums of
    # rows enlarges the largest entry by a factor of two at most.
    assert float((others["a"].float() - wanted).abs().max()) <= 6 * 4 * torch.finfo(others["a"].dtype).eps / 2
    again = projector.project(weights)
    assert torch.equal(again["a"], wanted), "what other tensors were given in between changes no bit"


def test_writing_is_seen_by_autograd() -> None:
    plan = affinet.plan(W.a.sum(dim=1) == 1)
    a = torch.randn(6, 6, requires_grad=True)
    loss = (a * a).sum()
    plan.projector({"a": a}).project_({"a": a})
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_what_is_not_finite_is_carried_on_to_its_component_alone() -> None:
    plan = affinet.plan(W.a.sum(dim=1) == 1)
    weights = random_tensors(plan, torch.float32, 7)
    weights["a"][2, 3] = torch.nan
    found = plan.projector(weights).project(weights)["a"]
    assert found[2].isnan().all()
    assert found[[0, 1, 3, 4, 5]].isfinite().all()


def test_large_blocks_keep_their_own_loops() -> None:
    w: Any = affinet.weights({"a": (200, 200), "c": (7,)})
    plan = affinet.plan([w.a.sum(dim=1) == 1, w.c[0] == w.c[1]])
    weights = random_tensors(plan, torch.float32, 8)
    prepared = plan.projector(weights)._prepare(weights)
    assert prepared.small is not None
    assert len(prepared.remaining) == 1
    assert_alike(plan, weights, random_tensors(plan, torch.float32, 9))
