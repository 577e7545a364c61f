"""Runs measure how far their weights are from an optimum, and train to the same bits as without."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import load_file

from affinet import Plan
from affinet.cli.runs.checkpoint import read_checkpoint
from affinet.cli.runs.finished import read_summary
from affinet.cli.trainings.data import load_data
from affinet.cli.trainings.perceptron import perceptron_of
from affinet.cli.trainings.perceptron_gradient import mean_gradient
from affinet.cli.trainings.torch import torch_training
from affinet.cli.trainings.torch.tensor_files import bits
from affinet.kernels.torch import conjugate_gradients
from tests.cli.conftest import Command, changed, job_of
from tests.cli.runs.test_resuming import stopped
from tests.limits import limit_every_plan

CALLS = """\
import random

import numpy as np
import torch

class Calls(torch.nn.Module):
    # A forward that draws random numbers and counts its calls, also in the mode for evaluation.
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("replaced", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        self.replaced = self.replaced + 1
        drawn = random.random() + np.random.rand() + float(torch.rand(()))
        return x * (1 + 0.01 * drawn + 0.001 * self.calls + 0.001 * self.replaced)

def make(inputs, outputs):
    random.seed(0)
    np.random.seed(0)
    network = torch.nn.Sequential()
    network.add_module("hidden1", torch.nn.Linear(inputs, 5))
    network.extend([torch.nn.BatchNorm1d(5), torch.nn.Dropout(0.3), Calls(), torch.nn.Linear(5, outputs)])
    return network
"""
FREE = {
    basis: (("batch_size", f'method = "reparametrize"\nbasis = "{basis}"\nbatch_size'),)
    for basis in ("orthonormal", "free", "projection")
}
MOMENTUM = ('"Adam"', '"SGD"\noptions = { momentum = 0.9, weight_decay = 0.1 }')
LAGRANGE = ("batch_size", 'method = "lagrange"\nbatch_size')
LBFGS = ('"Adam"', '"LBFGS"\noptions = { max_iter = 3, history_size = 4 }')
USER = ("hidden = [5]", 'factory = "calls:make"')
WAYS = {
    "Adam": (),
    "momentum": (MOMENTUM,),
    "LBFGS": (LBFGS,),
    **FREE,
    "free numbers with momentum": (*FREE["orthonormal"], MOMENTUM),
    "augmented Lagrangian": (LAGRANGE,),
    "augmented Lagrangian with LBFGS": (LAGRANGE, LBFGS),
    "network of a user": (USER,),
    "network of a user, free numbers": (USER, *FREE["orthonormal"]),
}
RULES = {
    "sums": "hidden1.weight.sum(dim=1) == 1",
    "simplex": "simplex(hidden1.weight, 1)",
    "polyhedron": "hidden1.weight[:, 0] + hidden1.weight[:, 1] >= 0.5 + hidden1.weight[:, 2].mean()",
    "ball": "l2_ball(hidden1.weight, 0.5, dim=1)",
    "lengths": "unit_norm(hidden1.weight, dim=1)",
}


def measured(path: Path) -> pl.Series:
    return pl.read_csv(path / "metrics.csv", schema_overrides={"stationarity": pl.Float64})["stationarity"]


def trained(affinet: Command, folder: Path, text: str, every: int, name: str) -> Path:
    """The folder of a run of a job with stationarity after so many epochs."""
    job_of(text.replace("epochs = 3", f"epochs = 3\nstationarity_every = {every}"), folder)
    result = affinet("train", "job.toml", "--out", name)
    assert result.exit_code == 0, result.output
    return folder / name


def assert_same_training(one: Path, other: Path) -> None:
    """Weights, metrics, optimizers and random states have the same bits."""
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    ours, theirs = (pl.read_csv(run / "metrics.csv").drop("stationarity") for run in (one, other))
    assert ours.equals(theirs)
    ours, theirs = (read_checkpoint(run / "checkpoint.safetensors").snapshot for run in (one, other))
    assert ours.optimizer.content == theirs.optimizer.content
    assert ours.random.content == theirs.random.content
    for mine, other_one in (
        (list(ours.network.values()), list(theirs.network.values())),
        (ours.optimizer.tensors, theirs.optimizer.tensors),
        (ours.random.tensors, theirs.random.tensors),
    ):
        assert len(mine) == len(other_one)
        assert all(bits(a).equal(bits(b)) for a, b in zip(mine, other_one, strict=True))


def assert_same_bits_with_and_without(affinet: Command, folder: Path, text: str) -> None:
    with_it, without = (trained(affinet, folder, text, every, f"run{every}") for every in (1, 0))
    assert_same_training(with_it, without)
    assert measured(with_it).is_between(0.0, 1.5).all()
    assert measured(with_it).null_count() == 0
    assert measured(without).null_count() == 3


@pytest.mark.parametrize("way", WAYS)
def test_a_training_has_the_same_bits_with_and_without_it(affinet: Command, folder: Path, way: str) -> None:
    (folder / "calls.py").write_text(CALLS)
    assert_same_bits_with_and_without(affinet, folder, changed(*WAYS[way]))


@pytest.mark.parametrize("rule", RULES)
def test_what_solvers_and_prices_keep_has_the_same_bits(affinet: Command, folder: Path, rule: str) -> None:
    text = changed(("0.01", "0.3"))
    text = text[: text.index("[[rule]]")] + f'[[rule]]\nname = "learned"\nsays = "{RULES[rule]}"\n'
    assert_same_bits_with_and_without(affinet, folder, text)


def test_conjugate_gradients_begin_where_they_began(
    affinet: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_every_plan(monkeypatch, dense_rows=2, largest_fill=0)
    monkeypatch.setattr(conjugate_gradients, "MARGIN", 2.0**12)  # solutions then differ by where they were begun
    random = np.random.default_rng(0)
    matrix = random.normal(size=(24, 60)) * (random.random((24, 60)) < 0.1)
    np.savetxt(folder / "A.csv", matrix, delimiter=",")
    text = changed(("[5]", "[20]"))
    rule = '[[rule]]\nmatrix = "A.csv"\nweights = ["hidden1.weight"]\n'
    assert_same_bits_with_and_without(affinet, folder, text[: text.index("[[rule]]")] + rule)


@pytest.mark.parametrize("method", ["project", "reparametrize"])
def test_it_is_that_of_the_gradient_over_all_rows(affinet: Command, folder: Path, method: str) -> None:
    """NumPy computes the last one from the weights, to the rounding of float64."""
    text = changed(("[5]", '[5]\ndtype = "float64"'), ("batch_size", f'method = "{method}"\nbatch_size'))
    run = trained(affinet, folder, text, 2, "run")
    job = job_of((folder / "job.toml").read_text(), folder)
    data, weights = load_data(job.job.data, folder, job.job.train.seed), load_file(run / "model.safetensors")
    gradients = mean_gradient(
        perceptron_of(job, data.inputs, data.outputs), data.task, weights, data.train_features, data.train_targets
    )
    g, at = gradients["hidden1.weight"], Plan.load(run / "plan.safetensors")
    normal = np.zeros_like(g)
    normal[0, 1], normal[2, 0] = np.sqrt(0.5), -np.sqrt(0.5)
    assert [rule.name for rule in at.system.every] == ["a tie"]
    truth = np.linalg.norm(g - (g * normal).sum() * normal) / np.linalg.norm(g)
    # Each gradient is a sum over 30 rows of products through two layers, each rounded to float64.
    assert measured(run)[-1] == pytest.approx(truth, rel=1e-12)
    summary = read_summary(run)
    assert summary is not None
    assert summary.prices is not None
    assert summary.prices.stationarity == pytest.approx(truth, rel=1e-12)


def test_coupled_decay_is_a_part_of_the_gradient(affinet: Command, folder: Path) -> None:
    plain = ('"Adam"', '"SGD"')
    decayed = ('"Adam"', '"SGD"\noptions = { weight_decay = 100.0 }')
    still = ("0.01", "1e-12")
    without, with_it = (
        trained(affinet, folder, changed(optimizer, still), 1, name)
        for optimizer, name in ((plain, "plain"), (decayed, "decayed"))
    )
    weight = load_file(with_it / "model.safetensors")["hidden1.weight"].astype(np.float64)
    # A hundred times the weights hides the gradient, and weights on the tie lose nothing to the projection.
    assert weight[0, 1] == weight[2, 0]
    assert measured(with_it)[-1] == pytest.approx(1.0, abs=1e-3)
    assert measured(with_it)[-1] > measured(without)[-1]


def test_an_augmented_lagrangian_reports_that_of_all_rows(affinet: Command, folder: Path) -> None:
    run = trained(affinet, folder, changed(LAGRANGE), 1, "run")
    summary = read_summary(run)
    assert summary is not None
    assert summary.prices is not None
    # Float32, with one thread after the training or several.
    assert summary.prices.stationarity == pytest.approx(measured(run)[-1], rel=1e-4)


@pytest.mark.filterwarnings("default::affinet.errors.NothingTrainedWarning")
def test_it_is_empty_where_no_rule_is_about_a_trained_weight(affinet: Command, folder: Path) -> None:
    text = changed()
    assert measured(trained(affinet, folder, text[: text.index("[[rule]]")], 1, "no_rules")).null_count() == 3
    (folder / "frozen.py").write_text(
        "import torch\n"
        "def make(inputs, outputs):\n"
        "    network = torch.nn.Sequential()\n"
        "    network.add_module('hidden1', torch.nn.Linear(inputs, 5).requires_grad_(False))\n"
        "    network[0].weight[2, 0] = network[0].weight[0, 1]\n"
        "    network.append(torch.nn.Linear(5, outputs))\n"
        "    return network\n"
    )
    frozen = trained(affinet, folder, changed(("hidden = [5]", 'factory = "frozen:make"')), 1, "frozen")
    assert measured(frozen).null_count() == 3


def test_a_network_without_a_gradient_for_evaluation_trains_on(
    affinet: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As recurrent layers on graphics cards, whose backward is for training alone."""
    (folder / "training_alone.py").write_text(
        "import torch\n"
        "class Backward(torch.autograd.Function):\n"
        "    @staticmethod\n"
        "    def forward(ctx, x, training):\n"
        "        ctx.training = training\n"
        "        return x.clone()\n"
        "    @staticmethod\n"
        "    def backward(ctx, g):\n"
        "        if not ctx.training:\n"
        "            raise RuntimeError('backward can only be called in training mode')\n"
        "        return g, None\n"
        "class Network(torch.nn.Sequential):\n"
        "    def forward(self, x):\n"
        "        return Backward.apply(super().forward(x), self.training)\n"
        "def make(inputs, outputs):\n"
        "    network = Network()\n"
        "    network.add_module('hidden1', torch.nn.Linear(inputs, 5))\n"
        "    network.append(torch.nn.Linear(5, outputs))\n"
        "    return network\n"
    )
    job_of(changed(("hidden = [5]", 'factory = "training_alone:make"')), folder)
    result = affinet("train", "job.toml", "--out", "run")
    assert result.exit_code == 0, result.output
    shown = " ".join(result.output.split())
    fact = "the gradient of the network for 30 rows fails in its mode for evaluation: backward can only be called"
    assert shown.count(f"Stationarity cannot be measured: {fact}") == 1
    assert measured(folder / "run").null_count() == 3
    assert json.loads((folder / "run" / "summary.json").read_text())["no_prices"].startswith("Prices of rules are not")


def test_a_gradient_that_is_not_finite_has_none(
    affinet: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def infinite(network: torch.nn.Module, *arguments: object) -> None:
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, float("inf"))

    monkeypatch.setattr(torch_training, "add_mean_gradient", infinite)
    assert measured(trained(affinet, folder, changed(), 1, "run")).null_count() == 3


def test_a_run_of_an_earlier_version_goes_on_without(affinet: Command, folder: Path) -> None:
    without = trained(affinet, folder, changed(), 0, "whole")
    old = "\n".join(line.rpartition(",")[0] for line in (without / "metrics.csv").read_text().splitlines()) + "\n"
    stopped(affinet, folder / "job.toml")
    run = folder / "run"
    made_old(run)
    resumed = affinet("train", "--resume", "run")
    assert resumed.exit_code == 0, resumed.output
    assert (run / "metrics.csv").read_text() == old
    assert (run / "model.safetensors").read_bytes() == (without / "model.safetensors").read_bytes()
    (run / "metrics.csv").write_text(old[:-3])
    assert affinet("train", "--resume", "run").exit_code == 0
    assert (run / "metrics.csv").read_text() == old
    assert affinet("report", "run").exit_code == 0
    assert "Stationarity" not in (run / "report.html").read_text()


def made_old(run: Path) -> None:
    """Turn a run into one that an earlier version began."""
    record = json.loads((run / ".begun.json").read_text())
    del record["stationarity"]
    (run / ".begun.json").write_text(json.dumps(record))
    lines = (run / "metrics.csv").read_text().splitlines()
    (run / "metrics.csv").write_text("".join(line.rpartition(",")[0] + "\n" for line in lines))
