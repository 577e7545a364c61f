"""Measure which share of a training goes into its stationarity: by default, and after each epoch.

python -m benchmarks.stationarity

Processor time of the training under rules alone: a run also writes its files after each epoch, which makes the shares
smaller.
"""

from __future__ import annotations

import tempfile
from math import ceil
from pathlib import Path
from time import process_time

import numpy as np

from affinet.cli.demonstration import demo_job
from affinet.cli.jobs.jobfile import JobFile, parse_job
from affinet.cli.trainings.observed_epochs import ObservedEpochs, observed_epochs
from affinet.cli.trainings.preparation import Prepared, prepare
from affinet.cli.trainings.training import train_epochs

ONE_STEP = """\
[data]
source = "sklearn:digits"
[model]
hidden = [64]
[train]
epochs = 3000
batch_size = 1437
[[rule]]
says = "hidden1.weight.sum(dim=1) == 1"
"""
TABLE = """\
[data]
source = "table.csv"
target = "y"
[model]
hidden = [128, 64]
[train]
epochs = 20
[[rule]]
says = "hidden1.weight.sum(dim=1) == 1"
"""
ROWS, FEATURES = 100_000, 20


def main() -> None:
    """Print a row for each job."""
    with tempfile.TemporaryDirectory() as folder:
        _write_table(Path(folder) / "table.csv")
        jobs = {
            "the demo": demo_job(),
            "3,000 epochs of one step": _job(Path(folder), ONE_STEP),
            f"20 epochs of {ROWS:,} rows": _job(Path(folder), TABLE),
        }
        print(f"{'job':28}{'measured':>10}{'seconds':>10}{'by default':>12}{'each epoch':>12}")
        for name, job in jobs.items():
            _print_shares(name, prepare(job))


def _print_shares(name: str, prepared: Prepared) -> None:
    """Train with the default, and print its share of the time, and what it is where each epoch is observed."""
    framework, job, data = prepared.framework, prepared.job, prepared.data
    with framework.seeded(0):
        training = framework.under_rules(job, data, framework.network(job, data), prepared.rules)
        train, seconds = job.job.train, 0.0
        chosen: ObservedEpochs = observed_epochs(job.job, len(data.train_features), training.numbers)

        def stationarity(epoch: int) -> float | None:
            nonlocal seconds
            start = process_time()
            value = training.stationarity(train.batch_size) if epoch in chosen else None
            seconds += process_time() - start
            return value

        start = process_time()
        with training.settings(train.batch_size):
            for _ in train_epochs(training, train, 0, stationarity):
                pass
        total = process_time() - start
    count = sum(epoch in chosen for epoch in range(1, train.epochs + 1))
    each = seconds / count * train.epochs
    shares = f"{seconds / (total - seconds):>12.1%}{each / (total - seconds):>12.1%}"
    print(f"{name:28}{count:>10}{total:>10.1f}{shares}", flush=True)


def _job(folder: Path, text: str) -> JobFile:
    return parse_job(folder / "job.toml", text)


def _write_table(path: Path) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(ceil(ROWS / 0.8), FEATURES))
    y = np.tanh(x[:, 0]) + x[:, 1] * x[:, 2]
    names = ",".join([*(f"x{k}" for k in range(FEATURES)), "y"])
    np.savetxt(path, np.column_stack([x, y]), "%.5f", ",", header=names, comments="")


if __name__ == "__main__":
    main()
