"""Check a path before it is read, since a pipe may wait and a device never ends, and replace a file in one step."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from affinet.errors import PlanFileError

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


def plan_path(path: object) -> Path:
    """The argument as the path of a plan. Raises PlanFileError for anything but text or a path."""
    if not isinstance(path, str | os.PathLike):
        raise PlanFileError(f"{path!r:.60} ({type(path).__name__})", "is not a path", "Give one as text.")
    return Path(path)


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Replace the file of a plan by what `write` writes, in one step, so that a reader never sees a part.

    `write` is called with the path of a new empty file in the same folder. Raises what it raises, OSError, and
    PlanFileError for a path without a file name.
    """
    if not path.name:
        raise PlanFileError(path, "names no file", "Name another place.")
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.unfinished")
    try:
        mode = made_anew(unfinished)
        write(unfinished)
        unfinished.chmod(mode)
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
        if os.name == "posix":  # the new name is on disk only when the folder is
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    finally:
        unfinished.unlink(missing_ok=True)


def made_anew(path: Path) -> int:
    """Make an empty file at `path` and return its mode, which follows the umask. Raises OSError.

    The umask itself can only be read by changing it for every thread. safetensors writes files with mode 0600.
    """
    path.unlink(missing_ok=True)
    path.touch()
    return stat.S_IMODE(path.stat().st_mode)
