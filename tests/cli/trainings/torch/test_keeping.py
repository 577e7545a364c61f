"""Jobs that train free numbers instead of all weights."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

import affinet as library
from affinet.cli.runs import running
from affinet.cli.trainings.preparation import prepare
from affinet.cli.trainings.torch.keeping import Learner
from affinet.cli.trainings.torch.torch_training import TorchTraining
from tests.cli.conftest import SMALL, Command, changed, job_of
from tests.limits import limit_every_plan

SUMS = '[[rule]]\nname = "sums"\nsays = "hidden1.weight.sum(dim=1) == 1"\n'
NAMES = ["hidden1.weight", "hidden1.bias", "output.weight", "output.bias"]
each_basis = pytest.mark.parametrize("basis", ["orthonormal", "free", "projection"])


def reparametrized(basis: str = "", *changes: tuple[str, str]) -> str:
    """The small job with six equations on its 32 numbers, trained by its free numbers."""
    method = 'method = "reparametrize"\n' + (f'basis = "{basis}"\n' if basis else "")
    return changed(("batch_size", f"{method}batch_size"), *changes) + SUMS


def write(folder: Path, text: str) -> Path:
    (folder / "job.toml").write_text(text)
    return folder / "job.toml"


@each_basis
def test_a_run_of_free_numbers_saves_plain_weights_that_obey_the_rules(
    affinet: Command, folder: Path, basis: str
) -> None:
    result = affinet("train", write(folder, reparametrized(basis)), "--out", "run")
    assert result.exit_code == 0, result.output
    state = load_file(folder / "run" / "model.safetensors")
    assert sorted(state) == sorted(NAMES)
    assert state["hidden1.weight"].shape == (5, 3)
    assert state["hidden1.weight"][0, 1] == pytest.approx(float(state["hidden1.weight"][2, 0]), abs=1e-6)
    np.testing.assert_allclose(state["hidden1.weight"].sum(dim=1), 1, atol=1e-6)
    metrics = pl.read_csv(folder / "run" / "metrics.csv")
    assert metrics["epoch"].to_list() == [1, 2, 3]
    assert metrics["largest_violation"].max() <= 1e-6  # type: ignore[operator]
    trained = "all 32 numbers, of which 26 are free" if basis == "projection" else "26 of 32 numbers"
    assert f"With rules, trained {trained}." in result.stdout
    assert affinet("verify", "run/model.safetensors", "run/plan.safetensors").exit_code == 0


def test_a_projected_run_says_how_many_numbers_it_trained(affinet: Command, folder: Path) -> None:
    result = affinet("train", write(folder, SMALL + SUMS), "--out", "run")
    assert "With rules, trained all 32 numbers, of which 26 are free." in result.stdout


def test_the_basis_is_orthonormal_where_none_is_said_and_sgd_then_goes_the_projected_way(
    affinet: Command, folder: Path
) -> None:
    sgd = ('"Adam"', '"SGD"\noptions = { momentum = 0.9 }')
    states = []
    for number, text in enumerate([reparametrized("", sgd), changed(sgd) + SUMS, reparametrized("free", sgd)]):
        result = affinet("train", write(folder, text), "--out", f"run{number}")
        assert result.exit_code == 0, result.output
        states.append(load_file(folder / f"run{number}" / "model.safetensors"))
    for name in NAMES:
        torch.testing.assert_close(states[0][name], states[1][name], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(states[0]["hidden1.weight"], states[2]["hidden1.weight"], atol=1e-5)


@each_basis
def test_what_is_saved_is_the_baked_network(folder: Path, monkeypatch: pytest.MonkeyPatch, basis: str) -> None:
    prepared = prepare(job_of(reparametrized(basis), folder))
    learners: list[Learner] = []
    real = running._train

    def watched(prepared: object, training: TorchTraining, *others: object) -> object:
        learners.append(training.learner)
        return real(prepared, training, *others)  # type: ignore[arg-type]

    class Silent:
        def say(self, sentence: str) -> None: ...

        def training(self, title: str, epochs: int, steps: int, steps_done: int) -> object:
            return nullcontext(lambda event: None)

    monkeypatch.setattr(running, "_train", watched)
    running.run(prepared, folder / "run", Silent())  # type: ignore[arg-type]
    held = {id(p) for group in learners[0].optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in learners[0].network.parameters()}, "the optimizer was made before the free numbers"
    plain = library.bake(learners[0].network)
    assert list(plain.state_dict()) == NAMES
    saved = load_file(folder / "run" / "model.safetensors")
    for name, tensor in plain.state_dict().items():
        assert torch.equal(saved[name], tensor), name


def test_the_same_seed_gives_the_same_bits(affinet: Command, folder: Path) -> None:
    job = write(folder, reparametrized())
    for name in ("one", "two"):
        assert affinet("train", job, "--out", folder / name).exit_code == 0
    for file in ("model.safetensors", "metrics.csv"):
        assert (folder / "one" / file).read_bytes() == (folder / "two" / file).read_bytes()


def test_no_rules_and_closures_are_jobs_too(affinet: Command, folder: Path) -> None:
    text = reparametrized("free", ('"Adam"', '"LBFGS"'))
    assert affinet("train", write(folder, text[: text.index("[[rule]]")]), "--out", "none").exit_code == 0
    assert sorted(load_file(folder / "none" / "model.safetensors")) == sorted(NAMES)
    result = affinet("train", write(folder, text), "--out", "closure")
    assert result.exit_code == 0, result.output
    assert affinet("verify", "closure/model.safetensors", "closure/plan.safetensors").exit_code == 0


def test_tied_layers_and_running_means_are_saved_under_each_name(affinet: Command, folder: Path) -> None:
    (folder / "tied_and_normed.py").write_text(
        "import torch\n"
        "def make(inputs, outputs):\n"
        "    a, b = torch.nn.Linear(inputs, inputs), torch.nn.Linear(inputs, inputs)\n"
        "    b.weight = a.weight\n"
        "    return torch.nn.Sequential(a, b, torch.nn.BatchNorm1d(inputs), torch.nn.Linear(inputs, outputs))\n"
    )
    text = reparametrized("", ("hidden = [5]", 'factory = "tied_and_normed:make"'))
    text = text[: text.index("[[rule]]")] + '[[rule]]\nmatrix = "A.csv"\nweights = ["0.weight"]\nrhs = 1.0\n'
    (folder / "A.csv").write_text("1,1,1,1,1,1,1,1,1\n")
    result = affinet("train", write(folder, text), "--out", "run")
    assert result.exit_code == 0, result.output
    state = load_file(folder / "run" / "model.safetensors")
    assert sorted(state) == sorted([
        "0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias", "2.running_mean", "2.running_var",
        "2.num_batches_tracked", "3.weight", "3.bias",
    ])  # fmt: skip
    assert (state["0.weight"] == state["1.weight"]).all()
    assert float(state["0.weight"].sum()) == pytest.approx(1.0, abs=1e-6)
    assert int(state["2.num_batches_tracked"]) > 0


def refused(affinet: Command, folder: Path, text: str) -> str:
    result = affinet("train", write(folder, text), "--out", "run")
    assert result.exit_code == 2, result.output
    assert not (folder / "run").exists()
    return " ".join(result.stderr.split())


@pytest.mark.filterwarnings("ignore:nothing is left to train")
def test_rules_that_fix_everything_are_no_training(affinet: Command, folder: Path) -> None:
    fixed = "".join(f'[[rule]]\nsays = "{name} == 1"\n' for name in NAMES)
    text = reparametrized("")
    told = refused(affinet, folder, text[: text.index("[[rule]]")] + fixed)
    assert "job.toml, line 13: the rules fix all 32 numbers of the network, so there is nothing to train." in told


def test_rules_without_a_cheap_basis_name_the_other_method(
    affinet: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_every_plan(monkeypatch, dense_rows=2)
    text = reparametrized("free", ("hidden = [5]", "hidden = [1024]"))
    steps = '[[rule]]\nname = "steps"\nsays = "hidden1.weight.reshape((3072,)).diff().diff() == 0"\n'
    told = refused(affinet, folder, text[: text.index("[[rule]]")] + steps)
    assert 'job.toml, line 14: the rules on hidden1.weight (steps) have no basis="free" that is cheaper' in told
    assert told.endswith('In a job file: method = "project".')


def test_a_network_that_saves_other_names_is_refused(affinet: Command, folder: Path) -> None:
    (folder / "renaming.py").write_text(
        "import torch\n"
        "class Renamed(torch.nn.Linear):\n"
        "    def __init__(self, inputs, outputs):\n"
        "        super().__init__(inputs, outputs)\n"
        "        self.register_state_dict_post_hook(rename)\n"
        "def rename(module, state, prefix, metadata):\n"
        "    if prefix + 'weight' in state:\n"
        "        state[prefix + 'matrix'] = state.pop(prefix + 'weight')\n"
    )
    text = reparametrized("", ("hidden = [5]", 'factory = "renaming:Renamed"'))
    text = text[: text.index("[[rule]]")] + '[[rule]]\nsays = "weight[0, 0] == weight[1, 1]"\n'
    told = refused(affinet, folder, text)
    assert "line 13: the network saves its weights under names that are not those of its attributes" in told
