"""Read Parquet files in a separate process, since a damaged file can end the process that reads it.

Polars allocates the memory that a file announces; where that fails, the process ends without an exception. The child
has limits on memory and time, checks the sizes that the file announces, and passes the table on.
"""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import polars as pl
from polars.exceptions import PanicException, PolarsError

from affinet.cli.files.process_limits import limit_resources
from affinet.cli.words import one_paragraph
from affinet.errors import DataError
from affinet.system.unfolding import MOST_UNFOLDED, refusal_of_size

SECONDS = 60.0
"""The shortest limit of time for a file, in seconds by the clock and of the processor."""

BYTES_PER_SECOND = 2**20
"""Bytes per second: the slowest reading that is allowed for a larger file."""

REFUSED, UNREADABLE = 3, 4
"""Exit statuses of the child; its output is the reason then."""

_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from affinet.cli.files.parquet import write_table; write_table(sys.argv[1])"
)
"""The search path of modules is the parent's, without the current folder."""


def read_parquet(path: Path) -> pl.DataFrame:
    """The table in `path`. Raises DataError: not readable, or it announces more numbers than are taken from a file."""
    seconds = SECONDS + path.stat().st_size / BYTES_PER_SECOND
    command = [sys.executable, "-c", _PROGRAM, str(path.absolute()), *sys.path]
    try:
        child = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise _unreadable(path, f"it was not read within {seconds:.0f} seconds") from None
    if child.returncode == 0:
        return pl.read_ipc(io.BytesIO(child.stdout))
    if child.returncode == REFUSED:
        raise DataError(f"{path} holds {child.stdout.decode()}. Name a smaller table.")
    if child.returncode == UNREADABLE:
        raise _unreadable(path, child.stdout.decode())
    if child.returncode < 0:  # refused memory and the limit of time end the child by a signal
        raise _unreadable(path, "it ended the process that reads it, out of memory or out of time")
    lines = child.stderr.decode(errors="replace").split("\n")
    raise _unreadable(path, f"the process that reads it failed: {' '.join(line for line in lines[-3:] if line)}")


def _unreadable(path: Path, reason: str) -> DataError:
    return DataError(f"{path} is not a readable .parquet file: {reason}.")


def write_table(name: str) -> None:
    """In the child: write the table to the standard output, or a reason and exit with the status for it."""
    path = Path(name)
    _limit_resources(path.stat().st_size)
    try:
        lazy = pl.scan_parquet(path, glob=False)
        columns, rows = len(lazy.collect_schema()), int(lazy.select(pl.len()).collect().item())
        if reason := refusal_of_size(
            path.stat().st_size, columns * rows, 8
        ):  # a few bytes can store any number of equal values
            _exit_with(REFUSED, reason)
        table = io.BytesIO()
        pl.read_parquet(path, glob=False).write_ipc(table)
    except (PolarsError, PanicException, OSError, ValueError) as error:  # a panic of Rust is not an Exception
        _exit_with(UNREADABLE, one_paragraph(error))
    sys.stdout.buffer.write(table.getbuffer())


def _exit_with(status: int, reason: str) -> NoReturn:
    sys.stdout.buffer.write(reason.encode())
    sys.exit(status)


def _limit_resources(size: int) -> None:
    """Limit memory and time of the process to the need of a file of `size` bytes."""
    limit_resources(int(SECONDS + size / BYTES_PER_SECOND), 3 * MOST_UNFOLDED + 24 * size)


__all__ = ["read_parquet", "write_table"]
