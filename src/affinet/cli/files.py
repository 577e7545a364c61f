"""Which files are read at all: regular ones up to a stated size, since a pipe may wait and a device never ends."""

from __future__ import annotations

import stat
from pathlib import Path

MOST_BYTES = 4 * 2**30
"""Of a matrix or a table in a file."""

MOST_NUMBERS_BYTES = 2**29
"""Of the numbers, in float64 or wider, that a file may unfold to; a file of more bytes may unfold to as many."""


MISSING = "does not exist"


def unreadable(path: Path, most: int = MOST_BYTES) -> str:
    """Why a path is not read, as what follows it in a sentence; empty where it is a regular file of no more bytes."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except ValueError as error:
        return f"cannot be read: {error}"
    if stat.S_ISDIR(status.st_mode):
        return "is a folder, not a file"
    if not stat.S_ISREG(status.st_mode):
        return "is a pipe or a device, not a file"
    if status.st_size > most:
        return f"has {status.st_size:,} bytes, and at most {most:,} are read"
    return ""


def unfolds(size: int, numbers: int, item_bytes: int) -> str:
    """Why so many numbers are not taken from a file of `size` bytes; empty where they are."""
    needed, most = numbers * max(8, item_bytes), max(MOST_NUMBERS_BYTES, size)
    if needed <= most:
        return ""
    return f"{numbers:,} numbers, which take {needed:,} bytes, and at most {most:,} are unfolded from {size:,}"
