"""The verbs that every kernel has: noise is one number for entries that are tied, and nothing is kept but the state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import affinet
from affinet.kernels.torch import looped
from affinet.kernels.torch.projector import Projector
from tests.contract.building import PATHS, plan_of, tensors_of
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.kernels import block_kinds
from tests.kernels.block_kinds import KINDS

each_way = pytest.mark.parametrize("loops", [True, False], ids=["loops", "torch"])


def projector_of(plan: affinet.Plan, like: Any, monkeypatch: pytest.MonkeyPatch, *, loops: bool) -> Projector:
    if not loops:
        monkeypatch.setattr(looped, "available", lambda: False)
    found: Projector = plan.projector(like)
    return found


@each_way
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_tied_entries_have_one_noise(case: Case, path: str, loops: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries of which the weights and two tangent parts have the same bits, but for the sign, are tied."""
    weights = tensors_of(case, "weights")
    projector = projector_of(plan_of(case.name, path), weights, monkeypatch, loops=loops)
    for kernel in projector.kernels(weights):
        x, other = kernel.read(weights).clone(), kernel.read(tensors_of(case, "gradients")).clone()
        noise = kernel.noise(x)
        assert noise.shape == x.shape
        assert noise.data_ptr() != x.data_ptr() or not x.numel()
        landed, _ = kernel.land(x.clone(), None)
        projected = [landed, *(kernel.tangent(each.clone(), None)[0] for each in (x, other))]
        numbers = [part.expand(x.shape).abs().reshape(-1).tolist() for part in (*projected, noise)]
        marks: dict[tuple[float, ...], float] = {}
        for *bits, size in zip(*numbers, strict=True):
            if bits[1] != 0.0:
                assert marks.setdefault(tuple(bits), size) == size


@each_way
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_kernel_keeps_nothing_but_its_state(
    kind: block_kinds.Kind, loops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = block_kinds.plan_of(kind, 260)
    given, others = (block_kinds.weights(plan, torch.float64, seed) for seed in (1, 2))
    projector = projector_of(plan, given, monkeypatch, loops=loops)
    keeping = 0
    for kernel in projector.kernels(given):
        first = verbs(kernel, given)
        for verb in (kernel.land, kernel.tangent):
            keeping += verb(kernel.read(copied(others)), None)[1] is not None
        assert all(torch.equal(x, y) for x, y in zip(first, verbs(kernel, given), strict=True))
    assert bool(keeping) == kind.iterated


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor | None]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def verbs(kernel: Any, tensors: dict[str, Tensor]) -> list[Tensor]:
    """What a kernel that starts anew makes of weights and of vectors."""
    read = [kernel.read(copied(tensors)) for _ in range(3)]
    done = [kernel.land(read[0], None), kernel.tangent(read[1], None), kernel.tangent(read[2], None, floor=1e-14)]
    return [tensor.clone() for tensor, _ in done]


def test_two_projectors_of_one_kernel_keep_a_state_each() -> None:
    kind = next(kind for kind in KINDS if kind.iterated)
    plan = block_kinds.plan_of(kind, 260)
    given, others = (block_kinds.weights(plan, torch.float64, seed) for seed in (1, 2))
    fresh = plan.projector(given).tangent(given)
    one = plan.projector(given)
    one.tangent(others)
    served = Projector(plan, given, before=one)  # its steps go on from the last solution, as if nothing had changed
    assert all(a is b for a, b in zip(served.kernels(given), one.kernels(given), strict=True))
    warm = served.tangent(given)
    assert not all(torch.equal(warm[name], fresh[name]) for name in fresh)
    served.forget()
    cold = served.tangent(given)
    assert all(torch.equal(cold[name], fresh[name]) for name in fresh)
    warm_too = one.tangent(given)
    assert all(torch.equal(warm_too[name], warm[name]) for name in fresh)
