"""Write observations to a CSV file: a header, then one row per observation."""

from __future__ import annotations

import csv
import io
from os import PathLike
from pathlib import Path

from affinet.errors import WatchError
from affinet.report.observation import Observation


class CsvLog:
    """Writes each observation at once, as one row: the rows are in the file even if the training is killed.

    Columns are `step`, `optimizer` and the names of `Observation.numbers()`; numbers are written so that reading them
    gives the same bits. An existing file with the same header is continued, as after a resume. Raises WatchError where
    the header differs, the path is a folder, its folder does not exist, or the disk refuses a row.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = _checked_path(path)
        self._columns: list[str] | None = None

    def __call__(self, observation: Observation, /) -> None:
        """Append one row."""
        numbers = {name: repr(number) for name, number in observation.numbers().items()}
        row = {"step": str(observation.step), "optimizer": str(observation.optimizer)} | numbers
        try:
            opening = "" if self._columns == list(row) else self._opening(list(row))
            # One write in append mode: rows of several processes do not mix.
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(opening + _csv_line(list(row.values())))
        except OSError as error:
            raise WatchError(
                f"{self.path} cannot be written to: {error.strerror or error}. Make room or give another path; "
                f"watch.stop() goes on without a log."
            ) from error
        self._columns = list(row)

    def _opening(self, columns: list[str]) -> str:
        """The text before the first row: the header of a new file, or a line end where the last row was cut off."""
        if not self.path.exists() or self.path.stat().st_size == 0:
            return _csv_line(columns)
        with self.path.open(encoding="utf-8", newline="") as file:
            header = next(csv.reader(file), [])
        if header != columns:
            raise WatchError(
                f"{self.path} has other columns than this watch writes: only in the file "
                f"{[name for name in header if name not in columns]}, only in this watch "
                f"{[name for name in columns if name not in header]}. Give a new file, or the same rules and options."
            )
        with self.path.open("rb") as file:
            file.seek(-1, io.SEEK_END)
            return "" if file.read(1) == b"\n" else "\r\n"


def _checked_path(target: object) -> Path:
    """`target` as a path. Raises WatchError where no file can be written there."""
    if not isinstance(target, str | PathLike):
        raise WatchError(f"{target!r:.60} ({type(target).__name__}) is not a path. Give the path of a file as text.")
    path = Path(target)
    if path.is_dir():
        raise WatchError(f"{path} is a folder. Name a file in it: affinet.CsvLog({str(path / 'log.csv')!r}).")
    if not path.parent.is_dir():
        raise WatchError(f"{path} cannot be written: there is no folder {path.parent}. Make it first, or name another.")
    return path


def _csv_line(cells: list[str]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue()
