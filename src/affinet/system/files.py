"""Check that a path is a regular file of limited size before it is read: a pipe may wait, and a device never ends."""

from __future__ import annotations

import stat
from pathlib import Path

MOST_BYTES = 4 * 2**30
"""Largest file that is read as a matrix or a table."""

MISSING = "does not exist"


def unreadable(path: Path, most: int | None = MOST_BYTES) -> str:
    """Why a path is not read, worded to follow the path; empty for a regular file of at most `most` bytes."""
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
    if most is not None and status.st_size > most:
        return f"has {status.st_size:,} bytes, and at most {most:,} are read"
    return ""


def made_anew(path: Path) -> int:
    """Make an empty file at `path` and return its mode, which follows the umask. Raises OSError.

    The umask itself can only be read by changing it for every thread. safetensors writes files with mode 0600.
    """
    path.unlink(missing_ok=True)
    path.touch()
    return stat.S_IMODE(path.stat().st_mode)
