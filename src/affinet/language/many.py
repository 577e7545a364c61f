"""A mark for values that stand for several expressions: an operator with one of them is done to each."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

Result = TypeVar("Result")


class Many:
    """Several expressions, each of which an operator or a family is about."""

    __slots__ = ()


def one_to_one(operator: Callable[[Any, Any], Result]) -> Callable[[Any, Any], Result]:
    """An operator of one expression that leaves the other operand to it where that is several."""

    @wraps(operator)
    def asked(subject: Any, other: Any) -> Any:
        return NotImplemented if isinstance(other, Many) else operator(subject, other)

    return asked
