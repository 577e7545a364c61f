"""Classes of entries that hold one number, up to its sign: patterns, and what equivariance makes of orbits."""

from __future__ import annotations

from typing import Any

import numpy as np

from affinet.errors import ShapeError
from affinet.language.calculus.terms import Integers
from affinet.language.constants import read_array, word_of
from affinet.language.expression import Constraint, Expression, concat
from affinet.language.families.saying import checked, said
from affinet.language.weight_groups import over_weights


@over_weights
def share(w: Expression, pattern: Any, signs: Any = None) -> Constraint:
    """Entries with equal numbers in `pattern`, an integer array of the shape of `w`, are equal; negative: left free.

    With `signs`, -1, 0 or 1 for every entry, each is its sign times the number of its class, so that 0 makes it zero.
    As many equations as marked entries less the distinct marks of those that are not zero: each is tied to the first
    of its class in row-major order.
    Errors: `ShapeError` for a pattern that holds no integers, other signs, or another shape.
    """
    w = checked("share", w)
    marks = _integers("pattern", pattern, w)
    if signs is None:
        return said(tied(w.flatten(), marks.reshape(-1), None) == 0, "share", w, pattern=word_of(marks))
    signed = _integers("signs", signs, w).astype(np.int64)
    if (np.abs(signed) > 1).any():
        raise ShapeError(f"the signs for ({w}) hold {signed[np.abs(signed) > 1][0]}, and a sign is -1, 0 or 1.")
    left = tied(w.flatten(), marks.reshape(-1), signed.reshape(-1))
    return said(left == 0, "share", w, pattern=word_of(marks), signs=word_of(signed))


def tied(flat: Expression, marks: Integers, signs: Integers | None) -> Expression:
    """What is zero where the last axis of `flat` is shared out by `marks`: see `share`.

    To the first of a class and not to the one before: classes of millions are then followed in one step.
    """
    marked = marks >= 0
    live = marked if signs is None else marked & (signs != 0)
    first = _first_of_class(marks, live)
    after = np.flatnonzero(live & (first != np.arange(len(marks))))
    before = first[after]
    second = flat[..., after]
    if signs is not None and (opposite := signs[before] * signs[after]).min(initial=1) < 0:
        second = second * opposite.astype(np.float64)
    ties = flat[..., before] - second
    zeros = np.flatnonzero(marked & ~live)
    return concat([ties, flat[..., zeros]], dim=-1) if len(zeros) else ties


def _first_of_class(marks: Integers, live: np.ndarray) -> Integers:
    """The first live place with the mark of each place; anything at places that are not live."""
    places = np.flatnonzero(live)
    numbers = marks[places]
    low, high = (int(numbers.min()), int(numbers.max())) if len(numbers) else (0, 0)
    if high - low > 8 * len(marks):
        numbers = np.unique(numbers, return_inverse=True)[1]
        low, high = 0, int(numbers.max())
    seen = np.zeros(high - low + 1, np.int64)
    seen[numbers[::-1] - low] = places[::-1]  # of repeated places NumPy keeps the last
    first = np.zeros(len(marks), np.int64)
    first[places] = seen[numbers - low]
    return first


def _integers(what: str, given: Any, w: Expression) -> Integers:
    array = read_array(given)[0]
    holds, has, needs = (
        ("holds", "has", "needs integers: equal ones share a value")
        if what == "pattern"
        else ("hold", "have", "need integers: -1, 0 or 1 for every entry")
    )
    if array.dtype.kind not in "iu":
        raise ShapeError(f"the {what} for ({w}) {holds} {array.dtype}, and {needs}.")
    if array.shape != w.shape:
        raise ShapeError(f"the {what} {has} shape {array.shape}, and ({w}) has shape {w.shape}. They must be equal.")
    return array
