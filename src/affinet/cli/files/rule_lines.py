"""Read a text file with a rule on each line."""

from __future__ import annotations

from pathlib import Path

from affinet.errors import DataError
from affinet.system.files import MISSING, unreadable

LONGEST = 2**24
"""Most bytes of a file of rules."""


def read_sentences(path: Path) -> str:
    """The text in the file. Raises DataError where it is missing, too long, or not UTF-8."""
    reason = unreadable(path, LONGEST)
    if reason == MISSING:
        raise DataError(f"there is no file {path}. Paths in a job are relative to the folder of the job file.")
    if reason:
        raise DataError(f"{path} {reason}. Name a text file with a rule on each line.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text file: byte {error.start} is not UTF-8. Save it as UTF-8.") from None
