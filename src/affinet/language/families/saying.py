"""The text that a family gives its rule: `symmetric(hidden.weight)` in place of the equation behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from affinet.errors import RuleError
from affinet.language.expression import Constraint, Expression
from affinet.language.wording import Function


def said(rule: Constraint, family: str, *subjects: Expression, listed: bool = False, **arguments: Any) -> Constraint:
    """The same rule, said as a call of `family`."""
    words = tuple(subject.affine.wording for subject in subjects)
    return replace(rule, said=Function(family, words, tuple(arguments.items()), listed=listed))


def checked(family: str, w: object) -> Expression:
    """`w`, an expression.

    Errors: `RuleError` for anything else.
    """
    if isinstance(w, Expression):
        return w
    raise RuleError(
        f"{family} is about weights, such as w.hidden.weight, and not about {w!r:.60} ({type(w).__name__})."
    )
