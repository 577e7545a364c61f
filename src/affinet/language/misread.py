"""Exceptions that carry the piece of syntax that is wrong in the text of a rule, and helpers that raise them."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Collection
from typing import Any

from affinet.errors import AffinetError


class Misread(Exception):
    """A piece of syntax that is not in the language."""

    def __init__(self, node: ast.AST, reason: str) -> None:
        super().__init__(reason)
        self.node, self.reason = node, reason


class Located(Exception):
    """An error of the language, such as a `ShapeError`, with the piece of syntax that raised it."""

    def __init__(self, node: ast.AST, error: AffinetError) -> None:
        super().__init__(str(error))
        self.node, self.error = node, error


def attempt(node: ast.AST, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a function of the language, and turn an error of it into `Located` at `node`."""
    try:
        return function(*arguments, **options)
    except AffinetError as error:
        raise Located(node, error) from None


def suggestion(name: str, known_names: Collection[str]) -> str:
    """The text ` Did you mean x?`, or an empty text where no known name is similar."""
    for candidate in known_names:
        if candidate.lower() == name.lower():
            return f" Did you mean {candidate}?"
    matches = difflib.get_close_matches(name, known_names, n=1, cutoff=0.5)
    return f" Did you mean {matches[0]}?" if matches else ""
