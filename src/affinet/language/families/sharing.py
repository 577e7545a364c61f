"""Rules that let classes of entries share one number, up to its sign: patterns, and the orbits of equivariance."""

from __future__ import annotations

from typing import Any

import numpy as np

from affinet.errors import ShapeError
from affinet.language.calculus.terms import Integers
from affinet.language.constants import read_array, word_of
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression, concat
from affinet.language.families.naming import checked_expression, named_rule
from affinet.language.weight_groups import over_weights


@over_weights
def share(w: Expression, pattern: Any, signs: Any = None) -> Constraint:
    """Entries whose numbers in `pattern` are equal are equal; entries with a negative number stay free.

    `pattern` is an integer array of the shape of `w`. With `signs` (-1, 0 or 1 for every entry) an entry is its sign
    times the number of its class, so that the sign 0 makes it zero. Every entry but the first of its class in
    row-major order gives one equation: it is tied to that first entry.
    Errors: `ShapeError` for a pattern that is not of integers, for other signs, and for another shape.
    """
    w = checked_expression("share", w)
    marks = _integers("pattern", pattern, w)
    if signs is None:
        return named_rule(tie_to_first(w.flatten(), marks.reshape(-1), None) == 0, "share", w, pattern=word_of(marks))
    signed = _integers("signs", signs, w).astype(np.int64)
    if (np.abs(signed) > 1).any():
        raise ShapeError(f"the signs for ({w}) must be -1, 0 or 1; got {signed[np.abs(signed) > 1][0]}.")
    differences = tie_to_first(w.flatten(), marks.reshape(-1), signed.reshape(-1))
    return named_rule(differences == 0, "share", w, pattern=word_of(marks), signs=word_of(signed))


def tie_to_first(flat: Expression, marks: Integers, signs: Integers | None) -> Expression:
    """The expression that is zero exactly where the last axis of `flat` obeys `share` with these marks and signs.

    Entries are tied to the first of their class and not to the one before, so that planning follows a tie in one step
    also in classes of millions.
    """
    in_class = marks >= 0
    nonzero = in_class if signs is None else in_class & (signs != 0)
    first = _first_of_class(marks, nonzero)
    later = np.flatnonzero(nonzero & (first != np.arange(len(marks))))
    first_places = first[later]
    second = flat[..., later]
    if signs is not None and (opposite := signs[first_places] * signs[later]).min(initial=1) < 0:
        second = second * opposite.astype(np.float64)
    ties = flat[..., first_places] - second
    zeros = np.flatnonzero(in_class & ~nonzero)
    return concat([ties, flat[..., zeros]], dim=-1) if len(zeros) else ties


def _first_of_class(marks: Integers, nonzero: np.ndarray) -> Integers:
    """The first nonzero place that has the same mark, for every nonzero place; 0 at all other places."""
    places = np.flatnonzero(nonzero)
    numbers = marks[places]
    low, high = (int(numbers.min()), int(numbers.max())) if len(numbers) else (0, 0)
    if high - low > 8 * len(marks):
        numbers = np.unique(numbers, return_inverse=True)[1]
        low, high = 0, int(numbers.max())
    first_by_mark = np.zeros(high - low + 1, np.int64)
    first_by_mark[numbers[::-1] - low] = places[::-1]  # of repeated places NumPy keeps the last
    first = np.zeros(len(marks), np.int64)
    first[places] = first_by_mark[numbers - low]
    return first


def _integers(kind: str, value: Any, w: Expression) -> Integers:
    array = read_array(value)[0]
    holds_word, has_word, needs_text = (
        ("holds", "has", "needs integers: equal ones share a value")
        if kind == "pattern"
        else ("hold", "have", "need integers: -1, 0 or 1 for every entry")
    )
    if array.dtype.kind not in "iu":
        raise ShapeError(f"the {kind} for ({w}) {holds_word} {array.dtype}, and {needs_text}.")
    if array.shape != w.shape:
        raise ShapeError(
            f"the {kind} {has_word} shape {array.shape}, and ({w}) has shape {w.shape}. The shapes must be equal."
        )
    return array
