"""Which files are read at all: regular ones up to a stated size, since a pipe may wait and a device never ends."""

from __future__ import annotations

import stat
from pathlib import Path

MOST_BYTES = 4 * 2**30
"""Of a matrix or a table in a file."""

MISSING = "does not exist"


def unreadable(path: Path, most: int | None = MOST_BYTES) -> str:
    """Why a path is not read, as what follows it in a sentence; empty for a regular file of no more bytes."""
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
    """Make an empty file at `path`; the mode that it has, which is that of the umask. Raises OSError.

    The umask itself can only be read by changing it, for every thread. safetensors leaves files of mode 0600.
    """
    path.unlink(missing_ok=True)
    path.touch()
    return stat.S_IMODE(path.stat().st_mode)
