from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file
from sklearn import datasets

import affinet as library
from affinet.cli.screen import Screen
from tests.cli.conftest import SMALL, Command, changed

RULES = '[[rule]]\nname = "sums"\nsays = "hidden1.weight.sum(dim=1) == 1"\n'


def write(folder: Path, text: str, name: str = "job.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_training_writes_a_run_whose_weights_obey_the_rules(affinet: Command, folder: Path) -> None:
    text = SMALL + RULES
    result = affinet("train", write(folder, text, "owls.toml"))
    assert result.exit_code == 0, result.output
    run = folder / "runs" / "owls"
    assert sorted(path.name for path in run.iterdir()) == [
        ".begun.json", ".lock", "checkpoint.safetensors", "job.toml", "metrics.csv", "model.safetensors",
        "plan.safetensors", "plan.txt", "samples.safetensors", "scaling.json", "summary.json",
    ]  # fmt: skip
    assert (run / "job.toml").read_text() == text
    assert "sums" in (run / "plan.txt").read_text()
    metrics = pl.read_csv(run / "metrics.csv")
    assert metrics.columns == ["epoch", "loss", "accuracy", "largest_violation", "stationarity"]
    assert metrics["epoch"].to_list() == [1, 2, 3]
    assert metrics["largest_violation"].max() <= 1e-6  # type: ignore[operator]
    weight = load_file(run / "model.safetensors")["hidden1.weight"]
    assert weight[0, 1] == weight[2, 0]
    np.testing.assert_allclose(weight.sum(dim=1), 1, atol=1e-6)
    stored = json.loads((run / "scaling.json").read_text())
    assert (stored["target"], stored["classes"]) == ("kind", ["cat", "owl"])
    for part in ("Data: 30 rows to train on, 10 to test on; classification, for the target 'kind' is text; 2 classes.",
                 "2 classes. Weights act on features scaled to mean 0 and spread 1.",
                 "with rules", "without rules", " with them, ", "Everything is in runs/owls."):  # fmt: skip
        assert part in result.stdout


def test_the_same_seed_gives_the_same_bits(affinet: Command, folder: Path) -> None:
    job = write(folder, SMALL + RULES)
    for name in ("one", "two"):
        assert affinet("train", job, "--out", folder / name).exit_code == 0
    for file in ("model.safetensors", "metrics.csv"):
        assert (folder / "one" / file).read_bytes() == (folder / "two" / file).read_bytes()


def test_a_run_is_never_overwritten(affinet: Command, folder: Path) -> None:
    job = write(folder, SMALL)
    assert affinet("train", job).exit_code == 0
    before = (folder / "runs" / "job" / "metrics.csv").read_bytes()
    assert "Everything is in runs/job-2." in affinet("train", job).stdout
    result = affinet("train", job, "--out", "runs/job")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: runs/job already holds a run, which would be overwritten; name another folder with --out, or "
        "resume that run: affinet train --resume runs/job\n"
    )
    assert (folder / "runs" / "job" / "metrics.csv").read_bytes() == before


def test_paths_are_relative_to_the_job_file(affinet: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = write(folder, SMALL)
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert affinet("check", job).exit_code == 0


@pytest.mark.parametrize("optimizer", ['"LBFGS"', '"SGD"\noptions = { momentum = 0.9, nesterov = true }', '"RMSprop"'])
def test_other_optimizers_keep_the_rules_too(affinet: Command, folder: Path, optimizer: str) -> None:
    text = changed(('"Adam"', optimizer), ("epochs = 3", "epochs = 2")) + RULES
    result = affinet("train", write(folder, text), "--out", "run")
    assert result.exit_code == 0, result.output
    assert pl.read_csv(folder / "run" / "metrics.csv")["largest_violation"].max() <= 1e-6  # type: ignore[operator]


def test_regression_from_parquet(affinet: Command, folder: Path) -> None:
    bunch = datasets.load_diabetes()
    frame = pl.DataFrame(bunch.data, schema=bunch.feature_names).with_columns(progress=bunch.target)
    frame.write_parquet(folder / "d.parquet")
    text = changed(('"small.csv"', '"d.parquet"'), ('"kind"', '"progress"'), ("epochs = 3", "epochs = 15"))
    result = affinet("train", write(folder, text), "--out", "run")
    assert result.exit_code == 0, result.output
    assert "regression, for the target 'progress' is decimal numbers" in result.stdout
    assert pl.read_csv(folder / "run" / "metrics.csv")["R2"][-1] > 0.3
    assert "R²" in result.stdout


def test_a_factory_with_tied_weights_trains_and_is_saved_under_each_name(affinet: Command, folder: Path) -> None:
    (folder / "tied_factory.py").write_text(
        "import torch\n"
        "def make(inputs, outputs):\n"
        "    a, b = torch.nn.Linear(inputs, inputs), torch.nn.Linear(inputs, inputs)\n"
        "    b.weight = a.weight\n"
        "    return torch.nn.Sequential(a, b, torch.nn.LazyBatchNorm1d(), torch.nn.LazyLinear(outputs))\n"
    )
    rule = 'says = "hidden1.weight[0, 1] == hidden1.weight[2, 0]"'
    text = changed(("hidden = [5]", 'factory = "tied_factory:make"'))
    first = 'matrix = "A.csv"\nweights = ["0.weight"]'
    (folder / "A.csv").write_text("1,0,0,0,-1,0,0,0,0\n")
    result = affinet("train", write(folder, text.replace(rule, first)), "--out", "run")
    assert result.exit_code == 0, result.output
    state = load_file(folder / "run" / "model.safetensors")
    assert state["0.weight"][0, 0] == state["0.weight"][1, 1]
    assert (state["0.weight"] == state["1.weight"]).all()


def test_no_rules_is_a_job_too(affinet: Command, folder: Path) -> None:
    job = write(folder, SMALL[: SMALL.index("[[rule]]")])
    result = affinet("train", job, "--out", "run")
    assert result.exit_code == 0, result.output
    assert "There are no rules: all weights are free." in result.stdout
    assert "equations" not in result.stdout
    assert "Both trainings below are the same, for the job has no rules yet." in result.stdout
    assert (folder / "run" / "plan.txt").read_text() == "There are no rules: all weights are free.\n"
    check = affinet("check", job)
    assert (check.exit_code, check.stdout) == (0, (
        "There are no rules: all weights are free.\n\n"
        'The network has 32 numbers. A rule is a line below [rules]: name = "rule".\n'
    ))  # fmt: skip


def test_check_tells_rank_and_freedom_and_writes_nothing(affinet: Command, folder: Path) -> None:
    again = '[[rule]]\nname = "again"\nsays = "2 * hidden1.weight[2, 0] == 2 * hidden1.weight[0, 1]"\n'
    result = affinet("check", write(folder, SMALL + RULES + again))
    assert result.exit_code == 0, result.output
    assert "No contradictions: 7 equations, rank 6, redundant 1." in result.stdout
    assert 'the rule "again" follows from "a tie": dropping it changes nothing.' in result.stdout
    assert "1 finding to look at, above." in result.stdout
    assert "Weights act on features scaled to mean 0 and spread 1.\n" in result.stdout
    assert "Of the network's 32 numbers 26 are free." in result.stdout
    assert not (folder / "runs").exists()


def test_check_counts_inequalities_and_says_that_numbers_are_free_within_them(affinet: Command, folder: Path) -> None:
    low = '[[rule]]\nname = "low"\nsays = "hidden1.weight[2, :2] >= 0"\n'
    result = affinet("check", write(folder, SMALL + low))
    assert "No contradictions: 1 equation, 2 inequalities, rank 1, redundant 0." in result.stdout
    assert "Of the network's 32 numbers 31 are free, within the inequalities." in result.stdout


def test_check_of_a_single_equation_counts_in_the_singular(affinet: Command, folder: Path) -> None:
    result = affinet("check", write(folder, SMALL))
    assert "No contradictions: 1 equation, rank 1, redundant 0." in result.stdout
    assert "Nothing else to look at." in result.stdout


def test_check_finds_what_is_suspicious_and_still_ends_well(affinet: Command, folder: Path) -> None:
    rules = (
        '[[rule]]\nname = "row"\nsays = "hidden1.weight[0].sum() == 1"\n'
        '[[rule]]\nname = "part"\nsays = "hidden1.weight[0, 1:].sum() == 1"\n'
        '[[rule]]\nname = "all of it"\nsays = "2 * output.bias + output.bias.sum() == 0"\n'
    )
    result = affinet("check", write(folder, SMALL + rules))
    assert result.exit_code == 0, result.output
    assert "hidden1.weight[0, 0] can only take the value 0" in result.stdout
    assert (
        'nothing is left to train in output.bias: the rule "all of it" determines all of its 2 entries' in result.stdout
    )
    assert "2 findings to look at, above." in result.stdout
    assert not result.stderr


CONTRADICTION = (
    SMALL
    + """
[[rule]]
name = "[b]zero[/b]"
says = "hidden1.weight[0, 1] == 0"
[[rule]]
name = "one"
says = "hidden1.weight[2, 0] == 1"
[[rule]]
name = "free"
says = "output.bias == 0"
"""
)


def test_contradictory_rules_are_named_and_never_train(affinet: Command, folder: Path) -> None:
    job = write(folder, CONTRADICTION)
    check, train = affinet("check", job), affinet("train", job)
    assert (check.exit_code, train.exit_code) == (1, 1)
    for result in (check, train):
        assert result.stderr.startswith("error: these rules cannot hold together:")
        for name in ("a tie", "[b]zero[/b]", "one"):
            assert f'"{name}"' in result.stderr
        assert '"free"' not in result.stderr
    assert not (folder / "runs").exists()


LONG = changed(("batch_size", 'method = "reparametrize"\nbasis = "free"\nbatch_size'), ("[5]", "[50]")) + (
    '[[rule]]\nname = "all"\nsays = "hidden1.weight.sum() == 1"\n'
)


@pytest.mark.filterwarnings("default")
def test_a_warning_is_one_paragraph_on_the_standard_error_and_said_once(affinet: Command, folder: Path) -> None:
    result = affinet("train", write(folder, LONG), "--out", "run")
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith('warning: with basis="free" hidden1.weight[')
    assert "Warning" not in result.stderr
    assert "warning" not in result.stdout
    assert affinet("check", write(folder, LONG)).stderr == result.stderr


def test_every_text_of_a_warning_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    before = warnings.showwarning
    with warnings.catch_warnings(), Screen().warnings():
        warnings.simplefilter("always")
        for text in ("a  b\n c", "[bold]d[/bold]\x1b[2J", "a  b\n c"):
            warnings.warn(text, UserWarning, stacklevel=1)
    assert warnings.showwarning is before
    assert capsys.readouterr().err == "warning: a b c\nwarning: [bold]d[/bold]\\x1b[2J\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = 3", "epocs = 3", "error: job.toml, line 12: [train] has no key 'epocs'. Did you mean 'epochs'?"),
        ("small.csv", "large.csv", "error: there is no data file "),
        ('"kind"', '"knid"', "has no column 'knid'. Did you mean 'kind'?"),
        ("hidden1.weight[0", "hidden2.weight[0", 'error: job.toml, line 17: rule "a tie": '),
        ('"Adam"', '"Madam"', "error: job.toml, line 10: torch.optim has no optimizer 'Madam'. Did you mean 'Adam'"),
        (
            '"Adam"',
            '"LBFGS"\noptions = { line_search_fn = "x" }',
            "line 11: a step of LBFGS fails: only 'strong_wolfe'",
        ),
        ('"Adam"', '"Adam"\noptions = { betas = [0.9] }', "line 11: "),
    ],
)
def test_whatever_is_wrong_is_one_paragraph_and_status_2(
    affinet: Command, folder: Path, old: str, new: str, message: str
) -> None:
    job = write(folder, changed((old, new)))
    for command in ("check", "train"):
        result = affinet(command, job)
        assert result.exit_code == 2, result.output
        assert message in result.stderr
        assert "Traceback" not in result.output
    assert not (folder / "runs").exists()


FACTORIES = """
import torch
class Model(torch.nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.linear = torch.nn.Linear(inputs, outputs)
    def forward(self, x):
        return forward(self, x)
class Stateful(Model):
    def get_extra_state(self):
        return {"a": 1}
    def set_extra_state(self, state):
        pass
forward = lambda self, x: self.linear(x)
def wide(inputs, outputs):
    return torch.nn.Linear(inputs, outputs + 1)
def text(inputs, outputs):
    global forward
    forward = lambda self, x: "no"
    return Model(inputs, outputs)
def raising(inputs, outputs):
    return torch.nn.Linear(inputs + 1, outputs)
def norm(inputs, outputs):
    return torch.nn.Sequential(torch.nn.Linear(inputs, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, outputs))
"""


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("wide", "line 7: the network returns shape (2, 3) for 2 rows; it must return shape (2, 2)."),
        ("text", "line 7: the network returns str for 2 rows; it must return shape (2, 2)."),
        ("raising", "line 7: the network failed on 2 rows with RuntimeError: "),
        (
            "Stateful",
            "line 7: the state of the network holds '_extra_state', which is not a tensor and cannot be saved.",
        ),
        ("norm", "the network failed on 1 row with ValueError: Expected more than 1 value per channel"),
    ],
)
def test_a_network_that_does_not_fit_is_told_before_training(
    affinet: Command, folder: Path, function: str, message: str
) -> None:
    name = f"unfit_{function.lower()}"
    (folder / f"{name}.py").write_text(FACTORIES)
    text = changed(("hidden = [5]", f'factory = "{name}:{function}"'), ("batch_size = 16", "batch_size = 29"))
    result = affinet("check", write(folder, text[: text.index("[[rule]]")]))
    assert result.exit_code == 2, result.output
    assert message in result.stderr


def test_check_without_code_imports_nothing_of_a_job(affinet: Command, folder: Path) -> None:
    (folder / "touching.py").write_text("from pathlib import Path\nPath('touched').touch()\n")
    job = write(folder, changed(("hidden = [5]", 'factory = "touching:net"')))
    result = affinet("check", "--no-code", job)
    assert result.exit_code == 2
    assert "error: job.toml, line 7: the job would import the Python module 'touching' and call its 'net', which" in (
        result.stderr
    )
    assert not (folder / "touched").exists()
    affinet("check", job)
    assert (folder / "touched").exists()
    assert affinet("check", "--no-code", write(folder, SMALL)).exit_code == 0


def test_what_a_terminal_would_obey_is_escaped(affinet: Command, folder: Path) -> None:
    text = changed(('"a tie"', r'"\u001b[2J\u202etie"'))
    result = affinet("check", write(folder, text))
    assert result.exit_code == 0
    assert r"\x1b[2J\u202etie" in result.stdout
    assert "\x1b" not in affinet("check", write(folder, text.replace("[2, 0]", "[2, 9]"))).stderr


def test_a_training_that_diverges_says_what_is_on_disk(affinet: Command, folder: Path) -> None:
    text = changed(("0.01", "1e30"), ('"Adam"', '"SGD"'), ("epochs = 3", "epochs = 9"))
    result = affinet("train", write(folder, text), "--out", "run")
    assert result.exit_code == 2
    assert "error: the training diverged in epoch 1: the loss or the weights are no longer finite." in result.stderr
    assert "No epoch was finished, so run holds the job and the plan, and no weights." in result.stderr


def test_version_and_help(affinet: Command) -> None:
    assert affinet("--version").stdout == f"affinet {library.__version__}\n"
    help_ = affinet("--help")
    assert help_.exit_code == 0
    assert all(command in help_.stdout for command in ("train", "check", "demo"))
    assert affinet("demo", "--epochs", "0").exit_code == 2
