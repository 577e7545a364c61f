"""Run `affinet demo`: the job that ships with the package, and the sentences around it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from affinet.cli.jobs.jobfile import JobFile, parse_job

FILES = Path(__file__).parent / "demo"
JOB, MATRICES = FILES / "demo.toml", (FILES / "A.mtx", FILES / "b.mtx")
INTRODUCTION = """\
This demo trains a network that reads handwritten digits (scikit-learn's, 8 × 8 pixels). Its weights obey four rules:
  - one weight equals another one, a single tie;
  - the weights of each neuron of the first layer sum to one;
  - a block of the second layer is a symmetric matrix;
  - 50 random sparse equations A w = b across two layers.
After every single step the largest violation of any rule is measured. Then the same network is trained without rules.
"""


def demo_job(epochs: int | None = None) -> JobFile:
    """The job of the demo, with another number of epochs where `epochs` is not None."""
    text = JOB.read_text(encoding="utf-8")
    if epochs is not None:
        text = re.sub(r"^epochs = \d+$", f"epochs = {epochs}", text, flags=re.MULTILINE)
    return parse_job(JOB, text)


def copy_files(folder: Path) -> None:
    """Put the demo's matrices into the folder of its job's copy, so that the copy can be changed and trained."""
    for matrix in MATRICES:
        shutil.copyfile(matrix, folder / matrix.name)


def ending(folder: Path) -> str:
    """A sentence about what to do next."""
    job = folder / "job.toml"
    return f"Its job file is {job}: change it, and train it with `affinet train {job} --out {folder.parent / 'mine'}`."
