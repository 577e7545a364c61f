"""What is wrong with a piece of syntax in the text of a rule, with the piece that it is about."""

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
    """An error of the language itself, and the piece of syntax that raised it."""

    def __init__(self, node: ast.AST, error: AffinetError) -> None:
        super().__init__(str(error))
        self.node, self.error = node, error


def attempt(node: ast.AST, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a function of the language returns; `Located` at `node` for what it raises."""
    try:
        return function(*arguments, **options)
    except AffinetError as error:
        raise Located(node, error) from None


def suggestion(name: str, known: Collection[str]) -> str:
    """` Did you mean x?`, or nothing where no known name is near."""
    for one in known:
        if one.lower() == name.lower():
            return f" Did you mean {one}?"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {near[0]}?" if near else ""
