"""Parquet files are read in a process of their own: a damaged one can end the process that reads it.

Polars asks for what a file says it holds, and a request that cannot be met ends the process and is no exception. The
child has limits to its memory and its time, looks at what the file announces, and hands the table on.
"""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import polars as pl
from polars.exceptions import PanicException, PolarsError

from affinet.cli.files.unfolding import MOST_UNFOLDED, unfolds
from affinet.cli.words import one_paragraph
from affinet.errors import DataError

SECONDS = 60.0
"""The least that a file is given, by the clock and of the processor."""

BYTES_A_SECOND = 2**20
"""How slowly a larger file may be read."""

REFUSED, UNREADABLE = 3, 4
"""Exit statuses of the child; its output is then the reason."""

_PROGRAM = "import sys; sys.path[:] = sys.argv[2:]; from affinet.cli.files.parquet import hand_on; hand_on(sys.argv[1])"
"""The path of modules is the parent's, without the folder that the command is run in."""


def read_parquet(path: Path) -> pl.DataFrame:
    """The table in `path`. Raises DataError: not readable, or it announces more numbers than are taken from a file."""
    seconds = SECONDS + path.stat().st_size / BYTES_A_SECOND
    words = [sys.executable, "-c", _PROGRAM, str(path.absolute()), *sys.path]
    try:
        child = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise _unreadable(path, f"it is not read within {seconds:.0f} seconds") from None
    if child.returncode == 0:
        return pl.read_ipc(io.BytesIO(child.stdout))
    if child.returncode == REFUSED:
        raise DataError(f"{path} holds {child.stdout.decode()}. Name a smaller table.")
    if child.returncode == UNREADABLE:
        raise _unreadable(path, child.stdout.decode())
    if child.returncode < 0:  # memory that is refused ends it, and so does the limit of its time
        raise _unreadable(path, "it ended the process that reads it, out of memory or out of time")
    lines = child.stderr.decode(errors="replace").split("\n")
    raise _unreadable(path, f"the process that reads it failed: {' '.join(line for line in lines[-3:] if line)}")


def _unreadable(path: Path, why: str) -> DataError:
    return DataError(f"{path} is not a readable .parquet file: {why}.")


def hand_on(name: str) -> None:
    """In the child: write the table to the standard output, or the reason why not and end with its status."""
    path = Path(name)
    _limit(path.stat().st_size)
    try:
        lazy = pl.scan_parquet(path)
        columns, rows = len(lazy.collect_schema()), int(lazy.select(pl.len()).collect().item())
        if reason := unfolds(path.stat().st_size, columns * rows, 8):  # equal values are packed into a few bytes
            _end(REFUSED, reason)
        table = io.BytesIO()
        pl.read_parquet(path).write_ipc(table)
    except (PolarsError, PanicException, OSError, ValueError) as error:  # a panic of Rust is no Exception
        _end(UNREADABLE, one_paragraph(error))
    sys.stdout.buffer.write(table.getbuffer())


def _end(status: int, reason: str) -> NoReturn:
    sys.stdout.buffer.write(reason.encode())
    sys.exit(status)


def _limit(size: int) -> None:
    """Hold the process to what a file of `size` bytes may need; Windows has no such limits."""
    if sys.platform == "win32":
        return
    import resource

    seconds, memory = int(SECONDS + size / BYTES_A_SECOND), 3 * MOST_UNFOLDED + 24 * size
    for limit, most in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_DATA, memory), (resource.RLIMIT_CORE, 0)):
        allowed = resource.getrlimit(limit)[1]
        most = most if allowed == resource.RLIM_INFINITY else min(most, allowed)
        resource.setrlimit(limit, (most, most))


__all__ = ["hand_on", "read_parquet"]
