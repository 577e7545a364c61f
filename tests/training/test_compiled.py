"""torch.compile of the model, of the step and of both: as few graphs as without rules, none of them made anew."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import optim
from torch._dynamo.utils import counters

import affinet
from tests.training.test_traps import Net, rules_for, weights, worst

STEPS = 6


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    with warnings.catch_warnings():
        # torch's own, of what it does inside an optimizer's step.
        warnings.filterwarnings("ignore", message=r".*(lru_cache|Profiler record function).*")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\..*")
        yield
    torch._dynamo.reset()


def loops(way: str, net: Net, optimizer: optim.Optimizer) -> Callable[[], Any]:
    """One step of training, with the part compiled that `way` says."""
    if way == "model":
        compiled: Any = torch.compile(net, backend="aot_eager")

        def model_only() -> None:
            optimizer.zero_grad()
            compiled().backward()
            optimizer.step()

        return model_only
    if way == "optimizer.step":
        step = torch.compile(optimizer.step, backend="aot_eager")

        def step_only() -> None:
            optimizer.zero_grad()
            net().backward()
            step()

        return step_only

    def whole() -> None:
        optimizer.zero_grad()
        net().backward()
        optimizer.step()

    return whole if way == "nothing" else torch.compile(whole, backend="aot_eager")


def apart(one: Net, other: Net) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(weights(one), weights(other), strict=True))


def run(way: str, *, rules: bool, **options: Any) -> tuple[Net, affinet.Handle | None, list[int], int]:
    """The trained model, its handle, the number of graphs after each step, and of breaks between them at the end."""
    torch._dynamo.reset()
    counters.clear()
    net = Net()
    optimizer = optim.Adam(net.parameters(), lr=0.05, **options)
    handle = affinet.project(net, optimizer, rules_for(net)) if rules else None
    one_step, graphs = loops(way, net, optimizer), []
    for _ in range(STEPS):
        one_step()
        graphs.append(int(counters["stats"].get("unique_graphs", 0)))
    return net, handle, graphs, sum(counters["graph_break"].values())


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "foreach": True}], ids=["plain", "decay, foreach"])
@pytest.mark.parametrize("way", ["model", "optimizer.step", "whole step"])
def test_compiled_training_has_the_graphs_of_stock_training_and_the_weights_of_eager(
    way: str, options: dict[str, Any]
) -> None:
    eager, stock_eager = (run("nothing", rules=rules, **options)[0] for rules in (True, False))
    compiled_stock, _, stock, stock_breaks = run(way, rules=False, **options)
    net, handle, graphs, breaks = run(way, rules=True, **options)
    assert handle is not None
    assert worst(handle) < 1e-13
    # A compiled Adam keeps its rate in float32: the stock one is some 1e-6 from its eager self, and ours no further.
    assert apart(net, eager) <= 1e-12 + 4 * apart(compiled_stock, stock_eager) < 1e-4
    assert graphs[-1] == stock[-1] > 0, "more graphs than stock training"
    assert breaks <= stock_breaks, "more graph breaks than stock training"
    assert graphs[1:] == graphs[1:2] * (STEPS - 1), f"graphs are made anew: {graphs}"


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor compiles with g++, which is not on this machine")
@pytest.mark.filterwarnings("ignore")
def test_a_step_compiled_by_inductor_stays_on_the_rules_and_near_the_eager_one() -> None:
    nets = []
    for compiled in (False, True):
        net = Net()
        optimizer = optim.Adam(net.parameters(), lr=0.05)
        handle = affinet.project(net, optimizer, rules_for(net))
        step = torch.compile(optimizer.step) if compiled else optimizer.step
        for _ in range(STEPS):
            optimizer.zero_grad()
            net().backward()
            step()
            assert worst(handle) < 1e-13
        nets.append(net)
    assert apart(*nets) < 1e-4  # a compiled Adam keeps its rate in float32


def test_a_compiled_model_may_be_what_is_attached() -> None:
    net = Net()
    compiled: Any = torch.compile(net, backend="eager")
    optimizer = optim.Adam(compiled.parameters(), lr=0.05)
    handle = affinet.project(compiled, optimizer, rules_for(net))
    for _ in range(3):
        optimizer.zero_grad()
        compiled().backward()
        optimizer.step()
        assert worst(handle) < 1e-13
