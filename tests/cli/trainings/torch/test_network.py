from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from affinet.cli.trainings import perceptron as describing
from affinet.cli.trainings.perceptron import ACTIVATIONS, perceptron_of
from affinet.cli.trainings.torch.network import build_network
from affinet.errors import JobError
from tests.cli.conftest import changed, job_of


def made(folder: Path, model: str) -> nn.Module:
    return build_network(job_of(changed(("hidden = [5]", model)), folder), 3, 2)


def test_layers_are_named_and_sized(tmp_path: Path) -> None:
    network = made(tmp_path, "hidden = [7, 6]")
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters() if "weight" in name}
    assert shapes == {"hidden1.weight": (7, 3), "hidden2.weight": (6, 7), "output.weight": (2, 6)}
    assert [name for name, _ in network.named_children()][1::2] == ["activation1", "activation2"]


def test_no_hidden_layer_is_a_linear_model(tmp_path: Path) -> None:
    assert [name for name, _ in made(tmp_path, "hidden = []").named_parameters()] == ["output.weight", "output.bias"]


@pytest.mark.parametrize("hidden", ["[]", "[7]", "[7, 6, 1]"])
def test_the_shapes_that_a_job_tells_are_those_of_its_network(tmp_path: Path, hidden: str) -> None:
    network = made(tmp_path, f"hidden = {hidden}")
    told = perceptron_of(job_of(changed(("hidden = [5]", f"hidden = {hidden}")), tmp_path), 3, 2)
    assert list(told.shapes.items()) == [(name, tuple(weight.shape)) for name, weight in network.named_parameters()]
    assert told.numbers == sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_each_activation_is_taken_by_name(tmp_path: Path, name: str) -> None:
    network = made(tmp_path, f'hidden = [5]\nactivation = "{name}"')
    assert type(network.get_submodule("activation1")) is getattr(nn, ACTIVATIONS[name])
    assert torch.isfinite(network(torch.zeros(1, 3))).all()


def test_an_unknown_activation_lists_the_known_ones(tmp_path: Path) -> None:
    message = r"line 8: there is no activation 'rellu'. Did you mean 'relu' or 'elu'\? There are: relu, leaky_relu"
    with pytest.raises(JobError, match=message):
        made(tmp_path, 'hidden = [5]\nactivation = "rellu"')


def test_a_network_that_is_too_large_is_an_error_of_the_job(tmp_path: Path) -> None:
    for hidden in ("1_000_000_000_000", "100_000, 100_000"):
        with pytest.raises(JobError, match=r"line 7: a network of sizes \(3, 100.*, 2\) has .* numbers, and at most"):
            made(tmp_path, f"hidden = [{hidden}]")


def test_a_network_that_memory_does_not_hold_is_an_error_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(describing, "MOST_NUMBERS", 2**80)
    told = r"line 7: a network of sizes \(3, 1000000000000, 2\) cannot be made: .*\. Make it smaller\."
    with pytest.raises(JobError, match=told):
        made(tmp_path, "hidden = [1_000_000_000_000]")


FACTORIES = """
import torch
class Made:
    @staticmethod
    def here(inputs, outputs):
        return torch.nn.Linear(inputs, outputs)
def good(inputs, outputs):
    return torch.nn.Linear(inputs, outputs)
def raising(inputs, outputs):
    raise KeyError("no such thing")
def nothing(inputs, outputs):
    pass
def empty(inputs, outputs):
    return torch.nn.ReLU()
def frozen(inputs, outputs):
    return torch.nn.Linear(inputs, outputs).requires_grad_(False)
number = 3
"""


@pytest.fixture
def factories(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The name of a module, new for every test, that lies in the job's folder."""
    name = "factories_" + re.sub(r"\W", "_", request.node.name)
    (tmp_path / f"{name}.py").write_text(FACTORIES)
    return name


def test_a_factory_in_the_job_folder_makes_the_network(tmp_path: Path, factories: str) -> None:
    before = list(sys.path)
    assert isinstance(made(tmp_path, f'factory = "{factories}:good"'), nn.Linear)
    assert isinstance(made(tmp_path, f'factory = "{factories}:Made.here"'), nn.Linear)
    assert sys.path == before


def test_a_factory_in_the_current_folder_is_found(
    tmp_path: Path, factories: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    assert isinstance(made(tmp_path / "elsewhere", f'factory = "{factories}:good"'), nn.Linear)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("god", r"has no 'god'. Did you mean 'good'\?"),
        ("raising", r":raising\(3, 2\) raised KeyError: 'no such thing'"),
        ("nothing", r":nothing\(3, 2\) returned NoneType, and must return a torch.nn.Module"),
        ("empty", "returned a network without parameters to train: it has no parameters, or all are frozen"),
        ("frozen", "returned a network without parameters to train: it has no parameters, or all are frozen"),
        ("number", r":number is int, and must be a function \(inputs, outputs\) -> torch.nn.Module"),
    ],
)
def test_a_factory_that_fails_is_named(tmp_path: Path, factories: str, function: str, message: str) -> None:
    before = list(sys.path)
    with pytest.raises(JobError, match=f"job.toml, line 7: .*{message}"):
        made(tmp_path, f'factory = "{factories}:{function}"')
    assert sys.path == before


def test_a_module_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"the module 'nowhere_at_all' cannot be imported \(ModuleNotFoundError: No mod"):
        made(tmp_path, 'factory = "nowhere_at_all:f"')
    (tmp_path / "broken_here.py").write_text("1 / 0\n")
    with pytest.raises(JobError, match=r"'broken_here' cannot be imported \(ZeroDivisionError: division by zero\)"):
        made(tmp_path, 'factory = "broken_here:f"')
