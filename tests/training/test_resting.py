"""Law 11: a step that moves nothing changes no bit, and attaching leaves weights that hold as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet import families
from tests.contract.building import model_of, plan_of
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.training.guests import ScheduleFree

DTYPES = [torch.float64, torch.float32, torch.bfloat16]


class Net(torch.nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float32, seed: int = 0) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.a, self.b = (torch.nn.Parameter(torch.randn(n, m, generator=draw).to(dtype)) for n, m in ((7, 9), (9, 7)))

    def forward(self) -> Tensor:
        return (self.a @ self.b - torch.eye(7, dtype=self.a.dtype)).square().sum()


RULES: dict[str, Callable[[Any], list[affinet.Constraint]]] = {
    "rows": lambda w: [w.a.sum(dim=1) == 1],
    "rows and columns": lambda w: [w.a.sum(dim=1) == 9, w.a.sum(dim=0) == 7],
    "ties": lambda w: [w.a == w.b.T],
    "ties with a sum": lambda w: [w.a[0, 1] == w.a[2, 3], w.a.sum() + w.b.sum() == 1, w.b[0, 0] == -w.b[1, 1]],
    "symmetric with row sums": lambda w: [w.a[:, :7] == w.a[:, :7].T, w.a[:, :7].sum(dim=1) == 0],
    "components": lambda w: [w.a[k, k] + 2 * w.b[k, k] - w.a[0, 8] == 1 for k in range(7)],
    "dense": lambda w: [families.linear([w.a], torch.randn(5, 63, generator=torch.Generator().manual_seed(1)), 1.0)],
}


def bits(net: torch.nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in net.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rules", RULES)
def test_weights_that_hold_are_left_as_they_are_when_attaching(rules: str, dtype: torch.dtype) -> None:
    """However a training arrived at them, what it goes on from are the very same weights."""
    for seed in range(5):
        net = Net(dtype, seed)
        optimizer = optim.SGD(net.parameters(), lr=1e-3)
        handle = affinet.project(net, optimizer, RULES[rules](affinet.weights(net)))
        for _ in range(seed):
            optimizer.zero_grad()
            net().backward()
            optimizer.step()
        handle.remove()
        there = bits(net)
        again = affinet.project(net, optimizer, RULES[rules](affinet.weights(net)))
        assert same(bits(net), there)
        assert set(again.moved.values()) == {0.0}


def test_weights_off_by_little_more_than_rounding_are_moved() -> None:
    net = Net(torch.float64)
    w = affinet.weights(net)
    handle = affinet.project(net, optim.SGD(net.parameters(), lr=0.1), RULES["rows"](w))
    handle.remove()
    with torch.no_grad():
        net.a[3, 4] += 1e-13
    handle = affinet.project(net, optim.SGD(net.parameters(), lr=0.1), RULES["rows"](w))
    assert 1e-14 < handle.moved["a"] < 1e-13


@pytest.mark.parametrize("rules", ["ties", "ties with a sum", "symmetric with row sums"])
def test_ties_that_hold_but_for_one_bit_are_made_exact(rules: str) -> None:
    net = Net(torch.float32)
    w = affinet.weights(net)
    handle = affinet.project(net, optim.SGD(net.parameters(), lr=0.1), RULES[rules](w))
    handle.remove()
    before = net.a.detach().clone()
    with torch.no_grad():
        net.a[0, 1] = torch.nextafter(net.a[0, 1], torch.tensor(9.0))
    affinet.project(net, optim.SGD(net.parameters(), lr=0.1), RULES[rules](w))
    other = net.b[1, 0] if rules == "ties" else net.a[2, 3] if rules == "ties with a sum" else net.a[1, 0]
    assert torch.equal(net.a[0, 1], other)
    assert torch.allclose(net.a, before, rtol=1e-5)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_attaching_again_leaves_every_case_of_the_table(case: Case) -> None:
    model, plan = model_of(case), plan_of(case.name, "equations")
    if not any(p.requires_grad for p in model.parameters()):
        pytest.skip("everything is frozen")
    optimizer = optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    affinet.project(model, optimizer, plan).remove()
    there = bits(model)
    affinet.project(model, optimizer, plan)
    assert same(bits(model), there)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.Adam(p, lr=0.01, weight_decay=0.1),
        lambda p: optim.SGD(p, lr=0.01, momentum=0.9),
        lambda p: ScheduleFree(p, lr=0.01),
    ],
    ids=["Adam", "SGD", "ScheduleFree"],
)
def test_a_step_that_moves_nothing_changes_no_bit(rules: str, make: Callable[[Any], optim.Optimizer]) -> None:
    net = Net()
    optimizer = make(net.parameters())
    affinet.project(net, optimizer, RULES[rules](affinet.weights(net)))
    for _ in range(3):
        optimizer.zero_grad()
        net().backward()
        optimizer.step()
    there = bits(net)
    optimizer.zero_grad()
    optimizer.step()  # no gradients
    assert same(bits(net), there)
    if isinstance(optimizer, ScheduleFree):  # which averages without a learning rate, too
        return
    net().backward()
    rate, optimizer.param_groups[0]["lr"] = optimizer.param_groups[0]["lr"], 0.0
    optimizer.step()  # a warm-up begins at a learning rate of 0
    assert same(bits(net), there)
    optimizer.param_groups[0]["lr"] = rate
    optimizer.step()
    assert not same(bits(net), there)


def test_in_the_metric_of_the_optimizer_weights_without_a_gradient_follow_those_that_move() -> None:
    """`a₀ + a₁ = b₀ + b₁` and `a₀ − a₁ = 0`-like rules are at right angles in the plain metric, and not in another."""
    net = torch.nn.ParameterDict({"a": torch.zeros(2).double(), "b": torch.zeros(2).double()})
    w = affinet.weights(net)
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    rules = [w.a.sum() + w.b[0] == 0, w.a[0] - w.a[1] + w.b[1] == 0]
    handle = affinet.project(net, optimizer, rules, metric="optimizer")
    scale = torch.tensor([1.0, 30.0]).double()
    for used in ("ab", "ab", "a", "b", "a"):
        optimizer.zero_grad()
        sum((scale * (net[name] - 1.0)).square().sum() for name in used).backward()  # type: ignore[union-attr]
        optimizer.step()
        assert max(handle.violation().values()) < 1e-13


def test_an_optimizer_that_moves_weights_without_a_gradient_is_projected_all_the_same() -> None:
    class Drifting(optim.SGD):
        """Writes through `.data`, which changes no version."""

        def step(self, closure: Any = None) -> Any:
            for p in self.param_groups[0]["params"]:
                p.data.add_(0.5 * torch.arange(p.numel()).view(p.shape))

    net = Net(torch.float64)
    optimizer = Drifting(net.parameters(), lr=0.0)
    handle = affinet.project(net, optimizer, RULES["rows"](affinet.weights(net)))
    optimizer.step()
    assert max(handle.violation().values()) < 1e-13
