"""Jobs with `framework = "jax"` or `"keras"` beside the same jobs with torch, one process per framework and backend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest

from tests.integrations import framework_jobs as trained

HERE = Path(__file__).parents[2]
SHAPES = {
    "hidden1.weight": (4, 2),
    "hidden1.bias": (4,),
    "hidden2.weight": (3, 4),
    "hidden2.bias": (3,),
    "output.weight": (1, 3),
    "output.bias": (1,),
}

FRAMEWORKS = ["jax", "keras-jax", "keras-tensorflow", "keras-torch"]
each_framework = pytest.mark.parametrize("framework", FRAMEWORKS)


@dataclass(frozen=True)
class Trained:
    """The folder of the runs of a framework, and what its two processes printed."""

    folder: Path
    whole: dict[str, Any]
    resumed: dict[str, Any]
    activations: dict[str, list[float]]
    torch: bool


@cache
def runs(framework: str) -> Trained:
    """All jobs, trained in a framework."""
    name, _, backend = framework.partition("-")
    tensorflow = os.environ.get("TENSORFLOW_PYTHON", sys.executable)
    python = tensorflow if backend == "tensorflow" else sys.executable
    settings = {**os.environ, "PYTHONPATH": f"{HERE / 'src'}{os.pathsep}{HERE}", "KERAS_BACKEND": backend}
    needed = subprocess.run(
        [python, "-c", f"import {backend or name}, {name}, typer"], capture_output=True, check=False, env=settings
    )
    if needed.returncode and (backend != "tensorflow" or "TENSORFLOW_PYTHON" not in os.environ):
        pytest.skip(f"{framework} is not installed: `make integrations` brings it")
    assert not needed.returncode, needed.stderr
    folder, printed = Path(mkdtemp()), []
    for part in ("whole", "resume"):
        run = subprocess.run(
            [python, "-m", "tests.integrations.framework_jobs", name, str(folder), part],
            capture_output=True,
            text=True,
            check=False,
            cwd=HERE,
            env=settings,
        )
        assert not run.returncode, run.stderr
        printed.append(json.loads(run.stdout.splitlines()[-1]))
    whole, resumed = printed
    torch = whole["torch"] or resumed["torch"]
    return Trained(folder, whole["results"], resumed["results"], whole["activations"], torch)


def gap(framework: str, name: str) -> float:
    """The largest difference of a weight after a job from that of torch."""
    ours, theirs = (trained.weights(runs(f).folder, name) for f in (framework, "torch"))
    assert {n: x.shape for n, x in ours.items()} == {n: x.shape for n, x in theirs.items()}
    return max(float(np.abs(ours[n] - theirs[n]).max()) for n in theirs)


@each_framework
def test_twenty_steps_of_each_optimizer_are_those_of_torch(framework: str) -> None:
    for name in trained.OPTIMIZERS:
        assert gap(framework, f"steps of {name}") <= 1e-10, name


@pytest.mark.parametrize("basis", trained.FREE_NUMBERS)
def test_twenty_steps_of_free_numbers_are_those_of_torch(basis: str) -> None:
    """Decay acts on the free numbers, so that its path depends on the basis."""
    assert gap("jax", basis) <= 1e-10
    others = [trained.weights(runs("jax").folder, other) for other in trained.FREE_NUMBERS if other != basis]
    found = trained.weights(runs("jax").folder, basis)["hidden1.weight"]
    assert all(np.abs(found - other["hidden1.weight"]).max() > 1e-3 for other in others)


def test_runs_say_how_many_numbers_are_trained() -> None:
    for basis in trained.FREE_NUMBERS:
        ours, theirs = (
            json.loads((runs(f).folder / f"{basis} whole" / "summary.json").read_text()) for f in ("jax", "torch")
        )
        for key in ("trained_numbers", "numbers", "free_numbers"):
            assert ours["with_rules"][key] == theirs["with_rules"][key]


ALL_OF_IT = "\n".join(f'[[rule]]\nsays = "{name} == 1"' for name in ("output.weight", "output.bias"))


@pytest.mark.parametrize(
    ("changes", "line", "message"),
    [
        (
            {"rules": ALL_OF_IT, "hidden": []},
            "method",
            "the rules fix all 3 numbers of the network, so there is nothing",
        ),
        (
            {"rules": trained.LINEAR, "hidden": []},
            "method",
            'the rules a bound hold inequalities.*Use affinet.optax.project.*In a job file: method = "project".',
        ),
        ({"rules": trained.SETS, "basis": "free"}, "basis", "the rules lengths are nonlinear equations"),
    ],
)
def test_jobs_without_free_numbers_are_refused(
    tmp_path: Path, changes: dict[str, Any], line: str, message: str
) -> None:
    from affinet.cli.jobs.jobfile import read_job
    from affinet.cli.trainings.preparation import prepare
    from affinet.errors import JobError

    trained.write_tables(tmp_path)
    basis = f'\nbasis = "{changes.pop("basis")}"' if "basis" in changes else ""
    text = trained.job("jax", **changes).replace("options = { }", f'method = "reparametrize"{basis}')
    (tmp_path / "job.toml").write_text(trained.text_for("job", text))
    with pytest.raises(JobError, match=f"(?s)line {15 if line == 'method' else 16}: .*{message}"):
        prepare(read_job(tmp_path / "job.toml"))


@each_framework
def test_each_activation_is_that_of_torch(framework: str) -> None:
    ours, theirs = runs(framework).activations, runs("torch").activations
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        # Some functions and a product of numbers up to four, each to a few spacings of float64.
        np.testing.assert_allclose(ours[name], values, rtol=0, atol=1e-14, err_msg=name)


def data() -> tuple[np.ndarray, np.ndarray]:
    """The rows that the linear job trains on: features with a column of ones, and targets."""
    from affinet.cli.jobs.jobfile import read_job
    from affinet.cli.trainings.data import load_data

    job = read_job(runs("torch").folder / "optimum.toml")
    rows = load_data(job.job.data, job.folder, job.job.train.seed)
    return np.column_stack([rows.train_features, np.ones(len(rows.train_features))]), rows.train_targets


@pytest.mark.parametrize("framework", ["torch", *FRAMEWORKS])
def test_a_linear_job_ends_at_the_constrained_optimum(framework: str) -> None:
    x, y = data()
    # The bound is active: w0 + w1 = 0.25 and w1 = 0.2, or the least squares along the sum where that is larger.
    line, at = np.array([1.0, -1.0, 0.0]), np.array([0.125, 0.125, 0.0])
    basis = np.column_stack([line, [0.0, 0.0, 1.0]])
    best = at + basis @ np.linalg.lstsq(x @ basis, y - x @ at, rcond=None)[0]
    if best[1] < 0.2:
        best = np.array([0.05, 0.2, np.mean(y - x[:, :2] @ [0.05, 0.2])])
    found = trained.weights(runs(framework).folder, "optimum")
    # The loss is quadratic, and each of 50 steps removes a share of the distance: what is left is rounding.
    np.testing.assert_allclose(np.append(found["output.weight"][0], found["output.bias"]), best, rtol=0, atol=1e-10)


@each_framework
def test_rules_hold_and_plans_and_names_are_those_of_torch(framework: str) -> None:
    for name, result in runs(framework).whole.items():
        assert (result["verified"], result["checked"]) == (0, 0), name
        plans = [runs(f).folder / f"{name} whole" / "plan.safetensors" for f in (framework, "torch")]
        assert plans[0].read_bytes() == plans[1].read_bytes(), name
    assert {n: x.shape for n, x in trained.weights(runs(framework).folder, "float32").items()} == SHAPES


@each_framework
def test_text_becomes_the_same_features_in_each_framework(framework: str) -> None:
    ours, theirs = (runs(f).folder / "classes whole" / "scaling.json" for f in (framework, "torch"))
    assert ours.read_bytes() == theirs.read_bytes()
    features = json.loads(ours.read_bytes())["features"]
    assert features == ["first", "second", "colour=blue", "colour=green", "colour=red"]
    weight = trained.weights(runs(framework).folder, "classes")["hidden1.weight"]
    assert weight.shape == (4, 5)
    assert weight[:, 2].min() >= 0


@each_framework
def test_a_stopped_run_goes_on_to_the_bits_of_a_run_in_one_go(framework: str) -> None:
    names = trained.stopped_jobs(framework.partition("-")[0])
    assert {name: runs(framework).whole[name]["stopped"] for name in names} == dict.fromkeys(names, 130)
    assert runs(framework).resumed == dict.fromkeys(names, True)


@each_framework
def test_torch_is_imported_where_it_is_needed_alone(framework: str) -> None:
    assert runs(framework).torch == framework.endswith("torch")


@each_framework
def test_losses_and_scores_are_those_of_torch(framework: str) -> None:
    ours, theirs = (
        (runs(f).folder / "steps of Adam whole" / "metrics.csv").read_text().splitlines() for f in (framework, "torch")
    )
    assert ours[0] == theirs[0] == "epoch,loss,R2,largest_violation,stationarity"
    for line, other in zip(ours[1:], theirs[1:], strict=True):
        numbers, others = (np.array([float(cell) for cell in text.split(",")]) for text in (line, other))
        # Losses below four, which Keras averages in float32 on some backends.
        np.testing.assert_allclose(numbers[:3], others[:3], rtol=0, atol=1e-9 if framework == "jax" else 2.0**-20)
        # Stationarity follows from weights alone, whose gradients are as smooth as the loss.
        np.testing.assert_allclose(numbers[4], others[4], rtol=0, atol=1e-8)


@each_framework
def test_prices_of_rules_are_those_of_torch(framework: str) -> None:
    """In float64 weights differ by roundings of some hundred steps, and prices are as smooth as the gradient."""
    for name in ("steps of Adam", "optimum"):
        ours, theirs = (
            json.loads((runs(f).folder / f"{name} whole" / "summary.json").read_text())["prices"]["dearest"]
            for f in (framework, "torch")
        )
        assert len(ours) == len(theirs) == 2
        assert [price["rule"] for price in ours] == [price["rule"] for price in theirs]
        for price, truth in zip(ours, theirs, strict=True):
            assert price["change"] == pytest.approx(truth["change"], rel=1e-8)
