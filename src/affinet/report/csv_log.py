"""Observations as a CSV file: a header once, then a row for each."""

from __future__ import annotations

import csv
import io
from os import PathLike
from pathlib import Path

from affinet.errors import WatchError
from affinet.report.observation import Observation


class CsvLog:
    """Writes a row for each observation, at once: what was seen is in the file when the training is killed.

    Columns are `step`, `optimizer` and the names of `Observation.numbers()`; numbers are written so that reading them
    gives the same bits. A file that is there already is continued where its header is the same, as after a resume.
    Raises WatchError where it is another, where the path is a folder or lies in none, and where the disk refuses a row.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = _path(path)
        self._columns: list[str] | None = None

    def __call__(self, observation: Observation, /) -> None:
        """Append one row."""
        numbers = {name: repr(number) for name, number in observation.numbers().items()}
        row = {"step": str(observation.step), "optimizer": str(observation.optimizer)} | numbers
        try:
            begun = "" if self._columns == list(row) else self._begun(list(row))
            # One write in append mode: rows of several processes do not mix.
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(begun + _line(list(row.values())))
        except OSError as error:
            raise WatchError(
                f"{self.path} cannot be written to: {error.strerror or error}. Make room or give another path; "
                f"watch.stop() goes on without a log."
            ) from error
        self._columns = list(row)

    def _begun(self, columns: list[str]) -> str:
        """What comes before the first row: the header of a new file, a line end where the last row was cut off."""
        if not self.path.exists() or self.path.stat().st_size == 0:
            return _line(columns)
        with self.path.open(encoding="utf-8", newline="") as file:
            found = next(csv.reader(file), [])
        if found != columns:
            raise WatchError(
                f"{self.path} has other columns than this watch writes: only there "
                f"{[name for name in found if name not in columns]}, only here "
                f"{[name for name in columns if name not in found]}. Give a new file, or the same rules and options."
            )
        with self.path.open("rb") as raw:
            raw.seek(-1, io.SEEK_END)
            return "" if raw.read(1) == b"\n" else "\r\n"


def _path(given: object) -> Path:
    """The path that was given. Raises WatchError where no file can be written there."""
    if not isinstance(given, str | PathLike):
        raise WatchError(f"{given!r:.60} ({type(given).__name__}) is no path. Give that of a file, as text.")
    path = Path(given)
    if path.is_dir():
        raise WatchError(f"{path} is a folder. Name a file in it: affinet.CsvLog({str(path / 'log.csv')!r}).")
    if not path.parent.is_dir():
        raise WatchError(f"{path} cannot be written: there is no folder {path.parent}. Make it first, or name another.")
    return path


def _line(cells: list[str]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue()
