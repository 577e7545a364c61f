"""Find the line of each key in the text of a TOML file, which `tomllib` does not report."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

KeyPath = tuple[str | int, ...]

DEEPEST = 8
"""Most parts of a path below its table; no key of a job is deeper."""

MOST_READ = 2**20
"""Most characters that are parsed to find the ends of values of several lines; keys after them have no line."""


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int | None:
    """The line of the longest beginning of `path` that is in the file; None where the file has none of it."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def lines_of_keys(text: str) -> dict[KeyPath, int]:
    """First line, counted from 1, of every table and key of a valid TOML text; elements of arrays are counted from 0.

    A key inside a value of several lines is located at the first line of that value.
    Method: a TOML file is a sequence of statements (a header, or a key with its value), and each of them is valid
    TOML by itself: tomllib finds the end of each, and TOML's grammar is not repeated here.
    """
    lines: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for line, statement, content in _statements(text):
        if statement.lstrip().startswith("["):
            table = _table_path(content, counts)
            paths = [table[:length] for length in range(1, len(table) + 1)]
        else:
            paths = [table + path for path in _paths(content)]
        for path in paths:
            lines.setdefault(path, line)
    return lines


def repeated_rule(text: str) -> tuple[str, int, int] | None:
    """The first name that two lines of [rules] have, with the lines of both; None where all names differ."""
    table: KeyPath = ()
    first_lines: dict[str, int] = {}
    for line, statement, content in _statements(text):
        if statement.lstrip().startswith("["):
            table = _table_path(content, {})
        elif table == ("rules",):
            name = next(iter(content))
            if name in first_lines:
                return name, first_lines[name], line
            first_lines[name] = line
    return None


def _statements(text: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    first_line, statement, budget = 1, "", MOST_READ
    for line_number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        statement = f"{statement}\n{line}" if statement else line
        budget -= len(statement)
        if budget < 0:
            return
        try:
            content = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        if content:
            yield first_line, statement, content
        first_line, statement = line_number + 1, ""


def _table_path(header: dict[str, Any], counts: dict[KeyPath, int]) -> KeyPath:
    """The path of the table that a header opens; `counts`, how many tables each array of tables has, is updated."""
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
        for tail in _paths(value, deepest - 1):
            yield (key, *tail)
