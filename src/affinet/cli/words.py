"""Small pieces of sentences that the messages of the command line share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def did_you_mean(asked: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` with the nearest known names (capitals aside), or nothing where none is near."""
    names = {name.lower(): name for name in known}
    near = (
        [asked.lower()] if asked.lower() in names else difflib.get_close_matches(asked.lower(), names, n=2, cutoff=0.6)
    )
    return f" Did you mean {' or '.join(repr(names[key]) for key in near)}?" if near else ""


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names with commas between them, at most `most` of them, and how many there are where some are left out."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, … ({len(names)} in all)"


def counted(count: int, noun: str) -> str:
    """`1 row`, `2 rows`, `1,000 rows`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def one_paragraph(error: BaseException) -> str:
    """What a foreign exception says, on one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
