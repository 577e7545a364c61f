"""Give a rule the text and the origin of its family: `symmetric(hidden.weight)` in place of the equation behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from affinet.errors import RuleError
from affinet.language.expression import Constraint, Expression
from affinet.language.origin import Family, FamilyName, Linear
from affinet.language.wording import Function


def said(
    rule: Constraint, family: FamilyName, *subjects: Expression, listed: bool = False, **arguments: Any
) -> Constraint:
    """The same rule, shown as a call of `family`."""
    return _called(rule, family, Family(family), subjects, arguments, listed=listed)


def said_linear(rule: Constraint, origin: Linear, *subjects: Expression, **arguments: Any) -> Constraint:
    """The same rule, shown as a call of `linear`."""
    return _called(rule, "linear", origin, subjects, arguments, listed=True)


def _called(
    rule: Constraint,
    name: str,
    origin: Linear | Family,
    subjects: Sequence[Expression],
    arguments: Mapping[str, Any],
    *,
    listed: bool,
) -> Constraint:
    words = tuple(subject.affine.wording for subject in subjects)
    return replace(rule, said=Function(name, words, tuple(arguments.items()), listed=listed), origin=origin)


def checked(family: str, w: object) -> Expression:
    """`w`, an expression.

    Errors: `RuleError` for anything else.
    """
    if isinstance(w, Expression):
        return w
    raise RuleError(
        f"{family} is about weights, such as w.hidden.weight, and not about {w!r:.60} ({type(w).__name__})."
    )
