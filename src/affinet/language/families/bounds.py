"""Bounds of single entries: between two numbers or two arrays, and not negative."""

from __future__ import annotations

from typing import Any

import numpy as np

from affinet.errors import ConstantError
from affinet.language.constants import Constant, read_bound
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression
from affinet.language.families.naming import checked_expression
from affinet.language.sense import unbounded
from affinet.language.weight_groups import Rules, over_weights


@over_weights
def between(lower: Any, w: Expression, upper: Any) -> Rules:
    """The rules `w >= lower` and `w <= upper`, which reports show one by one.

    Bounds are numbers, arrays that broadcast with `w`, or expressions; where they are infinite there is no bound. A
    rule without any bound is left out.
    Errors: `ConstantError` for NaN, and where a lower bound is above the upper bound.
    """
    w = checked_expression("between", w)
    low = lower if isinstance(lower, Expression) else read_bound(lower, unbounded(">="))
    high = upper if isinstance(upper, Expression) else read_bound(upper, unbounded("<="))
    if isinstance(low, Constant) and isinstance(high, Constant):
        _check_order(w, low, high)
    rules: dict[str, Constraint] = {}
    if isinstance(low, Expression) or np.isfinite(low.values).any():
        rules["lower"] = w >= low
    if isinstance(high, Expression) or np.isfinite(high.values).any():
        rules["upper"] = w <= high
    return Rules(tuple(rules.values()), tuple(rules))


def _check_order(w: Expression, low: Constant, high: Constant) -> None:
    """Raise ConstantError for the first entry whose lower bound is above its upper bound, if the shapes fit."""
    lower, upper = (np.broadcast_to(bound.values, bound.shape) for bound in (low, high))
    try:
        lower, upper = np.broadcast_arrays(lower, upper)
    except ValueError:
        return  # the rules broadcast with w and tell which shapes do not fit
    wrong = np.argwhere(lower > upper)
    if len(wrong):
        place = tuple(map(int, wrong[0]))
        where = f" at {place[0] if len(place) == 1 else place}" if place else ""
        raise ConstantError(
            f"the lower bound of ({w}) is above its upper bound{where}: {lower[place]} > {upper[place]}. "
            f"Exchange the bounds, or loosen one."
        )
