"""The line of a key in the text of a TOML file, which `tomllib` does not tell."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

KeyPath = tuple[str | int, ...]

DEEPEST = 8
"""Parts of a path below its table; no key of a job lies deeper."""

MOST_READ = 2**20
"""Characters that are read again and again to find the end of a value of many lines; keys behind them have no line."""


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int | None:
    """Line of the longest part of `path` that is written out; None where none is."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def lines_of_keys(text: str) -> dict[KeyPath, int]:
    """First line, from one, of every table and key of a valid TOML text; elements of arrays are counted from zero.

    A key inside a value of several lines is located at the first line of that value.
    Method: a TOML file is a sequence of statements (a header, or a key with its value), and each of them is valid
    TOML by itself, so tomllib finds where each ends and nothing of TOML's grammar is repeated here.
    """
    lines: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for line, statement, content in _statements(text):
        if statement.lstrip().startswith("["):
            table = _enter(content, counts)
            paths = [table[:length] for length in range(1, len(table) + 1)]
        else:
            paths = [table + path for path in _paths(content)]
        for path in paths:
            lines.setdefault(path, line)
    return lines


def _statements(text: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    start, statement, left = 1, "", MOST_READ
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        statement = f"{statement}\n{line}" if statement else line
        left -= len(statement)
        if left < 0:
            return
        try:
            content = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        if content:
            yield start, statement, content
        start, statement = number + 1, ""


def _enter(header: dict[str, Any], counts: dict[KeyPath, int]) -> KeyPath:
    """Path of the table that a header opens; `counts` holds how many tables each array of tables has so far."""
    path: KeyPath = ()
    content: Any = header
    while content:
        ((key, content),) = content.items()
        path += (key,)
        if isinstance(content, list):
            counts[path] = counts.get(path, 0) + 1
            content = None
        if path in counts:
            path += (counts[path] - 1,)
    return path


def _paths(content: Any, deepest: int = DEEPEST) -> Iterator[KeyPath]:
    if not deepest:
        return
    items: Any = ()
    if isinstance(content, dict):
        items = content.items()
    elif isinstance(content, list):
        items = enumerate(content)
    for key, value in items:
        yield (key,)
        for rest in _paths(value, deepest - 1):
            yield (key, *rest)
