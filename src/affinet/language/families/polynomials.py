"""The rule that polynomials in the entries of weights are zero, given as a table of monomials."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from affinet.errors import ShapeError
from affinet.language.calculus.terms import Floats
from affinet.language.constants import read_constant
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression, concat
from affinet.language.families.naming import checked_expression, named_rule

COLUMNS = "the columns equation, coefficient, entry, power, entry, power, …"


def polynomial(weights: Sequence[Expression], table: Any) -> Constraint:
    """Equations `Σ coefficient · entry^power · entry^power · … == 0`, one row of `table` for each monomial.

    The columns of `table` are the number of the equation, from 0, the coefficient, and pairs of an entry and its power.
    Entries are counted from 0 through the listed weights, each flattened row-major, one after the other. A pair with
    the power 0 counts for nothing, so that short monomials are filled up with zeros; a row of such pairs is a constant.
    Errors: `ShapeError` for a table of another shape, and for equations, entries and powers that are not integers or
    are out of range; `NotAffineError` for powers beyond 64.
    """
    parts = [checked_expression("polynomial", w) for w in weights]
    entries = concat([w.flatten() for w in parts])
    constant = read_constant(table)
    rows = np.broadcast_to(constant.values, constant.shape)
    if rows.ndim != 2 or rows.shape[1] % 2 or rows.shape[1] < 2 or not len(rows):
        raise ShapeError(f"the table of polynomial has shape {constant.shape}, and needs a row or more with {COLUMNS}.")
    equations, powers = _integers(rows[:, :1], "equations", len(rows)), _integers(rows[:, 3::2], "powers", None)
    places = np.where(powers, _integers(np.where(powers, rows[:, 2::2], 0), "entries", entries.size), 0)
    count = int(equations.max()) + 1
    missing = set(range(count)) - set(equations.ravel().tolist())
    if missing:
        raise ShapeError(f"equation {min(missing)} of polynomial has no monomials: number the equations 0, 1, 2, …")
    patterns, members = np.unique(powers, axis=0, return_inverse=True)
    sides = np.zeros(count) + 0 * entries[:0].sum()
    for number, pattern in enumerate(patterns):
        chosen = np.flatnonzero(members.reshape(-1) == number)
        weighted = np.zeros((count, len(chosen)))
        weighted[equations[chosen, 0], np.arange(len(chosen))] = rows[chosen, 1]
        factors = [entries[places[chosen, k]] ** int(power) for k, power in enumerate(pattern) if power]
        sides = sides + (weighted @ prod(factors[1:], start=factors[0]) if factors else weighted.sum(axis=1))
    return named_rule(sides == 0, "polynomial", *parts, listed=True, table=constant.wording)


def _integers(values: Floats, what: str, bound: int | None) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Numbers of a table as integers. Raises ShapeError for fractions, and for numbers outside 0 to `bound` - 1."""
    wrong = (values != np.floor(values)) | (np.abs(values) > 2**31)
    if bound is not None:
        wrong |= (values < 0) | (values >= bound)
    if wrong.any():
        span = f"0 to {bound - 1}" if bound is not None else "integers"
        raise ShapeError(f"the {what} in the table of polynomial must be {span}; one is {float(values[wrong][0]):g}.")
    return values.astype(np.int64)
