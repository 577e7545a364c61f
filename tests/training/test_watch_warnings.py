"""What a watch warns of, once of each kind, and that ordinary training is no reason to."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, optim
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import affinet
from affinet import families
from affinet.kernels.torch import conjugate_gradients
from affinet.structure import blocks
from affinet.structure.elimination import components
from affinet.training.alarms import CONSECUTIVE, KNOWN, LASTING, Growth, Undoing
from affinet.training.movement import Movement
from tests.kernels.test_sparse_kernel import M, system
from tests.training.test_traps import Net, backward, rules_for, worst

Optimizer = optim.Optimizer


def watched(
    make: Callable[..., Optimizer] = optim.Adam, dtype: torch.dtype = torch.float64, **options: Any
) -> tuple[Net, Optimizer, affinet.Handle, affinet.Watch]:
    net = Net(dtype)
    optimizer = make(net.parameters(), **{"lr": 0.02} | options)
    handle = affinet.project(net, optimizer, rules_for(net))
    return net, optimizer, handle, handle.watch(every=1, multipliers=True)


def step(net: Net, optimizer: Optimizer) -> None:
    backward(net)
    optimizer.step()


# Weights that somebody wrote to


def loaded(net: Net) -> None:
    net.load_state_dict({name: torch.full_like(p, 0.3) for name, p in net.state_dict().items()})


def edited(net: Net) -> None:
    with torch.no_grad():
        net.first.weight.clamp_(-0.1, 0.1)


def one_entry(net: Net) -> None:
    with torch.no_grad():
        net.first.weight[2, 3] += 1e-3


def assigned(net: Net) -> None:
    net.first.weight.data = torch.ones(5, 6, dtype=net.first.weight.dtype)


def unseen(net: Net) -> None:
    net.first.weight.data.mul_(1.5)


WRITES = {"loaded": loaded, "edited": edited, "one entry": one_entry, "assigned": assigned}


@pytest.mark.parametrize("every", [1, 100])
@pytest.mark.parametrize("how", WRITES)
def test_a_write_that_leaves_the_rules_is_told_with_its_weight_its_step_and_its_size(how: str, every: int) -> None:
    net, optimizer, handle, watch = watched()
    watch.stop()
    handle.watch(every=every)
    for _ in range(3):
        step(net, optimizer)
    WRITES[how](net)
    off = handle.violation()["rows"]
    assert off > 5e-4
    with pytest.warns(
        affinet.WeightsWrittenWarning, match=r"before step 3 .*first\.weight.*\"rows\" by .*again"
    ) as told:
        step(net, optimizer)
    assert len(told) == 1
    said = told[0].message
    assert isinstance(said, affinet.WeightsWrittenWarning)
    assert "first.weight" in said.weights
    assert (said.step, dict(said.violated)["rows"]) == (3, off)
    assert worst(handle) < 1e-12
    WRITES[how](net)
    step(net, optimizer)  # told once: a second warning would be an error here


@pytest.mark.parametrize(("dtype", "much"), [(torch.float32, 1e-4), (torch.bfloat16, 0.3)])
def test_writes_are_told_from_rounding_in_fewer_digits(dtype: torch.dtype, much: float) -> None:
    net, optimizer, _, _ = watched(optim.SGD, dtype, lr=0.01)
    step(net, optimizer)
    with torch.no_grad():
        net.second.weight[1, 0] += much  # tied to its neighbour
    with pytest.warns(affinet.WeightsWrittenWarning, match=r"second\.weight was written to.*\"columns\" by"):
        step(net, optimizer)


@pytest.mark.parametrize("written", [True, False])
def test_one_entry_of_a_large_sum_is_not_lost_in_its_rounding(written: bool) -> None:
    """A hundred thousand times 64 spacings of the largest entry are 3; after a step the sum is off by far less."""
    model = torch.nn.Module()
    model.register_parameter("a", torch.nn.Parameter(torch.randn(100_000)))
    optimizer, w = optim.Adam(model.parameters(), lr=1e-3), affinet.weights(model)
    watch = affinet.project(model, optimizer, (w.a.sum() == 1).named("sum")).watch()

    def once() -> None:
        optimizer.zero_grad()
        (model.a.square().mean() + model.a.sin().sum()).backward()
        optimizer.step()

    for _ in range(3):
        once()
    with torch.no_grad():
        model.a[70_000] += 1.0 if written else 0.0
    if written:
        with pytest.warns(affinet.WeightsWrittenWarning, match=r"before step 3 a was written to.*\"sum\" by (1|0\.99)"):
            once()
    else:
        once()
        assert len(watch.history) == 4


def test_a_write_through_data_is_found_before_a_step_that_is_looked_at() -> None:
    net, optimizer, handle, watch = watched()
    watch.stop()
    handle.watch(every=3)
    step(net, optimizer)
    unseen(net)
    step(net, optimizer)  # projected back, and nobody looked
    step(net, optimizer)
    unseen(net)
    with pytest.warns(affinet.WeightsWrittenWarning, match=r"before step 3 weights were written to unseen .*\.data"):
        step(net, optimizer)


def test_weights_loaded_before_the_watch_began_are_told_too() -> None:
    net, optimizer, handle, watch = watched()
    watch.stop()
    loaded(net)
    handle.watch()
    with pytest.warns(affinet.WeightsWrittenWarning, match=r"before step 0 .*before the watch began"):
        step(net, optimizer)


def test_a_second_watch_tells_again_and_the_way_out_is_one() -> None:
    net, optimizer, handle, _ = watched()
    loaded(net)
    with pytest.warns(affinet.WeightsWrittenWarning, match=r"project_\(dict\(model\.named_parameters\(\)\)\)"):
        step(net, optimizer)
    handle.watch()
    loaded(net)
    handle.projector.project_(dict(net.named_parameters()))
    step(net, optimizer)
    loaded(net)
    with pytest.warns(affinet.WeightsWrittenWarning, match="before step 1 "):
        step(net, optimizer)


def test_new_values_of_frozen_weights_are_new_constants_and_no_write() -> None:
    net, optimizer, handle, _ = watched(optim.SGD)
    net.second.requires_grad_(False)
    for value in (0.1, 0.2):
        net.zero_grad()
        step(net, optimizer)
        with torch.no_grad():
            net.second.bias.fill_(value)
    step(net, optimizer)
    assert worst(handle) < 1e-12
    with torch.no_grad():
        net.second.bias.fill_(0.3)
        net.first.weight.add_(1.0)
    with pytest.warns(affinet.WeightsWrittenWarning, match=r"step 3 first\.weight was written to"):
        step(net, optimizer)


# Ordinary loops


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
        weights, state = torch.load(file)
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
    last, longest = watch.history[-CONSECUTIVE:], max(seen.step_length for seen in watch.history)
    assert last[-1].stationarity is not None
    assert last[-1].stationarity < 1e-2
    if metric == "optimizer":
        assert all(seen.undone > 0.99 and seen.step_length > 0.1 * longest for seen in last)


@pytest.mark.filterwarnings("ignore::affinet.errors.ConvergenceWarning")
def test_what_a_solver_leaves_where_it_falls_short_was_written_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "MOST_DENSE_ROWS", 10)
    monkeypatch.setattr(blocks, "LARGEST_FILL", 0)
    monkeypatch.setattr(conjugate_gradients, "MOST_ITERATIONS", 4)
    model = torch.nn.Module()
    model.register_parameter("a", torch.nn.Parameter(torch.linspace(-1, 1, M, dtype=torch.float64)))
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    handle = affinet.project(model, optimizer, [families.linear([affinet.weights(model).a], *system()).named("A")])
    watch = handle.watch()
    for number in range(8):
        model.a.grad = torch.cos(torch.arange(M, dtype=torch.float64) * (1 + number / 50))
        optimizer.step()
    assert min(seen.violation["A"] for seen in watch.history) > 1e-9
    with torch.no_grad():
        model.a[3] += 1.0
    with pytest.warns(affinet.WeightsWrittenWarning, match="before step 8 a was written to"):
        optimizer.step()


# Steps that are undone


def decaying(rules: Callable[[affinet.Weights], list[affinet.Constraint]]) -> Callable[[], None]:
    """A step of AdamW, which shrinks large weights; the projection puts those back that the rules fix."""
    net = torch.nn.Linear(3, 2, dtype=torch.float64)
    optimizer = optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", affinet.NothingToTrainWarning)
        affinet.project(net, optimizer, rules(affinet.weights(net))).watch()
    x = torch.randn(8, 3, dtype=torch.float64)

    def once() -> None:
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()

    return once


def test_decay_of_weights_that_the_rules_fix_is_told_with_the_rules() -> None:
    once = decaying(lambda w: [families.fix(w.weight, value=100.0).named("fixed"), (w.bias.sum() == 3).named("total")])
    for _ in range(CONSECUTIVE - 1):
        once()
    with pytest.warns(
        affinet.StepUndoneWarning, match=r"took back more than 99\.9 % .*up to step 4.*weight_decay=0.*fixed"
    ) as told:
        once()
    said = told[0].message
    assert isinstance(said, affinet.StepUndoneWarning)
    assert 0.99 < said.undone < 1.0
    assert set(said.dearest) == {"fixed", "total"}
    once()  # told once


def test_weights_that_are_all_fixed_are_no_reason_to_warn() -> None:
    once = decaying(lambda w: [families.fix(w.weight, value=1.0), w.bias == [1.0, 2.0]])
    for _ in range(2 * CONSECUTIVE):
        once()


def test_momentum_from_a_training_without_rules_is_told() -> None:
    net = Net()
    optimizer = optim.SGD(net.parameters(), lr=0.01, momentum=0.99)
    for parameter in net.parameters():  # what was loaded
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    optimizer.state[net.first.weight]["momentum_buffer"] += 300.0
    affinet.project(net, optimizer, rules_for(net)).watch()
    for _ in range(CONSECUTIVE - 1):
        step(net, optimizer)
    with pytest.warns(affinet.StepUndoneWarning, match=r"momentum loaded from a training without rules.*Dearest rules"):
        step(net, optimizer)


def moves(*shares: float, length: float = 1.0) -> list[Movement]:
    return [Movement(length, length * share**0.5, length * (1 - share) ** 0.5, 1e-9) for share in shares]


@pytest.mark.parametrize(
    ("told", "seen"),
    [
        (True, moves(*[0.995] * CONSECUTIVE)),
        (False, moves(*[0.995] * (CONSECUTIVE - 1))),
        (False, moves(*[0.995] * (CONSECUTIVE - 1), 0.5, *[0.995] * (CONSECUTIVE - 1))),
        (False, moves(*[0.98] * 20)),
        (False, moves(0.5) + moves(*[1.0] * 20, length=0.05)),  # a training that has converged
        (False, moves(*[1.0] * 20, length=1e-9)),  # rounding
        (False, [Movement(0.0, 1e-17, 1e-17, 1e-9)] * 20),  # a learning rate of zero
        (False, [Movement(float("nan"), float("nan"), float("nan"), float("nan"))] * 20),
    ],
)
def test_undone_steps_are_long_enough_and_in_a_row(told: bool, seen: list[Movement]) -> None:
    undoing = Undoing()
    found = [undoing.sees(movement) for movement in seen]
    assert any(found) is told


# Multipliers that diverge


def test_multipliers_of_a_loss_that_diverges_are_told_with_the_rule() -> None:
    net, optimizer, _, _ = watched(optim.SGD, lr=1e-4)

    def diverging(steps: int) -> None:
        optimizer.param_groups[0]["lr"] = 0.0
        for number in range(steps):
            net.zero_grad()
            (net() * 1.5**number).backward()
            optimizer.step()

    for _ in range(KNOWN + 2):
        step(net, optimizer)
    with pytest.warns(affinet.MultipliersDivergeWarning, match=r"multipliers of \".*\" diverge: their norm is") as told:
        diverging(60)
    assert len(told) == 1
    said = told[0].message
    assert isinstance(said, affinet.MultipliersDivergeWarning)
    assert said.size > 1e3 * said.usual > 0.0


CALM = [1.0, 1.5, 0.7, 2.0] * (KNOWN // 2)


@pytest.mark.parametrize(
    ("told", "seen"),
    [
        (True, [*CALM, *[5e3] * LASTING]),
        (True, [*CALM, *[5e3 * 2.0**k for k in range(LASTING)]]),
        (True, [2.0**k for k in range(60)]),
        (True, [*CALM, float("inf")]),
        (False, [*CALM, *[5e3] * (LASTING - 1), *CALM, *[5e3] * (LASTING - 1)]),  # single bad batches
        (False, [5e3] * (KNOWN - 1)),
        (False, [*([0.0] * 20), *CALM]),  # a layer that gets no gradient at first
        (False, [1e-6 * (k + 1) ** 2 for k in range(3000)]),  # a warm-up from nothing
        (False, [*CALM, *[1e-9] * 200, *CALM]),  # an optimum, and then other data
        (False, [*CALM, *[500.0] * 20]),
    ],
)
def test_multipliers_diverge_where_they_grow_far_and_stay_there(told: bool, seen: list[float]) -> None:
    growth = Growth()
    found = [growth.sees({"rule": size, "other": 1.0}) for size in seen]
    assert any(grown is not None for grown in found) is told
    assert all(grown.rule == "rule" for grown in found if grown is not None)


def test_multipliers_that_are_rounding_beside_others_do_not_diverge() -> None:
    growth = Growth()
    assert all(growth.sees({"rule": 1e-15, "other": 1.0}) is None for _ in range(20))
    assert all(growth.sees({"rule": 1e-5, "other": 1.0}) is None for _ in range(20))


# Numbers that are not finite


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_are_told_once_with_their_weights(bad: float) -> None:
    net, optimizer, _, watch = watched(optim.SGD)
    step(net, optimizer)
    backward(net)
    assert net.first.bias.grad is not None
    net.first.bias.grad[1] = bad
    with pytest.warns(
        affinet.NotFiniteWarning, match=r"the gradients of first\.bias and .* step 1\..*check_finite"
    ) as told:
        optimizer.step()
    assert len(told) == 1
    said = told[0].message
    assert isinstance(said, affinet.NotFiniteWarning)
    assert said.gradients == ("first.bias",)
    assert "first.bias" in said.weights
    step(net, optimizer)  # told once
    assert watch.history[1].numbers().keys() == watch.history[0].numbers().keys()


def test_weights_that_are_not_finite_are_told_where_gradients_are() -> None:
    net, optimizer, _, _ = watched(optim.SGD)
    backward(net)
    net.second.weight.data[0, 0] = float("nan")
    with pytest.warns(affinet.NotFiniteWarning, match=r"^first\.bias, second\.weight hold .* not finite") as told:
        optimizer.step()
    said = told[0].message
    assert isinstance(said, affinet.NotFiniteWarning)
    assert said.gradients == ()


def test_squares_that_overflow_are_no_reason_to_warn() -> None:
    """The step is longer than float32 can say, and each of its entries is a number."""
    net, optimizer, _, watch = watched(optim.SGD, torch.float32, lr=1.0)
    backward(net)
    assert net.second.bias.grad is not None
    net.second.bias.grad[2:] = 3e38  # of entries in no rule
    optimizer.step()
    assert watch.history[0].step_length == float("inf")
    assert bool(net.second.bias.isfinite().all())


def test_warnings_of_a_watch_have_one_family() -> None:
    kinds = (
        affinet.WeightsWrittenWarning,
        affinet.StepUndoneWarning,
        affinet.MultipliersDivergeWarning,
        affinet.NotFiniteWarning,
    )
    assert all(issubclass(kind, affinet.WatchWarning) for kind in kinds)
    net, optimizer, _, _ = watched()
    loaded(net)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", affinet.WatchWarning)
        step(net, optimizer)


def test_warnings_say_who_and_stay_on_one_line() -> None:
    rules = [("rows\n sum \x1b[2J", 0.5)]
    unseen = str(affinet.WeightsWrittenWarning(3, ["lin.weight"], False, rules))
    assert r'began), and lin.weight is off the rules: "rows sum \x1b[2J" by 0.5. This step' in unseen
    seen = str(affinet.WeightsWrittenWarning(3, ["a", "b"], True, rules))
    assert 'before step 3 a, b were written to, and the weights are off the rules: "rows sum' in seen
    both = str(affinet.NotFiniteWarning(0, ["lin.weight"], ["lin.weight"]))
    assert both.startswith("the gradients of lin.weight and the weights lin.weight hold numbers")
    told = [unseen, seen, both, str(affinet.MultipliersDivergeWarning(1, "rows\nsum", 2.0, 1.0))]
    assert not any("\n" in one for one in told)


def test_one_of_a_thing_is_said_in_the_singular() -> None:
    net = torch.nn.Linear(2, 1)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    handle = affinet.project(net, optimizer, affinet.weights(net).weight.sum() == 1)
    assert "1 equation, 1 free" in repr(handle)
    assert repr(handle.watch()).endswith("every step, 0 is next>")
    assert repr(handle.watch(every=2)).endswith("every 2 steps, 0 is next>")
    assert repr(affinet.plan(affinet.weights({"a": (1,)}).a == 1)).startswith("<Plan: 1 equation, rank 1, 1 entry,")
    with pytest.raises(affinet.ShapeError, match="has 1 index, but"):
        affinet.weights({"a": ()}).a[0]
