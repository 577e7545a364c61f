from __future__ import annotations

import pytest
import torch

from affinet.cli.runs.snapshot import put_back, take, tensors_of
from affinet.cli.trainings.keeping import Learner
from affinet.errors import RunError


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
