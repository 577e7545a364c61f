"""Observations as curves in TensorBoard."""

from __future__ import annotations

from os import PathLike, fspath
from typing import TYPE_CHECKING, Self

from affinet.errors import WatchError
from affinet.report.observation import Observation

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


class TensorBoardLog:
    """Adds a point to each curve `affinet/…` for each observation; the names are those of `Observation.numbers()`.

    Takes a folder, where a SummaryWriter is made that `close()` closes (also as a context manager), or a SummaryWriter
    that stays the caller's. Raises WatchError for what is neither, where the package tensorboard is missing, and
    where the folder cannot be made.
    """

    def __init__(self, target: str | PathLike[str] | SummaryWriter) -> None:
        self._own = isinstance(target, (str, PathLike))
        if not self._own and not callable(getattr(target, "add_scalar", None)):
            raise WatchError(
                f"{target!r:.60} ({type(target).__name__}) is no folder and no SummaryWriter. Give the folder as text, "
                f"or a writer of torch.utils.tensorboard."
            )
        self._writer = _opened(fspath(target)) if isinstance(target, (str, PathLike)) else target

    def __call__(self, observation: Observation, /) -> None:
        """Add one point to each curve."""
        which = f"optimizer {observation.optimizer}/" if observation.optimizer else ""
        for name, number in observation.numbers().items():
            self._writer.add_scalar(f"affinet/{which}{name}", number, observation.step)
        if self._own:
            self._writer.flush()

    def close(self) -> None:
        """Close what was opened here; a writer that was given stays open."""
        if self._own:
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _opened(folder: str) -> SummaryWriter:
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as missing:
        raise WatchError(
            "TensorBoardLog writes with the package tensorboard, which is not installed. Run pip install "
            "'affinet[tensorboard]', or write a table with affinet.CsvLog(path)."
        ) from missing
    try:
        return SummaryWriter(folder)
    except OSError as error:
        raise WatchError(f"{folder} cannot be written to: {error.strerror or error}. Name another folder.") from error
