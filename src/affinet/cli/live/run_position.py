"""Read from the files of a run how far its training has come; the training knows nothing of its readers."""

from __future__ import annotations

import os
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from affinet.cli.jobs.job import TrainTable
from affinet.cli.run_summary import shown_score
from affinet.cli.runs.finished import SUMMARY
from affinet.cli.runs.runfolder import METRICS, MODEL, PLAN_TEXT, SCORES
from affinet.cli.runs.start_record import JOB

READ = (JOB, PLAN_TEXT, METRICS, MODEL, SUMMARY)
"""Files whose changes change the page of a run."""
LONGEST_ROW = 1024
"""More bytes than a row of metrics.csv has."""


@dataclass(frozen=True)
class RunPosition:
    """How many of the job's epochs are finished, whether the run is, and both in a sentence.

    `epochs` is 0 until the job is in the folder. `files` is another text after each change of a file.
    """

    epoch: int
    epochs: int
    finished: bool
    sentence: str
    files: str


def read_position(run: Path) -> RunPosition:
    """The position of the run in a folder, which need not exist yet."""
    files = _marks(run)
    epochs, finished = _epochs_of(run), (run / SUMMARY).exists()
    epoch, result = _last_row(run / METRICS) if epochs else (0, "")
    return RunPosition(epoch, epochs, finished, _sentence(epoch, epochs, result, finished), files)


def _sentence(epoch: int, epochs: int, result: str, finished: bool) -> str:
    if epochs == 0:
        return "Preparing the training: data, network and rules."
    if finished:
        return f"The run is finished: {result}"
    if epoch == 0:
        return f"Epoch 1 of {epochs:,} is running."
    if epoch < epochs:
        return f"Epoch {epoch:,} of {epochs:,}: {result}"
    return f"All {epochs:,} epochs under the rules: {result} The network now trains without rules for comparison."


def _marks(run: Path) -> str:
    """Time and size of each file, so that a file that was replaced or has grown gives another text."""
    marks = []
    for name in READ:
        with suppress(OSError):
            status = (run / name).stat()
            marks.append(f"{status.st_mtime_ns:x}.{status.st_size:x}")
            continue
        marks.append("")
    return "-".join(marks)


def _epochs_of(run: Path) -> int:
    """The epochs that the job asks for; 0 where it is not in the folder yet, or was written over since."""
    try:
        return _epochs_in((run / JOB).read_bytes())
    except (OSError, ValueError):
        return 0


@lru_cache(maxsize=4)
def _epochs_in(job: bytes) -> int:
    train = tomllib.loads(job.decode("utf-8", errors="replace")).get("train", {})
    epochs = train.get("epochs", TrainTable.model_fields["epochs"].default)
    return int(epochs)


def _last_row(metrics: Path) -> tuple[int, str]:
    """The number of the last complete row and its numbers in words; 0 without such a row."""
    try:
        with metrics.open("rb") as file:
            columns = file.readline(LONGEST_ROW).decode("utf-8", errors="replace").strip().split(",")
            file.seek(max(file.tell(), file.seek(0, os.SEEK_END) - LONGEST_ROW))
            rows = file.read().decode("utf-8", errors="replace")
    except OSError:
        return 0, ""
    complete = rows[: rows.rfind("\n") + 1].splitlines()
    with suppress(ValueError, IndexError):
        number, loss, score, violation = complete[-1].split(",")[:4]
        name = {column: name for name, column in SCORES.items()}.get(columns[2], "score")
        shown = shown_score(name, float(score))
        words = f"loss {float(loss):.4g}, {name} {shown}, largest violation {float(violation):.2g}."
        return int(number), words
    return 0, ""
