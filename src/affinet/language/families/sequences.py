"""Rules about the order of entries along an axis: monotone, convex and concave sequences."""

from __future__ import annotations

from typing import Any

from affinet.language.constants import negative, read_constant
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression
from affinet.language.families.naming import checked_expression, named_rule
from affinet.language.weight_groups import over_weights
from affinet.language.wording import differing


@over_weights
def monotone(w: Expression, dim: int = -1, increasing: bool = True, gap: Any = 0) -> Constraint:
    """`w.diff(dim) >= gap`, or `w.diff(dim) <= -gap` where it decreases: entries along `dim` are in order.

    `gap` is a number, or an array that broadcasts to the differences; with a negative gap neighbours may be out
    of order by that much.
    """
    w = checked_expression("monotone", w)
    smallest = read_constant(gap)
    steps = w.diff(dim)
    rule = steps >= smallest if increasing else steps <= negative(smallest)
    options: dict[str, Any] = differing(increasing=(bool(increasing), True), gap=(gap, 0))
    if "gap" in options:
        options["gap"] = smallest.wording
    return named_rule(rule, "monotone", w, dim=dim, **options)


@over_weights
def convex(w: Expression, dim: int = -1) -> Constraint:
    """`w.diff(dim).diff(dim) >= 0`: values at equal distances along `dim` curve upwards."""
    w = checked_expression("convex", w)
    return named_rule(w.diff(dim).diff(dim) >= 0, "convex", w, dim=dim)


@over_weights
def concave(w: Expression, dim: int = -1) -> Constraint:
    """`w.diff(dim).diff(dim) <= 0`: values at equal distances along `dim` curve downwards."""
    w = checked_expression("concave", w)
    return named_rule(w.diff(dim).diff(dim) <= 0, "concave", w, dim=dim)
