"""Lock the folder of a run for one writer; the lock vanishes with its process, however that ends."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from affinet.errors import RunError

LOCK, WRITER = ".lock", ".writer"
PATIENCE = 0.2
"""Seconds after which the process that holds the lock has certainly written its number."""


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Lock `run` against other processes inside the block. Raises RunError, which names the other process.

    It is a lock of the operating system on an open file: a killed process leaves nothing to clean up.
    """
    lock = FileLock(run / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        time.sleep(PATIENCE)
        raise RunError(
            f"{run} is being written to by {_writer(run)}. Wait until it has ended, or name another folder with --out."
        ) from None
    except (OSError, NotImplementedError) as error:
        raise RunError(f"{run} cannot be locked: {error}. Name another folder with --out.") from error
    try:
        with suppress(OSError):
            (run / WRITER).write_text(f"{os.getpid()}\n", encoding="ascii")
        yield
    finally:
        with suppress(OSError):
            (run / WRITER).unlink(missing_ok=True)
        lock.release()


def _writer(run: Path) -> str:
    try:
        return f"process {int((run / WRITER).read_text(encoding='ascii'))}"
    except (OSError, ValueError):
        return "another process"
