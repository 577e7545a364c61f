"""Steps that the rules undo, and the family of what a watch warns of."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import optim

import affinet
from affinet import families
from affinet.training.alarms import UNDONE_STEPS, UndoneSteps
from affinet.training.movement import Movement
from tests.training.test_traps import Net, rules_for
from tests.training.watched import step, watched


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
    for _ in range(UNDONE_STEPS - 1):
        once()
    with pytest.warns(
        affinet.StepUndoneWarning, match=r"undid more than 99\.9 % .*up to step 4.*weight_decay=0.*fixed"
    ) as told:
        once()
    said = told[0].message
    assert isinstance(said, affinet.StepUndoneWarning)
    assert 0.99 < said.undone < 1.0
    assert set(said.dearest) == {"fixed", "total"}
    once()  # told once


def test_weights_that_are_all_fixed_are_no_reason_to_warn() -> None:
    once = decaying(lambda w: [families.fix(w.weight, value=1.0), w.bias == [1.0, 2.0]])
    for _ in range(2 * UNDONE_STEPS):
        once()


def test_momentum_from_a_training_without_rules_is_told() -> None:
    net = Net()
    optimizer = optim.SGD(net.parameters(), lr=0.01, momentum=0.99)
    for parameter in net.parameters():  # what was loaded
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    optimizer.state[net.first.weight]["momentum_buffer"] += 300.0
    affinet.project(net, optimizer, rules_for(net)).watch()
    for _ in range(UNDONE_STEPS - 1):
        step(net, optimizer)
    with pytest.warns(
        affinet.StepUndoneWarning,
        match=r"momentum that was loaded from a training without rules.*Rules with the largest multipliers",
    ):
        step(net, optimizer)


def moves(*shares: float, length: float = 1.0) -> list[Movement]:
    return [Movement(length, length * share**0.5, length * (1 - share) ** 0.5, 1e-9) for share in shares]


@pytest.mark.parametrize(
    ("told", "seen"),
    [
        (True, moves(*[0.995] * UNDONE_STEPS)),
        (False, moves(*[0.995] * (UNDONE_STEPS - 1))),
        (False, moves(*[0.995] * (UNDONE_STEPS - 1), 0.5, *[0.995] * (UNDONE_STEPS - 1))),
        (False, moves(*[0.98] * 20)),
        (False, moves(0.5) + moves(*[1.0] * 20, length=0.05)),  # a training that has converged
        (False, moves(*[1.0] * 20, length=1e-9)),  # rounding
        (False, [Movement(0.0, 1e-17, 1e-17, 1e-9)] * 20),  # a learning rate of zero
        (False, [Movement(float("nan"), float("nan"), float("nan"), float("nan"))] * 20),
    ],
)
def test_undone_steps_are_long_enough_and_in_a_row(told: bool, seen: list[Movement]) -> None:
    undoing = UndoneSteps()
    found = [undoing.update(movement) for movement in seen]
    assert any(found) is told


def test_warnings_of_a_watch_have_one_family() -> None:
    kinds = (
        affinet.WeightsWrittenWarning,
        affinet.StepUndoneWarning,
        affinet.MultipliersDivergeWarning,
        affinet.NotFiniteWarning,
    )
    assert all(issubclass(kind, affinet.WatchWarning) for kind in kinds)
    net, optimizer, _, _ = watched()
    net.load_state_dict({name: torch.full_like(p, 0.3) for name, p in net.state_dict().items()})
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
