"""A small table to learn from, a job that learns from it, and the commands as a person calls them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from affinet.cli.commands import commands
from affinet.cli.jobs.jobfile import JobFile, parse_job

Command = Callable[..., Result]

SMALL = """\
[data]
source = "small.csv"
target = "kind"
test_fraction = 0.25

[model]
hidden = [5]

[train]
optimizer = "Adam"
learning_rate = 0.01
epochs = 3
batch_size = 16

[[rule]]
name = "a tie"
says = "hidden1.weight[0, 1] == hidden1.weight[2, 0]"
"""


@pytest.fixture
def affinet() -> Command:
    """Call the command: `affinet("check", path)`."""
    return lambda *words: CliRunner().invoke(commands, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: `small.csv` has 40 rows of three features, one of them a truth value, and a class `kind`."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    lines = ["length,width,old,kind"]
    for row in range(40):
        kind = ("owl", "cat")[row % 2]
        length, width = random.normal(row % 2, 0.3, 2)
        lines.append(f"{length:.3f},{width:.3f},{str(row % 3 == 0).lower()},{kind}")
    (tmp_path / "small.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def job_of(text: str, folder: Path) -> JobFile:
    """The job that `text` says, in a file of `folder`."""
    path = folder / "job.toml"
    path.write_text(text)
    return parse_job(path, text)


def changed(*changes: tuple[str, str], text: str = SMALL) -> str:
    """The small job's text with some of it replaced."""
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text
