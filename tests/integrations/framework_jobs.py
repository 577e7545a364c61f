"""Train jobs in one framework, in a process of its own, and print what came of it as JSON.

Run as `python -m tests.integrations.framework_jobs FRAMEWORK FOLDER whole`, which trains each job in one go, and again
with Ctrl-C in its third epoch, and then as `… FOLDER resume`, which goes on with the stopped runs. KERAS_BACKEND
chooses the backend of Keras.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from safetensors.numpy import load_file
from typer.testing import CliRunner, Result

from affinet.cli.commands import commands
from affinet.cli.jobs.jobfile import parse_job
from affinet.cli.runs import running
from affinet.cli.trainings import perceptron
from affinet.cli.trainings.frameworks import framework_of
from affinet.cli.trainings.training import Epoch, Step

ROWS = 24
JOB = """\
[data]
source = "table.csv"
target = "{target}"
test_fraction = 0.25

[model]
hidden = {hidden}
activation = "{activation}"
framework = "{framework}"
dtype = "{dtype}"

[train]
optimizer = "{optimizer}"
learning_rate = {rate}
options = {options}
epochs = {epochs}
batch_size = {batch}
seed = 5

{rules}
"""
EQUATIONS = """\
[[rule]]
name = "sums"
says = "hidden1.weight.sum(dim=1) == 1"

[[rule]]
name = "a tie"
says = "output.weight[0, 1] == hidden1.bias[2]"
"""
NAMED = f"""\
{EQUATIONS}
[[rule]]
name = "blue adds"
says = "hidden1.weight[:, 'colour=blue'] >= 0"
"""
SETS = """\
[[rule]]
name = "signs"
says = "hidden1.weight >= 0"

[[rule]]
name = "lengths"
says = "unit_norm(output.weight, dim=1)"
"""
LINEAR = """\
[[rule]]
name = "the sum"
says = "output.weight.sum() == 0.25"

[[rule]]
name = "a bound"
says = "output.weight[0, 1] >= 0.2"
"""
TINY = 1e-20
"""An eps that changes no step: Keras and torch add it at different places."""
STOPPED = ("float32", "classes", "sets")
FREE_NUMBERS = ("orthonormal", "free", "projection")
"""The bases of jobs that train free numbers, which Keras has not."""
BETAS = [0.875, 0.984375]
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.875, "nesterov": True},
    "Adam": {"betas": BETAS, "eps": TINY},
    "AdamW": {"betas": BETAS, "eps": TINY, "weight_decay": 0.125},
    "Adamax": {"betas": BETAS, "eps": TINY},
    "RMSprop": {"alpha": 0.96875, "momentum": 0.5, "centered": True, "eps": TINY},
    "Adagrad": {"eps": TINY, "initial_accumulator_value": 0.015625},
    "Adadelta": {"rho": 0.8125},
}
"""Numbers of a few bits: Keras rounds some options to float32 on TensorFlow."""
GRID = np.linspace(-4.0, 4.0, 17)


def options_text(options: dict[str, Any]) -> str:
    """A table of TOML."""
    return "{ " + ", ".join(f"{name} = {json.dumps(value)}" for name, value in options.items()) + " }"


def job(framework: str, **changes: Any) -> str:
    """The text of a job: four steps in each of its epochs."""
    values = {
        "target": "y", "hidden": [4], "activation": "tanh", "framework": framework, "dtype": "float64",
        "optimizer": "SGD", "rate": 0.01, "options": "{ }", "epochs": 5, "batch": 6, "rules": EQUATIONS,
    }  # fmt: skip
    return JOB.format(**{**values, **changes})


def jobs(framework: str) -> dict[str, str]:
    """Name → job. Each but the linear one takes twenty steps."""
    steps = {
        f"steps of {name}": job(framework, optimizer=name, options=options_text(options))
        for name, options in OPTIMIZERS.items()
    }
    optimum = job(framework, hidden=[], rules=LINEAR, rate=0.25, epochs=50, batch=ROWS)
    single = {
        "float32": job(framework, dtype="float32", optimizer="Adam", rate=0.05, hidden=[4, 3], batch=7),
        "classes": job(framework, dtype="float32", target="kind", optimizer="AdamW", rate=0.05, rules=NAMED),
        "sets": job(framework, dtype="float32", optimizer="Adam", rate=0.05, rules=SETS),
    }
    return {**steps, "optimum": optimum, **single, **({} if framework == "keras" else reparametrized(framework))}


def reparametrized(framework: str) -> dict[str, str]:
    """Name → job that trains free numbers: each basis with decay, and one in float32."""
    decay = options_text({"betas": BETAS, "eps": TINY, "weight_decay": 0.125})
    methods = {basis: f'options = {decay}\nmethod = "reparametrize"\nbasis = "{basis}"' for basis in FREE_NUMBERS}
    made = {
        basis: job(framework, optimizer="AdamW").replace("options = { }", method) for basis, method in methods.items()
    }
    single = job(framework, dtype="float32", optimizer="Adam", rate=0.05, hidden=[4, 3], batch=7)
    return made | {"free numbers": single.replace("options = { }", 'method = "reparametrize"')}


def stopped_jobs(framework: str) -> tuple[str, ...]:
    """The jobs whose runs are stopped and gone on with."""
    return STOPPED if framework == "keras" else (*STOPPED, "free numbers")


def table() -> str:
    """Rows of two features, and two targets: a number and a class."""
    random = np.random.default_rng(2)
    x = random.normal(size=(ROWS * 4 // 3, 2))
    y = x @ [0.7, -0.4] + 0.3 * np.sin(2 * x[:, 0]) + 0.1 * random.normal(size=len(x))
    lines = [f"{a:.4f},{b:.4f},{c:.4f},{'cat' if c > 0 else 'owl'}" for (a, b), c in zip(x, y, strict=True)]
    return "\n".join(["first,second,y,kind", *lines]) + "\n"


def text_for(name: str, text: str) -> str:
    """The job with the column that it does not learn left out of its table; the one of classes has text."""
    if name != "classes":
        return text.replace("table.csv", "numbers.csv")
    return text.replace('"table.csv"', '"classes.csv"\ntext = "encode"')


def write_tables(folder: Path) -> None:
    """The tables, each without the other's target; the one of classes has a column of text."""
    lines = [line.split(",") for line in table().splitlines()]
    (folder / "numbers.csv").write_text("\n".join(",".join(line[:3]) for line in lines) + "\n")
    colours = ["colour", *("red", "blue", "green") * len(lines)]
    classes = [[*line[:2], colour, line[3]] for line, colour in zip(lines, colours, strict=False)]
    (folder / "classes.csv").write_text("\n".join(",".join(line) for line in classes) + "\n")


def call(*words: object) -> Result:
    """What the command answers."""
    return CliRunner().invoke(commands, [str(word) for word in words], catch_exceptions=False)


def stopped(path: Path, out: Path) -> int:
    """Train a job, with Ctrl-C after a step of its third epoch; the exit status."""
    real = running.train_epochs

    def stopping(*arguments: Any) -> Iterator[Step | Epoch]:
        epochs = 0
        for event in real(*arguments):
            if epochs == 2 and isinstance(event, Step):
                raise KeyboardInterrupt
            yield event
            epochs += isinstance(event, Epoch)

    running.train_epochs = stopping
    try:
        return call("train", path, "--out", out).exit_code
    finally:
        running.train_epochs = real


def whole(framework: str, folder: Path) -> dict[str, Any]:
    """Each job trained in one go, verified, and stopped."""
    write_tables(folder)
    results = {}
    for name, text in jobs(framework).items():
        path, run = folder / f"{name}.toml", folder / f"{name} whole"
        path.write_text(text_for(name, text))
        trained = call("train", path, "--out", run)
        assert trained.exit_code == 0, (name, trained.output)
        results[name] = {
            "verified": call("verify", run / "model.safetensors", run / "plan.safetensors").exit_code,
            "checked": call("check", path).exit_code,
        }
        if name in stopped_jobs(framework):
            results[name]["stopped"] = stopped(path, folder / f"{name} stopped")
    return results


def resume(framework: str, folder: Path) -> dict[str, Any]:
    """Each stopped run gone on with: whether its files are those of the run in one go."""
    results = {}
    for name in stopped_jobs(framework):
        resumed = call("train", "--resume", folder / f"{name} stopped")
        assert resumed.exit_code == 0, (name, resumed.output)
        assert "Resuming after epoch 2" in resumed.stdout, resumed.output
        results[name] = all(
            (folder / f"{name} stopped" / file).read_bytes() == (folder / f"{name} whole" / file).read_bytes()
            for file in ("model.safetensors", "metrics.csv", "plan.safetensors")
        )
    return results


def weights(folder: Path, name: str) -> dict[str, np.ndarray]:
    """The weights of a run in one go."""
    return dict(load_file(folder / f"{name} whole" / "model.safetensors"))


def activations(framework: str) -> dict[str, list[float]]:
    """Class of torch.nn → the numbers that a framework has for it."""
    if framework == "torch":
        import torch

        x = torch.tensor(GRID)
        return {name: getattr(torch.nn, name)()(x).tolist() for name in perceptron.ACTIVATIONS.values()}
    with framework_of(parse_job(Path("job.toml"), job(framework))).seeded(0):
        if framework == "jax":
            import jax.numpy

            from affinet.cli.trainings.jax.jax_steps import ACTIVATIONS

            return {name: f(jax.numpy.asarray(GRID)).tolist() for name, f in ACTIVATIONS.items()}
        from keras import ops

        from affinet.cli.trainings.keras.keras_network import ACTIVATIONS as OF_KERAS

        x = ops.convert_to_tensor(GRID, dtype="float64")
        return {name: ops.convert_to_numpy(f(x)).tolist() for name, f in OF_KERAS.items()}


def main(framework: str, folder: Path, part: str) -> None:
    """Print the results of a part, and whether torch was imported."""
    warnings.filterwarnings("error", ".*affinet")
    os.fsync = lambda _: None  # what power failures leave is not tested here, and some disks take a second for each
    if part == "whole":
        results, answers = whole(framework, folder), activations(framework)
    else:
        results, answers = resume(framework, folder), {}
    printed = {"results": results, "activations": answers, "torch": "torch" in sys.modules}
    sys.stdout.write(f"{json.dumps(printed)}\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
