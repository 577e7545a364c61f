"""Write the page of a report to a file, which is replaced in one step; other files are not overwritten."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from affinet.errors import ReportError
from affinet.system.files import replace_file

FIRST_BYTES = 16
FULL = (errno.ENOSPC, errno.EDQUOT)
SUFFIXES = (".html", ".htm")


def page_path(target: object) -> Path:
    """`target` as the path of a page. Raises ReportError where no page can be written there.

    A page replaces an earlier one: an existing file must be HTML by its name and its first bytes.
    """
    if not isinstance(target, str | os.PathLike):
        raise ReportError(f"{target!r:.60} ({type(target).__name__}) is not a path. Give the path of a file as text.")
    path = Path(target)
    if path.is_dir():
        raise ReportError(f"{path} is a folder. Name a file in it: {path / 'report.html'}.")
    if path.suffix.lower() not in SUFFIXES:
        raise ReportError(f"{path} is not named as a page, which browsers know by its name. Name it report.html.")
    if not path.parent.is_dir():
        raise ReportError(f"{path} cannot be written: there is no folder {path.parent}. Make it first.")
    if path.exists() and not _holds_page(path):
        raise ReportError(f"{path} exists and is not a page of HTML. Name another file, or remove it first.")
    return path


def write_page(text: str, path: Path) -> None:
    """Write a page to a path of `page_path`. Raises ReportError where the disk refuses; the file is then as it was."""
    try:
        replace_file(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8", newline=""))
    except OSError as error:
        reason = error.strerror or str(error)
        place = "name another place, in `affinet report` with --out PAGE.html."
        advice = f"Make room, or {place}" if error.errno in FULL else "N" + place[1:]
        raise ReportError(f"{path} cannot be written: {reason}. {advice}") from error


def _holds_page(path: Path) -> bool:
    """Whether a file begins as pages of HTML do, or is empty."""
    try:
        with path.open("rb") as file:
            opening = file.read(FIRST_BYTES).lower()
    except OSError:
        return False
    return not opening or opening.startswith((b"<!doctype html", b"<html"))
