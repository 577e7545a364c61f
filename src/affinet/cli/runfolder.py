"""The folder of a run: what it holds is whole at every moment, so that a stopped run leaves its last finished epoch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from affinet import Plan
from affinet.cli.training import Epoch
from affinet.cli.words import one_paragraph
from affinet.errors import PlanFileError, RunError

MODEL, METRICS, JOB = "model.safetensors", "metrics.csv", "job.toml"
PLAN, PLAN_TEXT = "plan.safetensors", "plan.txt"


@dataclass(frozen=True)
class RunFolder:
    """An open run; `save` is called once an epoch."""

    path: Path

    def save(self, epoch: Epoch, state: Mapping[str, Tensor]) -> None:
        """Put the weights of a finished epoch in place of the last ones and add its row of metrics; Ctrl-C waits.

        Tensors that share memory are stored one by one, so that each name can be loaded. Raises RunError where the disk
        refuses.
        """
        tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
        row = f"{epoch.number},{epoch.loss!r},{epoch.score!r},{epoch.violation!r}\n"
        with _uninterrupted(), _disk(self.path):
            unfinished = self.path / f".{MODEL}.unfinished"
            save_file(tensors, unfinished, metadata={"epoch": str(epoch.number)})
            unfinished.replace(self.path / MODEL)
            with (self.path / METRICS).open("a", encoding="utf-8", newline="") as file:
                file.write(row)

    def contents(self) -> str:
        """What is on disk now, in one sentence."""
        epochs = len((self.path / METRICS).read_text(encoding="utf-8").splitlines()) - 1
        if epochs == 0:
            return f"No epoch was finished, so {self.path} holds the job and the plan, and no weights."
        return f"{self.path} holds the weights and the metrics of epoch {epochs}, the last one that was finished."


def holds_run(path: Path) -> bool:
    """Whether a run was ever begun in `path`."""
    return any((path / name).exists() for name in (MODEL, METRICS, JOB, PLAN, PLAN_TEXT))


def refuse_used(path: Path) -> None:
    """Raise RunError where `path` is a file or already holds a run: nothing is ever overwritten."""
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file, not a folder; name another place with --out.")
    if holds_run(path):
        raise RunError(f"{path} already holds a run, which would be overwritten; name another folder with --out.")


def begin_run(path: Path, job: str, plan: Plan) -> RunFolder:
    """Make the folder with a copy of the job, the plan (also as text) and no epoch yet.

    Raises RunError as `refuse_used`.
    """
    refuse_used(path)
    with _disk(path):
        path.mkdir(parents=True, exist_ok=True)
        (path / JOB).write_text(job, encoding="utf-8")
        (path / PLAN_TEXT).write_text(str(plan).rstrip("\n") + "\n", encoding="utf-8")
        plan.save(path / PLAN)
        (path / METRICS).write_text("epoch,loss,score,largest_violation\n", encoding="utf-8")
    return RunFolder(path)


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, PlanFileError) as error:
        raise RunError(
            f"{path} cannot be written to: {one_paragraph(error)}. Name another folder with --out."
        ) from error


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C inside the block takes effect at its end; signals reach the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []

    def wait(number: int, frame: FrameType | None) -> None:
        del frame
        waiting.append(number)

    before = signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting:
        signal.raise_signal(signal.SIGINT)
