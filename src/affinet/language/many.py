"""A marker class for values that stand for several expressions: an operator on such a value applies to each of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

Result = TypeVar("Result")


class Many:
    """Several expressions; operators and families apply to each of them."""

    __slots__ = ()


def defer_to_many(operator: Callable[[Any, Any], Result]) -> Callable[[Any, Any], Result]:
    """Let an operator of one expression return NotImplemented for an operand that is `Many`, which then takes over."""

    @wraps(operator)
    def operate(subject: Any, other: Any) -> Any:
        return NotImplemented if isinstance(other, Many) else operator(subject, other)

    return operate
