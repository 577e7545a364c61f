"""Build the parts of sentences that messages of the command line share."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Sequence

SHORTEST_PART = 4
"""Fewest characters that a name may be recognized by in the middle of a longer one."""


def did_you_mean(name: str, known_names: Iterable[str]) -> str:
    """` Did you mean 'x'?` with the closest known names, or those that contain `name`; or an empty text."""
    by_lowercase = {known.lower(): known for known in known_names}
    matches = (
        [name.lower()]
        if name.lower() in by_lowercase
        else difflib.get_close_matches(name.lower(), by_lowercase, n=2, cutoff=0.6)
    )
    if not matches and len(name) >= SHORTEST_PART:
        matches = [known for known in by_lowercase if name.lower() in known][:2]
    return f" Did you mean {' or '.join(repr(by_lowercase[key]) for key in matches)}?" if matches else ""


def listed(names: Sequence[str], limit: int = 12) -> str:
    """The first `limit` names with commas between them, followed by the total where there are more."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown}, … ({len(names)} in all)"


def alike_texts(texts: Iterable[str]) -> str:
    """The first two texts that differ in capital letters or in spaces around them alone, as a clause; or empty."""
    first: dict[str, str] = {}
    for text in texts:
        other = first.setdefault(text.strip().casefold(), text)
        if other != text:
            difference = "spaces" if other.casefold() != text.casefold() else "capital letters"
            return f"{other!r:.60} and {text!r:.60}, which differ in {difference} alone"
    return ""


def shell_word(path: object) -> str:
    """A path as one word of a command that a person copies into a shell."""
    return shlex.quote(str(path))


def counted(count: int, noun: str) -> str:
    """`1 row`, `2 rows`, `1,000 rows`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def one_paragraph(error: BaseException) -> str:
    """The message of a foreign exception on one line, or its type where the message is empty."""
    return " ".join(str(error).split()) or type(error).__name__
