"""Rules that bound every entry: not negative, between two bounds, or of a limited magnitude."""

from __future__ import annotations

from typing import Any

import numpy as np

from affinet.errors import ConstantError, RuleError
from affinet.language.constants import Constant, negative, read_bound, read_constant
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression
from affinet.language.families.naming import checked_expression
from affinet.language.forecast import forecast
from affinet.language.sense import unbounded
from affinet.language.weight_groups import Rules, over_weights


@over_weights
def between(lower: Any, w: Expression, upper: Any) -> Rules:
    """The rules `w >= lower` and `w <= upper`, which reports show one by one.

    Bounds are numbers, arrays that broadcast with `w`, or expressions; where they are infinite there is no bound. A
    rule without any bound is left out.
    Errors: `ConstantError` for NaN, and where a lower bound is above the upper bound; `RuleError` for weights in the
    place of a bound, and a bound in theirs.
    """
    if not isinstance(w, Expression) and any(isinstance(bound, Expression) for bound in (lower, upper)):
        raise RuleError(
            f"between takes a lower bound, then weights, then an upper bound: affinet.between(lower, w, upper). "
            f"Got ({lower!s:.40}), ({w!s:.40}), ({upper!s:.40})."
        )
    w = checked_expression("between", w)
    low = lower if isinstance(lower, Expression) else read_bound(lower, unbounded(">="), w.affine.wording)
    high = upper if isinstance(upper, Expression) else read_bound(upper, unbounded("<="), w.affine.wording)
    if isinstance(low, Constant) and isinstance(high, Constant):
        _check_order(w, low, high)
    rules: dict[str, Constraint] = {}
    if isinstance(low, Expression) or np.isfinite(low.values).any():
        rules["lower"] = w >= low
    if isinstance(high, Expression) or np.isfinite(high.values).any():
        rules["upper"] = w <= high
    return Rules(tuple(rules.values()), tuple(rules))


@over_weights
def nonnegative(w: Expression) -> Constraint:
    """`w >= 0`."""
    return checked_expression("nonnegative", w) >= 0


@over_weights
def linf_ball(w: Expression, radius: Any) -> Rules:
    """`|w| <= radius` in every entry, as the rules `w >= -radius` and `w <= radius`.

    `radius` is a number, or an array that broadcasts with `w`.
    Errors: `ConstantError` for a radius that is not a positive number.
    """
    w = checked_expression("linf_ball", w)
    high = read_radius("linf_ball", w, radius)
    return Rules((w >= negative(high), w <= high), ("lower", "upper"))


def read_radius(family: str, w: Expression, radius: Any, called: str = "radius") -> Constant:
    """The radius of a ball or a sphere. Raises ConstantError for entries that are not positive."""
    constant = read_constant(radius)
    values = np.broadcast_to(constant.values, constant.shape)
    wrong = np.argwhere(values <= 0)
    if len(wrong):
        place = tuple(map(int, wrong[0]))
        raise ConstantError(
            f"the {called} of {family} of ({w}) must be positive; it is {values[place]}{_place_text(place)}. For "
            f"weights at 0 write families.fix."
        )
    return constant


def _place_text(place: tuple[int, ...]) -> str:
    """` at 2`, ` at (0, 1)`, or nothing for a single number."""
    return f" at {place[0] if len(place) == 1 else place}" if place else ""


def _check_order(w: Expression, low: Constant, high: Constant) -> None:
    """Raise ConstantError for the first entry whose lower bound is above its upper bound, if the shapes fit."""
    lower, upper = (np.broadcast_to(bound.values, bound.shape) for bound in (low, high))
    try:
        lower, upper = np.broadcast_arrays(lower, upper)
    except ValueError:
        return  # the rules broadcast with w and tell which shapes do not fit
    if np.max(low.values, initial=-np.inf) <= np.min(high.values, initial=np.inf):
        return  # the usual case, which needs no array of all pairs where one bound is of rows and the other of columns
    forecast(f"the bounds of ({w})", lower.size, item_bytes=1)
    wrong = np.argwhere(lower > upper)
    if len(wrong):
        place = tuple(map(int, wrong[0]))
        raise ConstantError(
            f"the lower bound of ({w}) is above its upper bound{_place_text(place)}: {lower[place]} > {upper[place]}. "
            f"Exchange the bounds, or loosen one."
        )
