"""Large classes of equal entries without numba: what the scatter says, to the bit where entries are equal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import affinet
from affinet import families
from affinet.kernels.torch import jagged, looped
from affinet.kernels.torch.jagged import JaggedTies
from affinet.kernels.torch.projector import Projector
from tests.kernels.judging import apart

SHAPE = (60, 50)
PATTERN = np.random.default_rng(0).integers(0, 3000 // 4, SHAPE)
W: Any = affinet.weights({"a": SHAPE})
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


@pytest.fixture(autouse=True)
def without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looped, "available", lambda: False)
    monkeypatch.setattr(jagged, "FEWEST", 0)


def both(rule: Any, like: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> tuple[Projector, Projector]:
    """Level by level, and by scatters."""
    plan = affinet.plan(rule)
    levels = plan.projector(like)
    assert kinds(levels, like) == [JaggedTies]
    with monkeypatch.context() as patch:
        patch.setattr(jagged, "FEWEST", 2**40)
        scatters = plan.projector(like)
    assert JaggedTies not in kinds(scatters, like)
    return levels, scatters


def kinds(projector: Projector, like: dict[str, Tensor]) -> list[type]:
    return [type(getattr(kernel, "loops", kernel)) for kernel in projector.kernels(like)]


def random(dtype: torch.dtype, seed: int = 0) -> dict[str, Tensor]:
    return {"a": torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)}


def assert_one_number_a_class(values: Tensor, marks: np.ndarray) -> None:
    flat, classes = values.numpy().ravel(), marks.ravel()
    first = {mark: flat[k].tobytes() for k, mark in reversed(list(enumerate(classes)))}
    assert all(flat[k].tobytes() == first[mark] for k, mark in enumerate(classes))


@each_dtype
@pytest.mark.parametrize("part", [(slice(None), slice(None)), (slice(0, 60, 2), slice(3, 40))], ids=["all", "some"])
@pytest.mark.parametrize("piece", [97, jagged.PIECE])
def test_levels_say_what_scatters_say(
    dtype: torch.dtype, part: tuple[slice, slice], piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jagged, "PIECE", piece)
    weights, marks = random(dtype), PATTERN[part]
    levels, scatters = both(families.share(W.a[part], marks), weights, monkeypatch)
    plan, found = levels.plan, levels.project(weights)["a"]
    assert apart(plan, {"a": found}, scatters.project(weights), weights) <= 1.0
    assert apart(plan, levels.tangent(weights), scatters.tangent(weights), weights) <= 1.0
    assert_one_number_a_class(found[part], marks)
    assert torch.equal(levels.project({"a": found})["a"], found)
    outside = torch.ones(SHAPE, dtype=torch.bool)
    outside[part] = False
    assert torch.equal(found[outside], weights["a"][outside])
    for decay in ({}, {"a": 0.3}):
        gradients = random(dtype, 1)
        both_ways = [{"a": gradients["a"].clone()} for _ in range(2)]
        levels.project_gradients_(both_ways[0], weights, decay)
        scatters.project_gradients_(both_ways[1], weights, decay)
        assert apart(plan, *both_ways, gradients, weights, quiet=True) <= 1.0


@each_dtype
def test_entries_that_agree_to_rounding_are_copied_and_others_are_averaged(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = random(dtype)
    levels, _ = both(families.share(W.a, PATTERN), weights, monkeypatch)
    even = levels.project(weights)["a"]
    near = {"a": even.clone()}
    near["a"].view(-1)[7] *= 1 + 2 * torch.finfo(dtype).eps
    levels.project_(near)
    first = int(np.flatnonzero(PATTERN.ravel() == PATTERN.ravel()[7])[0])
    assert torch.equal(near["a"], even) or first == 7
    assert_one_number_a_class(near["a"], PATTERN)
    far = {"a": even.clone()}
    far["a"].view(-1)[7] += 1.0
    levels.project_(far)
    moved = far["a"].view(-1)[7] - even.view(-1)[7]
    assert float(moved) == pytest.approx(1.0 / int((PATTERN == PATTERN.ravel()[7]).sum()), rel=1e-5)
    zeros = {"a": torch.zeros(SHAPE, dtype=dtype)}
    zeros["a"].view(-1)[::3] *= -1.0
    levels.project_(zeros)
    assert_one_number_a_class(zeros["a"], PATTERN)


@each_dtype
def test_gradients_that_are_rounding_beside_their_class_become_zero(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = np.minimum(np.arange(3000) // 3, 998).reshape(SHAPE)  # one class is larger
    gradients = {"a": torch.tensor([0.1, 0.2, -0.3], dtype=dtype).repeat(1000).view(SHAPE)}
    gradients["a"][0, :3] = 0.7
    levels, _ = both(families.share(W.a, marks), gradients, monkeypatch)
    levels.project_gradients_(gradients, random(dtype), {})
    assert torch.equal(gradients["a"].view(-1)[:3], torch.full((3,), 0.7, dtype=dtype))
    assert not gradients["a"].view(-1)[3:].any()


def test_what_is_not_finite_stays_in_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = random(torch.float32)
    levels, _ = both(families.share(W.a, PATTERN), weights, monkeypatch)
    weights["a"][3, 4] = torch.nan
    found = levels.project(weights)["a"]
    assert torch.equal(found.isnan(), torch.from_numpy(PATTERN == PATTERN[3, 4]))
    gradients = {"a": weights["a"].clone()}
    levels.project_gradients_(gradients, random(torch.float32), {})
    assert torch.equal(gradients["a"].isnan(), torch.from_numpy(PATTERN == PATTERN[3, 4]))


@each_dtype
def test_the_metric_and_other_memory_orders(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = random(dtype)
    levels, scatters = both(families.share(W.a[:30], PATTERN[:30]), weights, monkeypatch)
    metric = {"a": random(dtype, 2)["a"].abs() + 0.1}
    # A projection in a metric D enlarges by at most √(max D / min D).
    spread = float(metric["a"].max() / metric["a"].min()) ** 0.5
    moved = [{"a": weights["a"].clone()} for _ in range(2)]
    levels.project_in_metric_(moved[0], metric)
    scatters.project_in_metric_(moved[1], metric)
    assert apart(levels.plan, *moved, weights) <= spread
    turned = {"a": weights["a"].T.contiguous().T}
    levels.project_(turned)
    assert torch.equal(turned["a"], levels.project(weights)["a"])
