"""Ordinary loops are no reason for a watch to warn."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, optim
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import affinet
from affinet import families
from affinet.kernels.torch import conjugate_gradients
from affinet.training.alarms import UNDONE_STEPS
from tests.kernels.test_sparse_kernel import M, system
from tests.limits import planned
from tests.training.test_traps import Net, backward
from tests.training.watched import Optimizer, step, watched


def plain(net: Net, optimizer: Optimizer, handle: affinet.Handle) -> None:
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, 25)
    for _ in range(25):
        step(net, optimizer)
        scheduler.step()


def warm_up(net: Net, optimizer: Optimizer, handle: affinet.Handle) -> None:
    scheduler = optim.lr_scheduler.LambdaLR(optimizer, lambda number: 0.0 if number < 8 else (number - 7) / 10)
    for _ in range(20):
        step(net, optimizer)
        scheduler.step()


def resume(net: Net, optimizer: Optimizer, handle: affinet.Handle) -> None:
    for _ in range(3):
        step(net, optimizer)
        file = io.BytesIO()
        torch.save((net.state_dict(), optimizer.state_dict()), file)
        file.seek(0)
        weights, state = torch.load(file, weights_only=True)
        net.load_state_dict(weights)
        optimizer.load_state_dict(state)


def averages(net: Net, optimizer: Optimizer, handle: affinet.Handle) -> None:
    """Swapped in to be evaluated, swapped out again, and at last trained on."""
    averaged = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for _ in range(40):
        step(net, optimizer)
        averaged.update_parameters(net)
        kept = copy.deepcopy(net.state_dict())
        net.load_state_dict(averaged.module.state_dict())
        net()
        net.load_state_dict(kept)
    net.load_state_dict(averaged.module.state_dict())
    step(net, optimizer)


def broadcast(net: Net, optimizer: Optimizer, handle: affinet.Handle) -> None:
    """What DDP does to the weights of rank 0, and what flattens them into one vector and back."""
    for _ in range(3):
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.copy_(parameter.clone())
        step(net, optimizer)
        vector = torch.nn.utils.parameters_to_vector(net.parameters()).detach()
        torch.nn.utils.vector_to_parameters(vector.clone(), net.parameters())


def casts(net: Net, optimizer: Optimizer, handle: affinet.Handle) -> None:
    """Weights rounded to fewer digits and back are off by the rounding of the coarser dtype."""
    step(net, optimizer)
    for dtype in (torch.float32, torch.float64):
        net.to(dtype)
        net.inputs = net.inputs.to(dtype)
        optimizer.state.clear()
        step(net, optimizer)


def larger(net: Net, optimizer: Optimizer, handle: affinet.Handle) -> None:
    """Weights on the rules that are a thousand times as large have a thousand times the rounding."""
    for _ in range(2):
        step(net, optimizer)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(1e4)
        handle.projector.project_(dict(net.named_parameters()), passes=2)


def clamped(net: Net, optimizer: Optimizer, handle: affinet.Handle) -> None:
    """A clamp that changes nothing, and one of weights in no rule."""
    for _ in range(3):
        step(net, optimizer)
        with torch.no_grad():
            net.first.weight.clamp_(-100, 100)
            net.second.bias[3].clamp_(-0.01, 0.01)


def accumulated(net: Net, optimizer: Optimizer, handle: affinet.Handle) -> None:
    for number in range(6):
        (net() / 2).backward()
        if number % 2:
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()


def frozen(net: Net, optimizer: Optimizer, handle: affinet.Handle) -> None:
    for number in range(6):
        net.second.requires_grad_(number % 2 == 0)
        net.zero_grad()
        step(net, optimizer)


def scaled(net: Net, optimizer: Optimizer, handle: affinet.Handle) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    for number in range(6):
        optimizer.zero_grad()
        scaler.scale(net() * (float("inf") if number == 2 else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()


LOOPS = (plain, warm_up, resume, averages, broadcast, casts, larger, clamped, accumulated, frozen, scaled)
MAKES: dict[str, tuple[Callable[..., Optimizer], dict[str, Any]]] = {
    "SGD": (optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    "AdamW": (optim.AdamW, {"weight_decay": 0.1}),
    "AdamW, fused": (optim.AdamW, {"fused": True}),
}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", MAKES)
def test_ordinary_loops_are_no_reason_to_warn(kind: str, loop: Callable[..., None]) -> None:
    """Warnings are errors here."""
    make, options = MAKES[kind]
    net, optimizer, handle, watch = watched(make, **options)
    loop(net, optimizer, handle)
    assert watch.history


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("loop", [plain, resume, broadcast])
def test_fewer_digits_are_no_reason_to_warn(loop: Callable[..., None], dtype: torch.dtype) -> None:
    net, optimizer, handle, watch = watched(optim.AdamW, dtype)
    loop(net, optimizer, handle)
    assert watch.history


def test_closures_are_no_reason_to_warn() -> None:
    net, optimizer, _, watch = watched(optim.LBFGS, lr=1.0, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        backward(net)
        return net()

    for _ in range(15):
        optimizer.step(closure)  # type: ignore[arg-type]
    assert [seen.step for seen in watch.history] == list(range(15))


@pytest.mark.parametrize("metric", ["euclidean", "optimizer"])
def test_an_optimum_is_no_reason_to_warn(metric: Any) -> None:
    """In the optimizer's metric all of a step is taken back there, and steps are as long as ever."""
    model = torch.nn.Module()
    model.register_parameter("a", torch.nn.Parameter(torch.zeros(20, dtype=torch.float64)))
    optimizer = optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.01 if metric == "euclidean" else 0.0)
    w = affinet.weights(model)
    watch = affinet.project(model, optimizer, w.a.sum() == 1, metric=metric).watch(multipliers=True)
    target = torch.linspace(2, 4, 20, dtype=torch.float64)
    for _ in range(150):
        optimizer.zero_grad()
        (model.a - target).square().sum().backward()
        optimizer.step()
    last, longest = watch.history[-UNDONE_STEPS:], max(seen.step_length for seen in watch.history)
    assert last[-1].stationarity is not None
    assert last[-1].stationarity < 1e-2
    if metric == "optimizer":
        assert all(seen.undone > 0.99 and seen.step_length > 0.1 * longest for seen in last)


@pytest.mark.filterwarnings("ignore::affinet.errors.ConvergenceWarning")
def test_what_a_solver_leaves_where_it_falls_short_was_written_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conjugate_gradients, "MOST_ITERATIONS", 4)
    model = torch.nn.Module()
    model.register_parameter("a", torch.nn.Parameter(torch.linspace(-1, 1, M, dtype=torch.float64)))
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    rule = families.linear([affinet.weights(model).a], *system()).named("A")
    handle = affinet.project(model, optimizer, planned(rule, dense_rows=10, largest_fill=0))
    watch = handle.watch()
    for number in range(8):
        model.a.grad = torch.cos(torch.arange(M, dtype=torch.float64) * (1 + number / 50))
        optimizer.step()
    assert min(seen.violation["A"] for seen in watch.history) > 1e-9
    with torch.no_grad():
        model.a[3] += 1.0
    with pytest.warns(affinet.WeightsWrittenWarning, match="before step 8 a was written to"):
        optimizer.step()
