"""`handle.watch`: what it sees is what is there, and no bit of the training changes because somebody looks."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, optim
from torch._dynamo.utils import counters

import affinet
from affinet import families
from affinet.blocks.sparse import Sparse
from affinet.training import capture
from tests.kernels.test_sparse_kernel import M, system
from tests.limits import planned
from tests.training.test_traps import Failing, Net, Twice, backward, rules_for, same, weights, worst

Optimizer = optim.Optimizer
Loop = Callable[[Net, list[Optimizer], affinet.Handle], None]


def plainly(net: Net, optimizers: list[Optimizer], handle: affinet.Handle) -> None:
    backward(net)
    for optimizer in optimizers:
        optimizer.step()


def by_closure(net: Net, optimizers: list[Optimizer], handle: affinet.Handle) -> None:
    def closure() -> Tensor:
        backward(net)
        return net().detach()

    optimizers[0].step(closure)  # type: ignore[arg-type]


def clipped(net: Net, optimizers: list[Optimizer], handle: affinet.Handle) -> None:
    backward(net)
    handle.project_gradients()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
    optimizers[0].step()


def one(kind: Callable[..., Optimizer], **options: Any) -> Callable[[Net], list[Optimizer]]:
    return lambda net: [kind(net.parameters(), **options)]


def two(net: Net) -> list[Optimizer]:
    return [optim.AdamW(net.first.parameters(), lr=0.05), optim.SGD(net.second.parameters(), lr=0.02, momentum=0.9)]


TRAININGS: dict[str, tuple[Callable[[Net], list[Optimizer]], Loop, dict[str, Any]]] = {
    "SGD": (one(optim.SGD, lr=0.02, momentum=0.9, weight_decay=0.1), plainly, {}),
    "Adam, coupled decay": (one(optim.Adam, lr=0.05, weight_decay=0.2), plainly, {}),
    "AdamW, fused": (one(optim.AdamW, lr=0.05, fused=True), plainly, {}),
    "Adam in its metric": (one(optim.Adam, lr=0.05), plainly, {"metric": "optimizer"}),
    "LBFGS": (one(optim.LBFGS, lr=0.1, max_iter=4), by_closure, {}),
    "clipped": (one(optim.Adam, lr=0.05), clipped, {}),
    "two optimizers": (two, plainly, {}),
}


def state_of(optimizers: list[Optimizer]) -> list[Tensor]:
    return [
        value.clone()
        for optimizer in optimizers
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    ]


def trained(way: str, steps: int = 7, **watched: Any) -> tuple[list[Tensor], affinet.Handle, affinet.Watch | None]:
    make, loop, options = TRAININGS[way]
    net = Net()
    optimizers = make(net)
    handle = affinet.project(net, optimizers, rules_for(net), **options)
    watch = handle.watch(**watched) if watched else None
    for _ in range(steps):
        loop(net, optimizers, handle)
    gradients = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    return [*weights(net), *gradients, *state_of(optimizers)], handle, watch


# No bit changes


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("way", TRAININGS)
def test_weights_gradients_and_optimizer_states_are_the_same_bits_when_watched(way: str, every: int) -> None:
    alone, _, _ = trained(way)
    watched, handle, watch = trained(way, every=every, multipliers=True)
    assert same(alone, watched)
    assert watch is not None
    assert len(watch.history) == len(range(0, 7, every)) * (2 if way == "two optimizers" else 1)
    assert max(worst(handle), *(max(seen.violation.values()) for seen in watch.history)) < 1e-12


def test_a_solver_that_starts_from_its_last_solution_keeps_its_bits() -> None:
    """Conjugate gradients remember; the watch asks a projector of its own."""
    ends = []
    for watched in (False, True):
        model = torch.nn.Module()
        model.register_parameter("a", torch.nn.Parameter(torch.linspace(-1, 1, M, dtype=torch.float64)))
        optimizer = optim.Adam(model.parameters(), lr=0.05)
        rule = families.linear([affinet.weights(model).a], *system())
        handle = affinet.project(model, optimizer, planned(rule, dense_rows=10, largest_fill=0))
        assert any(isinstance(block, Sparse) for block in handle.plan.blocks)
        if watched:
            handle.watch(every=1)
        for step in range(5):
            model.a.grad = torch.cos(torch.arange(M, dtype=torch.float64) * (1 + step / 50)) * model.a.detach()
            optimizer.step()
        ends.append(weights(model))
    assert same(*ends)


# What is seen


def seen_by_hand(kind: Callable[..., Optimizer], steps: int = 4) -> Iterator[tuple[affinet.Observation, Any]]:
    """Observations, with the weights before the step, after it and after the projection, from hooks around ours."""
    net = Net()
    optimizer = kind(net.parameters(), lr=0.05)
    between: list[Tensor] = []
    handle = affinet.project(net, optimizer, rules_for(net))
    ours = optimizer.register_step_post_hook(lambda *_: between.extend(weights(net)))
    optimizer._optimizer_step_post_hooks.move_to_end(ours.id, last=False)  # before the projection, which goes first
    watch = handle.watch(multipliers=True)
    for _ in range(steps):
        backward(net)
        before = weights(net)
        between.clear()
        optimizer.step()
        yield watch.history[-1], (handle, before, list(between), weights(net))


@pytest.mark.parametrize("kind", [optim.Adam, optim.SGD, optim.RMSprop])
def test_an_observation_is_what_the_handle_says_and_how_far_the_weights_moved(kind: Callable[..., Optimizer]) -> None:
    def apart(one: list[Tensor], other: list[Tensor]) -> float:
        return float(torch.cat([(a - b).reshape(-1) for a, b in zip(one, other, strict=True)]).norm())

    for step, (seen, (handle, before, between, after)) in enumerate(seen_by_hand(kind)):
        assert (seen.step, seen.optimizer) == (step, 0)
        assert seen.violation == handle.violation()
        assert seen.stationarity == handle.stationarity()
        assert {rule: nu.tolist() for rule, nu in seen.multipliers.items()} == {
            rule: nu.tolist() for rule, nu in handle.multipliers().items()
        }
        assert seen.step_length == pytest.approx(apart(before, between), rel=1e-12)
        assert seen.projection_distance == pytest.approx(apart(between, after), rel=1e-12, abs=1e-15)
        # Pythagoras: the step is the part that is kept and, at right angles to it, the part that is taken back.
        assert seen.undone == pytest.approx((seen.projection_distance / seen.step_length) ** 2, rel=1e-9, abs=1e-25)
        if kind is optim.SGD:
            assert seen.undone < 1e-25, "a projected gradient along which SGD steps is tangent"
        else:
            assert 1e-9 < seen.undone < 1.0


def test_every_and_first_step_number_the_steps() -> None:
    net = Net()
    optimizer = optim.Adam(net.parameters(), lr=0.05)
    handle = affinet.project(net, optimizer, rules_for(net))
    watches = [handle.watch(every=every, first_step=first) for every, first in ((1, 0), (3, 0), (3, 100), (50, 0))]
    for _ in range(8):
        plainly(net, [optimizer], handle)
    found = [[seen.step for seen in watch.history] for watch in watches]
    assert found == [list(range(8)), [0, 3, 6], [102, 105], [0]]


def test_two_optimizers_are_counted_apart() -> None:
    _, _, watch = trained("two optimizers", steps=5, every=2)
    assert watch is not None
    assert [(seen.step, seen.optimizer) for seen in watch.history] == [(s, o) for s in (0, 2, 4) for o in (0, 1)]
    assert all(seen.stationarity is not None for seen in watch.history)


def test_hooks_that_fire_twice_make_one_observation_and_a_step_that_raises_makes_none() -> None:
    net = Net()
    optimizer = Twice(net.parameters(), lr=0.05)
    handle = affinet.project(net, optimizer, rules_for(net), decay="coupled")
    watch = handle.watch()
    for _ in range(3):
        plainly(net, [optimizer], handle)
    assert [seen.step for seen in watch.history] == [0, 1, 2]
    assert all(seen.step_length > 0 for seen in watch.history)


def test_a_step_that_raises_is_not_observed_and_what_it_left_is_nobody_elses() -> None:
    net = Net()
    failing = Failing(net.parameters(), lr=0.05)
    handle = affinet.project(net, failing, rules_for(net), decay="coupled")
    watch = handle.watch()
    for failing.fails in (False, True, False):
        backward(net)
        try:
            failing.step()
        except RuntimeError:
            with torch.no_grad():  # what a step left half done
                net.first.weight[0, 0] += 1.0
    assert [seen.step for seen in watch.history] == [0, 1]


@pytest.mark.parametrize("fused", [True, False])
def test_a_step_that_a_scaler_skips_is_not_observed_but_the_next(fused: bool) -> None:
    net = Net()
    optimizer = optim.Adam(net.parameters(), lr=0.05, fused=fused)
    handle = affinet.project(net, optimizer, rules_for(net))
    watch = handle.watch(every=2, multipliers=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    for overflow in (True, False, False, True, False, False):
        optimizer.zero_grad()
        scaler.scale(net() * (float("inf") if overflow else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        if not overflow:
            stationarity, multipliers = handle.stationarity(), handle.multipliers()
    # A fused optimizer's skipped steps count, since only the device knows of them.
    assert [seen.step for seen in watch.history] == ([1, 2, 4] if fused else [0, 2])
    assert all(seen.step_length > 0 for seen in watch.history)
    if fused:
        assert scaler.get_scale() == 16.0
    else:
        assert 0 < stationarity < 1
        assert multipliers


def test_gradients_of_large_models_are_kept_for_the_steps_that_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "SMALL", 10)
    net = Net()
    optimizer = optim.Adam(net.parameters(), lr=0.05)
    handle = affinet.project(net, optimizer, rules_for(net))
    watch, kept = handle.watch(every=3), []
    for step in range(7):
        backward(net)
        if step == 3:
            handle.project_gradients()
        optimizer.step()
        kept.append(handle._sandwich.capture.captures)
    assert kept == [1, 1, 1, 2, 2, 2, 3]
    assert all(seen.stationarity is not None and 0 < seen.stationarity < 1 for seen in watch.history)


def test_a_step_without_gradients_has_no_stationarity_and_its_multipliers_are_nan() -> None:
    net = Net()
    optimizer = optim.SGD(net.parameters(), lr=0.05)
    handle = affinet.project(net, optimizer, rules_for(net))
    watch = handle.watch(multipliers=True)
    optimizer.step()
    plainly(net, [optimizer], handle)
    first, second = watch.history
    assert first.stationarity is None
    assert np.isnan(first.numbers()["stationarity"])
    assert all(bool(nu.isnan().all()) for nu in first.multipliers.values())
    assert first.undone == 0.0
    assert first.numbers().keys() == second.numbers().keys()
    assert all(np.isfinite(list(second.numbers().values())))


def test_rules_about_frozen_weights_stay_among_what_is_seen() -> None:
    net = Net()
    optimizer = optim.SGD(net.parameters(), lr=0.02)
    handle = affinet.project(net, optimizer, rules_for(net))
    watch = handle.watch(multipliers=True)
    plainly(net, [optimizer], handle)
    net.first.requires_grad_(False)
    net.zero_grad()
    plainly(net, [optimizer], handle)
    net.second.requires_grad_(False)
    net.zero_grad()
    optimizer.step()
    names = [list(seen.numbers()) for seen in watch.history]
    assert names[0] == names[1] == names[2]
    assert bool((watch.history[1].multipliers["rows"] == 0.0).all()), "a rule about constants costs nothing"
    assert bool((watch.history[1].multipliers["columns"] != 0.0).all())
    assert watch.history[2].stationarity is None


# Callbacks, and the way off


def test_callbacks_are_called_in_turn_and_nothing_is_kept() -> None:
    net = Net()
    optimizer = optim.Adam(net.parameters(), lr=0.05)
    handle = affinet.project(net, optimizer, rules_for(net))
    calls: list[tuple[str, int]] = []
    watch = handle.watch(
        lambda seen: calls.append(("one", seen.step)), lambda seen: calls.append(("two", seen.step)), every=2
    )
    for _ in range(3):
        plainly(net, [optimizer], handle)
    assert calls == [("one", 0), ("two", 0), ("one", 2), ("two", 2)]
    assert watch.history == ()


def test_what_a_callback_raises_ends_the_step_with_the_weights_on_the_rules() -> None:
    net = Net()
    optimizer = optim.Adam(net.parameters(), lr=0.05)
    handle = affinet.project(net, optimizer, rules_for(net))

    def full(seen: affinet.Observation) -> None:
        raise OSError("no space left")

    watch = handle.watch(full)
    with pytest.raises(OSError, match="no space left"):
        plainly(net, [optimizer], handle)
    assert worst(handle) < 1e-13
    watch.stop()
    plainly(net, [optimizer], handle)


def test_a_watch_ends_when_stopped_when_its_block_ends_and_when_the_rules_are_taken_off() -> None:
    net = Net()
    optimizer = optim.Adam(net.parameters(), lr=0.05)
    handle = affinet.project(net, optimizer, rules_for(net))
    longest, stopped = handle.watch(), handle.watch()
    with handle.watch() as inside:
        plainly(net, [optimizer], handle)
        assert "watching" in repr(inside)
    stopped.stop()
    stopped.stop()
    plainly(net, [optimizer], handle)
    assert [len(watch.history) for watch in (longest, stopped, inside)] == [2, 1, 1]
    assert [watch.active for watch in (longest, stopped, inside)] == [True, False, False]
    assert "stopped" in repr(inside)
    handle.remove()
    plainly(net, [optimizer], handle)
    assert len(longest.history) == 2
    assert not longest.active
    with pytest.raises(affinet.WatchError, match=r"rules were removed .*no steps to watch"):
        handle.watch()


@pytest.mark.parametrize("options", [{"every": 0}, {"every": 2.5}, {"every": True}, {"first_step": -1}])
def test_numbers_of_steps_are_whole_and_positive(options: dict[str, Any]) -> None:
    net = Net()
    handle = affinet.project(net, optim.Adam(net.parameters()), rules_for(net))
    with pytest.raises(affinet.WatchError, match=r"(every|first_step) is .*; it is a whole number of steps"):
        handle.watch(**options)


def test_what_cannot_be_called_is_no_callback() -> None:
    net = Net()
    handle = affinet.project(net, optim.Adam(net.parameters()), rules_for(net))
    with pytest.raises(affinet.WatchError, match=r"'run\.csv' cannot be called.*affinet\.CsvLog\(path\)"):
        handle.watch("run.csv")  # type: ignore[arg-type]
    assert handle._sandwich.hooked.observers == ()


def test_copies_of_the_training_are_not_watched_and_nothing_keeps_it_alive() -> None:
    net = Net()
    optimizer = optim.Adam(net.parameters(), lr=0.05)
    handle = affinet.project(net, optimizer, rules_for(net))
    watch = handle.watch()
    copied_net, copied = copy.deepcopy((net, optimizer))
    backward(copied_net)
    copied.step()
    assert watch.history == ()
    held = [weakref.ref(net), weakref.ref(optimizer)]
    del net, optimizer, handle, watch, copied_net, copied
    gc.collect()
    assert [reference() for reference in held] == [None, None]


@pytest.mark.filterwarnings("ignore:.*(lru_cache|Profiler record function)")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_compiled_step_has_the_graphs_and_the_bits_of_one_that_is_not_watched() -> None:
    graphs, ends, lengths = [], [], []
    for watched in (False, True):
        torch._dynamo.reset()
        counters.clear()
        net = Net()
        optimizer = optim.Adam(net.parameters(), lr=0.05)
        handle = affinet.project(net, optimizer, rules_for(net))
        watch = handle.watch(every=2, multipliers=True) if watched else None
        step = torch.compile(optimizer.step, backend="aot_eager")
        for _ in range(5):
            backward(net)
            step()
        graphs.append((counters["stats"].get("unique_graphs", 0), sum(counters["graph_break"].values())))
        ends.append(weights(net))
        if watch is not None:
            lengths = [seen.step_length for seen in watch.history]
    torch._dynamo.reset()
    assert graphs[0] == graphs[1]
    assert graphs[0][0] > 0
    assert same(*ends)
    assert len(lengths) == 3
    assert min(lengths) > 0
