"""Rules that nonnegative weights have a given sum, at most a given sum, or given sums of rows and of columns."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from affinet.errors import ConstantError
from affinet.language.affine import Dims
from affinet.language.calculus.terms import Floats
from affinet.language.constants import Constant, read_constant
from affinet.language.expression import Expression
from affinet.language.families.matrices import checked_matrices
from affinet.language.families.naming import checked_expression
from affinet.language.weight_groups import Rules, over_weights


@over_weights
def simplex(w: Expression, dim: Dims = None, total: Any = 1) -> Rules:
    """The rules `w >= 0` and `w.sum(dim) == total`: shares of a total, along `dim` or over all of `w`."""
    w = checked_expression("simplex", w)
    return Rules((w >= 0, _sums(w, dim) == total), ("nonnegative", "sum"))


@over_weights
def sum_at_most(w: Expression, total: Any, dim: Dims = None) -> Rules:
    """The rules `w >= 0` and `w.sum(dim) <= total`: a budget, along `dim` or over all of `w`.

    Without `w >= 0` write `w.sum(dim) <= total`.
    """
    w = checked_expression("sum_at_most", w)
    return Rules((w >= 0, _sums(w, dim) <= total), ("nonnegative", "sum"))


@over_weights
def transport(w: Expression, rows: Any, columns: Any) -> Rules:
    """The rules `w >= 0`, `w.sum(dim=-1) == rows` and `w.sum(dim=-2) == columns`, for the last two axes.

    `rows` and `columns` are numbers, or arrays that broadcast to the sums.
    Errors: `ConstantError` where the sums of rows and those of columns have different totals.
    """
    w = checked_matrices("transport", w)
    left, right = read_constant(rows), read_constant(columns)
    rules = Rules((w >= 0, w.sum(dim=-1) == left, w.sum(dim=-2) == right), ("nonnegative", "rows", "columns"))
    _check_totals(w, left, right)
    return rules


def _sums(w: Expression, dim: Dims) -> Expression:
    return w.sum() if dim is None else w.sum(dim)


def _check_totals(w: Expression, rows: Constant, columns: Constant) -> None:
    """Raise ConstantError for the first matrix whose rows and columns add up to different totals beyond rounding."""
    stack = w.shape[:-2]
    of_rows, of_columns = _totals(rows, (*stack, w.shape[-2])), _totals(columns, (*stack, w.shape[-1]))
    magnitude = abs(of_rows) + abs(of_columns)
    rounding = max(rows.epsilon, columns.epsilon) * (w.shape[-2] + w.shape[-1]) * magnitude
    wrong = np.argwhere(abs(of_rows - of_columns) > rounding)
    if len(wrong):
        place = tuple(map(int, wrong[0]))
        matrix = f" in matrix {place[0] if len(place) == 1 else place}" if place else ""
        raise ConstantError(
            f"the rows of ({w}) are to sum to {of_rows[place]:.9g} in all and the columns to {of_columns[place]:.9g}"
            f"{matrix}, but both are the sum of the matrix. Scale one of them."
        )


def _totals(sums: Constant, shape: tuple[int, ...]) -> Floats:
    values = np.broadcast_to(np.broadcast_to(sums.values, sums.shape), shape)
    totals: Floats = np.asarray(values.sum(axis=-1, dtype=np.float64))
    assert totals.size == prod(shape[:-1])
    return totals
