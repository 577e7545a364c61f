"""Take part in a run whose folder another process writes: the same trainings, without files and screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.run_summary import RunSummary
from affinet.cli.runs.checkpoint import Checkpoint
from affinet.cli.runs.running import finish_run, restore_results
from affinet.cli.runs.weight_samples import Samples
from affinet.cli.trainings.preparation import prepare
from affinet.cli.trainings.processes import Processes
from affinet.cli.trainings.training import Epoch, Step
from affinet.cli.words import shell_word

Part = Literal["finish", "restore", "prepare", "nothing"]
"""What the writer does with a run: train to its end, restore its weights, prepare its job alone, or only show it."""


@dataclass(frozen=True)
class FollowedFolder:
    """The folder of a run as `Folder` describes it, in a process that does not write it."""

    path: Path
    command: str
    stationarity: bool = False  # the writer decides

    def save(self, checkpoint: Checkpoint, state: Mapping[str, Any]) -> None:
        """The writer saves."""

    def restore(self, epoch: Epoch, state: Mapping[str, Any]) -> int:
        """The writer restores; no row is missing here."""
        return 0

    def finish(self, summary: RunSummary, samples: Samples) -> None:
        """The writer writes the results."""

    def contents(self) -> str:
        """The writer alone knows them."""
        return f"Process 0 writes to {self.path}."

    def resume_hint(self) -> str:
        """The command that resumes the run, in one sentence."""
        return f"To resume: {self.command} train --resume {shell_word(self.path)}"


class NoWatch:
    """A display that shows nothing."""

    def say(self, sentence: str) -> None:
        """The writer shows sentences."""

    @contextmanager
    def training(
        self, title: str, epochs: int, steps: int, steps_done: int
    ) -> Iterator[Callable[[Step | Epoch], None]]:
        """The writer shows the training."""
        yield lambda event: None


def follow(job: JobFile, run: Path, processes: Processes, part: Part) -> None:
    """Do the same part of the run in `run` as the writer does, at the same time. Raises as `running.run`."""
    if part == "nothing":
        return
    prepared, folder = prepare(job, processes), FollowedFolder(run, processes.command)
    match part:
        case "finish":
            finish_run(prepared, folder, None, NoWatch())
        case "restore":
            restore_results(prepared, folder, None, NoWatch())
        case "prepare":
            pass
