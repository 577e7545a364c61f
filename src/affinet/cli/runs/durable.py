"""Replace files so that the old or the new one is complete at every moment: write a neighbour, flush it, rename it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from affinet.system.files import made_anew


def unfinished(path: Path) -> Path:
    """The neighbour of `path` to which its new content is written before it is renamed."""
    return path.with_name(f".{path.name}.unfinished")


@contextmanager
def write_neighbour(path: Path) -> Iterator[Path]:
    """Give the block a neighbour of `path` to write to; flush it to the disk afterwards. `path` is not yet replaced.

    The file gets the mode of the umask, whichever library writes it. It is removed where the block raises, which also
    frees the space on a full disk.
    """
    neighbour = unfinished(path)
    try:
        mode = made_anew(neighbour)
        yield neighbour
        neighbour.chmod(mode)
        flush(neighbour)
    except BaseException:
        with suppress(OSError):
            neighbour.unlink(missing_ok=True)
        raise


def put_in_place(path: Path, *, previous: Path | None = None) -> None:
    """Give `path` what was written beside it; what it held goes to `previous`, where that is given.

    Raises OSError where the disk refuses; what is at `path` is then as it was, or at `previous`. The new names are on
    the disk after `flush_folder`.
    """
    try:
        if previous is not None and path.exists():
            path.replace(previous)
        unfinished(path).replace(path)
    except OSError:
        with suppress(OSError):
            unfinished(path).unlink(missing_ok=True)
        raise


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Replace the content of `path` with what `write` writes."""
    with write_neighbour(path) as neighbour:
        write(neighbour)
    put_in_place(path)
    flush_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace the content of `path` with a text."""
    write_file(path, lambda neighbour: neighbour.write_text(text, encoding="utf-8", newline=""))


def flush(path: Path) -> None:
    """Make sure that the content of a file is on the disk, and not only in memory."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Make sure that new names in a folder are on the disk."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
