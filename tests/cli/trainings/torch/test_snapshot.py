from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import affinet
from affinet import families
from affinet.cli.trainings.snapshot import Packed
from affinet.cli.trainings.torch.keeping import Learner, RuledLearner
from affinet.cli.trainings.torch.tensor_snapshot import put_back, put_back_ruled, take, take_ruled, tensors_of
from affinet.errors import RunError
from affinet.report.cost import Trainable
from affinet.system.malformed import Malformed


class Odd(torch.nn.Module):
    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((width,), -0.0))
        self.frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_buffer("hidden", torch.zeros(2), persistent=False)
        self.register_buffer("late", None)
        self.register_buffer("growing", torch.zeros(0))


def learner(width: int = 2) -> Learner:
    network = Odd(width)
    return Learner(network, torch.optim.SGD(network.parameters(), lr=0.1), width)


def moved(one: Learner, other: Learner) -> None:
    put_back(take(one, torch.Generator()), other, torch.Generator())


def test_parameters_and_buffers_come_back_whatever_state_dict_says_of_them() -> None:
    one, other = learner(), learner()
    one.network.hidden.fill_(3)
    one.network.late = torch.ones(1)
    one.network.growing = torch.ones(5)
    with torch.no_grad():
        other.network.weight.zero_()
    moved(one, other)
    assert list(tensors_of(other.network)) == ["weight", "frozen", "hidden", "late", "growing"]
    for name, tensor in tensors_of(one.network).items():
        assert torch.equal(tensors_of(other.network)[name], tensor), name
    assert torch.signbit(other.network.weight).all()
    assert "late" in other.network.state_dict()
    assert "hidden" not in other.network.state_dict()


def test_what_is_the_same_is_not_written_to() -> None:
    one, other = learner(), learner()
    version = other.network.frozen._version
    moved(one, other)
    assert other.network.frozen._version == version


def test_the_network_keeps_its_parameter_objects() -> None:
    one, other = learner(), learner()
    with torch.no_grad():
        one.network.weight.fill_(2)
    held = other.network.weight
    moved(one, other)
    assert other.network.weight is held
    assert held.tolist() == [2, 2]


def test_another_network_is_refused() -> None:
    with pytest.raises(
        RunError, match=r"not the one that the run was started with: weight differs in name, shape or dtype"
    ):
        moved(learner(2), learner(3))
    without = learner()
    del without.network.hidden
    del without.network.frozen
    for one, other in ((learner(), without), (without, learner())):
        with pytest.raises(RunError, match=r": frozen, hidden differ in name, shape or dtype. Restore its factory"):
            moved(one, other)


def ruled(*, steps: int = 0) -> RuledLearner:
    """A network whose two weights are on a simplex, after so many steps."""
    one = learner()
    weight = one.network.weight
    handle = affinet.project(one.network, one.optimizer, [families.simplex(affinet.weights(one.network).weight)])
    for _ in range(steps):
        weight.grad = torch.tensor([1.0, -3.0])
        one.optimizer.step()
    return RuledLearner(one, handle, Trainable(2, 2), 1, ("weight",), in_rules=True)


def test_what_was_learned_of_inequalities_comes_back() -> None:
    one, other = ruled(steps=5), ruled()
    assert other.handle.state_dict()["inequalities"] == [None]
    put_back_ruled(take_ruled(one, torch.Generator()), other, torch.Generator())
    (mine,), (theirs,) = (each.handle.state_dict()["inequalities"] for each in (one, other))
    assert torch.equal(mine["y"], theirs["y"])
    assert mine["y"].any()
    assert all(torch.equal(first, second) for first, second in zip(mine["face"], theirs["face"], strict=True))


def test_a_checkpoint_without_what_was_learned_is_read() -> None:
    one, other = ruled(steps=5), ruled()
    put_back_ruled(take(one.learner, torch.Generator()), other, torch.Generator())
    assert torch.equal(one.learner.network.weight, other.learner.network.weight)
    assert other.handle.state_dict()["inequalities"] == [None]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "what was learned is a table of 0, not a list"),
        ([1], "a block is 1, not a table"),
        ([{"y": {"tensor": 0}}], "a block lacks 'face'"),
        ([None, None], "another number of blocks"),
        ([{"y": 1, "face": []}], "its tensors have other shapes"),
        ([{"y": {"tensor": 9}, "face": []}], "a tensor is 9, not between"),
    ],
)
def test_forged_multipliers_are_refused(content: object, reason: str) -> None:
    snapshot = replace(take_ruled(ruled(), torch.Generator()), learned=Packed(content, [torch.zeros(1)]))
    with pytest.raises(Malformed, match=reason):
        put_back_ruled(snapshot, ruled(), torch.Generator())


def approaching(steps: int = 0) -> RuledLearner:
    one = learner()
    weight = one.network.weight
    handle = affinet.lagrange(one.network, one.optimizer, [affinet.weights(one.network).weight.sum() == 1])
    for _ in range(steps):
        weight.grad = torch.tensor([1.0, -3.0])
        one.optimizer.step()
    return RuledLearner(one, handle, Trainable(2, 2), 1, ("weight",), in_rules=True)


def test_multipliers_of_an_augmented_lagrangian_come_back() -> None:
    one, other = approaching(steps=5), approaching()
    put_back_ruled(take_ruled(one, torch.Generator()), other, torch.Generator())
    (mine,), (theirs,) = (each.handle.multipliers().values() for each in (one, other))
    assert torch.equal(mine, theirs)
    assert mine.any()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"steps": "many"}, "their number is another"),
        ({"multipliers": None}, "their number is another"),
        ({"penalty": "large"}, "its penalty or the learning rates"),
        ({"largest_rates": [0.1, 0.2]}, "its penalty or the learning rates"),
        ({"multipliers": {"tensor": 9}}, "a tensor is 9, not between"),
        ({"other": 1}, "other"),
    ],
)
def test_forged_multipliers_of_an_augmented_lagrangian_are_refused(changes: dict[str, object], reason: str) -> None:
    snapshot = take_ruled(approaching(steps=2), torch.Generator())
    assert snapshot.learned is not None
    forged = Packed({**snapshot.learned.content, **changes}, snapshot.learned.tensors)
    with pytest.raises(Malformed, match=reason):
        put_back_ruled(replace(snapshot, learned=forged), approaching(), torch.Generator())
