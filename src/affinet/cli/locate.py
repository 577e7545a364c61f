"""The line of a key in the text of a TOML file, which `tomllib` does not tell."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

KeyPath = tuple[str | int, ...]


def line_of(text: str, path: KeyPath) -> int | None:
    """Line, counted from one, where the longest part of `path` that `text` writes out begins; None where it has none.

    `text` must be valid TOML. A key inside a value of several lines is located at the first line of that value.
    """
    lines = lines_of_keys(text)
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def lines_of_keys(text: str) -> dict[KeyPath, int]:
    """First line of every table and key of a valid TOML text; elements of arrays are counted from zero.

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
    start, statement = 1, ""
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        statement = f"{statement}\n{line}" if statement else line
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


def _paths(content: Any) -> Iterator[KeyPath]:
    items: Any = ()
    if isinstance(content, dict):
        items = content.items()
    elif isinstance(content, list):
        items = enumerate(content)
    for key, value in items:
        yield (key,)
        for rest in _paths(value):
            yield (key, *rest)
