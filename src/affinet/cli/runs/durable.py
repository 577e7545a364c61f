"""Files that are the old one or the new one, whole, at every moment: written beside, flushed to the disk, renamed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from affinet.system.files import made_anew


def unfinished(path: Path) -> Path:
    """Where the new content of `path` is written before it takes its place."""
    return path.with_name(f".{path.name}.unfinished")


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """The file to write to inside the block; afterwards it is on the disk, beside `path`, and nothing is replaced yet.

    It has the mode of the umask, whoever writes it. It is removed where the block raises, which also gives a full disk
    its room back.
    """
    beside = unfinished(path)
    try:
        mode = made_anew(beside)
        yield beside
        beside.chmod(mode)
        flush(beside)
    except BaseException:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def put_in_place(path: Path, *, before: Path | None = None) -> None:
    """Give `path` what was written beside it; what it held goes to `before`, where that is given.

    Raises OSError where the disk refuses; what is at `path` is then as it was, or at `before`. The new names are on the
    disk after `flush_folder`.
    """
    try:
        if before is not None and path.exists():
            path.replace(before)
        unfinished(path).replace(path)
    except OSError:
        with suppress(OSError):
            unfinished(path).unlink(missing_ok=True)
        raise


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Put what `write` writes in place of what `path` held."""
    with written_beside(path) as beside:
        write(beside)
    put_in_place(path)
    flush_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Put a text in place of what `path` held."""
    write_file(path, lambda beside: beside.write_text(text, encoding="utf-8", newline=""))


def flush(path: Path) -> None:
    """What was written to a file is on the disk, and not in memory only."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """A new name is on the disk only when its folder is."""
    if os.name != "posix":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
