"""Show a rule as a call of its family, `symmetric(hidden.weight)`, and record the family as the rule's origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from affinet.errors import RuleError
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression
from affinet.language.origin import Family, FamilyName, Linear
from affinet.language.wording import Function


def named_rule(
    rule: Constraint, family: FamilyName, *subjects: Expression, listed: bool = False, **arguments: Any
) -> Constraint:
    """The same rule, shown as a call of `family`."""
    return _shown_as_call(rule, family, Family(family), subjects, arguments, listed=listed)


def named_linear_rule(rule: Constraint, origin: Linear, *subjects: Expression, **arguments: Any) -> Constraint:
    """The same rule, shown as a call of `linear`."""
    return _shown_as_call(rule, "linear", origin, subjects, arguments, listed=True)


def _shown_as_call(
    rule: Constraint,
    name: str,
    origin: Linear | Family,
    subjects: Sequence[Expression],
    arguments: Mapping[str, Any],
    *,
    listed: bool,
) -> Constraint:
    wordings = tuple(subject.affine.wording for subject in subjects)
    return replace(rule, wording=Function(name, wordings, tuple(arguments.items()), listed=listed), origin=origin)


def checked_expression(family: str, w: object) -> Expression:
    """`w`, checked to be an expression.

    Errors: `RuleError` for anything else.
    """
    if isinstance(w, Expression):
        return w
    raise RuleError(f"{family} takes weights, such as w.hidden.weight; got {w!r:.60} ({type(w).__name__}).")
