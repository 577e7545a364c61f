"""What the commands that train nothing cost: processor time, beside that of importing what any of them needs.

`python -m benchmarks.command_line` prints a row for each command, all measured in turns in one run.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

FLOOR = "import numpy, scipy.sparse, pydantic"
CHECK = "affinet check, a CSV job"
LIMIT = 2.5
"""How many times the floor a check of a CSV job may take."""

JOB = """\
[data]
source = "table.csv"
target = "kind"

[model]
hidden = [64, 32]

[[rule]]
name = "a tie"
says = "hidden1.weight[0, 1] == hidden1.weight[2, 3]"

[[rule]]
name = "rows sum to one"
says = "hidden1.weight.sum(dim=1) == 1"
"""


def measured(rounds: int = 15) -> dict[str, float]:
    """Command → seconds of processor time, user and system; medians over new processes that take turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder)
        commands: Mapping[str, Sequence[str]] = {
            FLOOR: ("-c", FLOOR),
            CHECK: ("-m", "affinet", "check", "job.toml"),
            "affinet check, a mistake in the job": ("-m", "affinet", "check", "wrong.toml"),
            "affinet --help": ("-m", "affinet", "--help"),
        }
        found: dict[str, list[float]] = {label: [] for label in commands}
        for turn in range(rounds + 1):
            for label, words in commands.items():
                seconds = _seconds(words, folder)
                if turn:  # the first turn compiles the modules, as installing does
                    found[label].append(seconds)
    return {label: statistics.median(seconds) for label, seconds in found.items()}


def _seconds(words: Sequence[str], folder: Path) -> float:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": str(folder / "compiled"), "OMP_NUM_THREADS": "1"}
    before = os.times()
    subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, check=False)
    after = os.times()
    return (after.children_user - before.children_user) + (after.children_system - before.children_system)


def _write(folder: Path) -> None:
    """A job, one with a mistake, and their table of 2,000 rows of 16 numbers and a class of three."""
    random = np.random.default_rng(0)
    names = ",".join(f"x{column}" for column in range(16))
    rows = [
        ",".join(f"{number:.4f}" for number in row) + f",{('owl', 'cat', 'newt')[place % 3]}"
        for place, row in enumerate(random.normal(size=(2_000, 16)))
    ]
    (folder / "table.csv").write_text("\n".join([f"{names},kind", *rows]) + "\n")
    (folder / "job.toml").write_text(JOB)
    (folder / "wrong.toml").write_text(JOB.replace("hidden =", "hiden ="))


if __name__ == "__main__":
    figures = measured()
    for label, seconds in figures.items():
        print(f"{label:40} {seconds:.2f} s of processor time, {seconds / figures[FLOOR]:.2f} times the first")
    print(f"the bar for {CHECK!r}: {LIMIT} times; {'met' if figures[CHECK] <= LIMIT * figures[FLOOR] else 'not met'}")
