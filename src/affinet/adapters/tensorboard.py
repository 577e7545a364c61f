"""Draw observations as curves in TensorBoard."""

from __future__ import annotations

from os import PathLike, fspath
from typing import TYPE_CHECKING, Self

from affinet.errors import WatchError
from affinet.report.observation import Observation

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


class TensorBoardLog:
    """Adds one point per observation to each curve `affinet/…`; the names are those of `Observation.numbers()`.

    Takes a folder, where it makes a SummaryWriter that `close()` closes (also as a context manager), or a
    SummaryWriter, which the caller closes. Raises WatchError for anything else, where the package tensorboard is
    missing, and where the folder cannot be made.
    """

    def __init__(self, target: str | PathLike[str] | SummaryWriter) -> None:
        self._owns_writer = isinstance(target, (str, PathLike))
        if not self._owns_writer and not callable(getattr(target, "add_scalar", None)):
            raise WatchError(
                f"{target!r:.60} ({type(target).__name__}) is neither a folder nor a SummaryWriter. Give the folder as "
                f"text, or a writer of torch.utils.tensorboard."
            )
        self._writer = _open_writer(fspath(target)) if isinstance(target, (str, PathLike)) else target

    def __call__(self, observation: Observation, /) -> None:
        """Add one point to each curve."""
        prefix = f"optimizer {observation.optimizer}/" if observation.optimizer else ""
        for name, number in observation.numbers().items():
            self._writer.add_scalar(f"affinet/{prefix}{name}", number, observation.step)
        if self._owns_writer:
            self._writer.flush()

    def close(self) -> None:
        """Close the writer that was made for a folder; a writer of the caller stays open."""
        if self._owns_writer:
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _open_writer(folder: str) -> SummaryWriter:
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
