"""What 16 bits can and cannot hold, and what to do about it: the figures of docs/numerics.md."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import affinet

ENTRIES = 11_008
BFLOAT = float(torch.finfo(torch.bfloat16).eps)


def missed(dtype: torch.dtype, deviation: float) -> tuple[float, float]:
    """How far 64 sums of 11,008 entries are off, and the most that storing them could do."""
    w = affinet.weights({"a": (64, ENTRIES)})
    plan = affinet.plan(w.a.sum(dim=1) == 1)
    given = {"a": (torch.randn(64, ENTRIES) * deviation).to(dtype)}
    projector = plan.projector(given)
    found = projector.project(given)
    (violation,) = projector.violation(found).values()
    return violation, float(found["a"].double().abs().sum(1).max()) * torch.finfo(dtype).eps / 2


@pytest.mark.parametrize(
    ("dtype", "deviation", "least", "most"),
    [
        (torch.bfloat16, 0.02, 0.05, 0.3),
        (torch.bfloat16, 1.0, 2.0, 12.0),
        (torch.float16, 0.02, 0.005, 0.04),
        (torch.float32, 0.02, 0.0, 1e-5),
    ],
)
def test_a_sum_of_11008_entries(dtype: torch.dtype, deviation: float, least: float, most: float) -> None:
    violation, bound = missed(dtype, deviation)
    assert least < violation < most
    assert violation <= 1.02 * bound


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_ties_are_bit_equal_in_sixteen_bits_too(dtype: torch.dtype) -> None:
    model = nn.Linear(300, 300).to(dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, eps=1e-3)
    w = affinet.weights(model)
    affinet.project(model, optimizer, [w.weight == -w.weight.T, w.bias[:150] == w.bias[150:]])
    for _ in range(3):
        model(torch.randn(8, 300, dtype=dtype)).square().mean().backward()
        optimizer.step()
    assert torch.equal(model.weight, -model.weight.T)
    assert torch.equal(model.bias[:150], model.bias[150:])


def steps(dtype: torch.dtype) -> tuple[float, float]:
    """A hundred steps of 1e-3 downhill on weights of size one, their rows summing to zero; how far they came."""
    model = nn.Linear(64, 8, bias=False).to(dtype)
    torch.nn.init.ones_(model.weight)
    model.weight.data[:, ::2] = -1.0
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    handle = affinet.project(model, optimizer, affinet.weights(model).weight.sum(dim=1) == 0)
    before = model.weight.detach().clone()
    for _ in range(100):
        with torch.autocast("cpu", torch.bfloat16):
            loss = (model(torch.eye(64, dtype=dtype)) * torch.tensor([1.0, 1.0, -1.0, -1.0] * 16)[:, None]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float((model.weight.detach() - before).abs().max()), max(handle.violation().values())


def test_a_step_below_half_a_spacing_is_lost_before_any_hook_sees_it() -> None:
    """The optimizer rounds `w − η g` to bfloat16 itself; float32 parameters under autocast move."""
    assert steps(torch.bfloat16)[0] == 0.0
    moved, violation = steps(torch.float32)
    assert moved == pytest.approx(0.1, rel=1e-3)
    assert violation < 1e-5


def test_float32_tied_to_bfloat16_agrees_to_the_coarser_and_keeps_its_own_digits() -> None:
    w = affinet.weights({"a": (400,), "b": (400,)})
    plan = affinet.plan(w.a == w.b)
    given = {"a": torch.randn(400), "b": torch.randn(400).bfloat16()}
    found = plan.projector(given).project(given)
    mean = (given["a"].double() + given["b"].double()) / 2
    # Each side is the same mean, rounded once to its own dtype; then once more, from where the coarser one landed.
    assert float(((found["a"] - mean) / mean).abs().max()) <= BFLOAT / 2
    assert float(((found["a"].double() - found["b"].double()) / mean).abs().max()) <= BFLOAT
    assert (found["a"] != found["a"].bfloat16().float()).any()


def test_what_float16_cannot_hold_is_refused_when_it_is_attached() -> None:
    model = nn.Linear(4, 2, bias=False).half()
    before = model.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rule = affinet.weights(model).weight.sum(dim=1) == 4.0 * 70_000
    with pytest.raises(affinet.AttachError, match=r"cannot hold in\s+torch\.float16"):
        affinet.project(model, optimizer, rule)
    assert torch.equal(model.weight, before)
    affinet.project(model, optimizer, affinet.weights(model).weight.sum(dim=1) == 4.0 * 65_000)
    assert float((model.weight.detach().double().sum(1) - 260_000).abs().max()) <= 4 * 65_504 * 2.0**-11
