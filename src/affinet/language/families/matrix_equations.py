"""Rules about products of matrices and determinants: orthogonal matrices, rotations, involutions, projections."""

from __future__ import annotations

from typing import Any

import numpy as np

from affinet.errors import ConstantError, ShapeError
from affinet.language.constants import right_hand_side
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression
from affinet.language.families.matrices import checked_matrices, checked_square, symmetric
from affinet.language.families.naming import checked_expression, named_rule
from affinet.language.weight_groups import Rules, over_weights
from affinet.language.wording import Word, say


@over_weights
def orthogonal(w: Expression, of: str = "rows") -> Constraint:
    """`w @ w.mT == I`, on and above the diagonal: the rows of every matrix have length 1 and are orthogonal.

    With `of="columns"` it is `w.mT @ w == I`. For square matrices both mean the same.
    Errors: `ShapeError` where there are more rows (columns) than entries in each, or for another word.
    """
    w = checked_matrices("orthogonal", w)
    if of not in ("rows", "columns"):
        raise ShapeError(f'orthogonal is about the "rows" or the "columns" of ({w}); got of={of!r:.60}.')
    count, length = w.shape[-2:] if of == "rows" else w.shape[:-3:-1]
    if count > length:
        other = "columns" if of == "rows" else "rows"
        raise ShapeError(
            f"the {count} {of} of ({w}) of shape {w.shape} cannot be orthogonal to each other: each has {length} "
            f'entries. Write of="{other}".'
        )
    products = w @ w.mT if of == "rows" else w.mT @ w
    first, second = np.triu_indices(count)
    rule = products[..., first, second] == (first == second).astype(np.float64)
    options: dict[str, Any] = {} if of == "rows" else {"of": of}
    return named_rule(rule, "orthogonal", w, **options)


@over_weights
def rotation(w: Expression) -> Rules:
    """The rules `orthogonal(w)` and `determinant(w)`, which is 1: square matrices that turn and do not mirror.

    Orthogonal matrices have the determinant 1 or -1, so the determinant takes away no freedom. It picks one of the two
    components, between which training cannot move: weights must start nearer to a rotation than to a reflection.
    """
    w = checked_square("rotation", w)
    return Rules((orthogonal(w), determinant(w)), ("orthogonal", "determinant"))


@over_weights
def determinant(w: Expression, value: Any = 1.0) -> Constraint:
    """`det(w) == value`, for every matrix of a stack; `value` is a number, or one for each matrix."""
    w = checked_square("determinant", w)
    right = right_hand_side(value)
    options: dict[str, Any] = {"value": right.wording} if right.shape or right.values != 1.0 else {}
    return named_rule(w.det() == right, "determinant", w, **options)


@over_weights
def product(a: Expression, b: Expression, value: Any) -> Constraint:
    """`a @ b == value`: the matrix product of two weights, such as those of a decoder and an encoder.

    `value` is an array, a number, or an expression; for the identity give `np.eye(n)`.
    """
    a, b = checked_expression("product", a), checked_expression("product", b)
    right = value if isinstance(value, Expression) else right_hand_side(value)
    wording = right.affine.wording if isinstance(right, Expression) else right.wording
    return named_rule(a @ b == right, "product", a, b, value=_as_word(wording))


@over_weights
def involution(w: Expression) -> Constraint:
    """`w @ w == I`: every matrix is its own inverse.

    The number of eigenvalues that are -1 is that of the start: training cannot change it.
    """
    w = checked_square("involution", w)
    return named_rule(w @ w == np.eye(w.shape[-1]), "involution", w)


@over_weights
def projection_matrix(w: Expression) -> Rules:
    """The rules `symmetric(w)` and `w @ w == w`: orthogonal projections onto a subspace.

    The dimension of the subspace, which is the trace, is that of the start: training cannot change it. All entries of
    `w @ w` are in the rule: the half of them would weigh pairs of rows by where they stand, and weights that start off
    the rule would reach it farther away.
    """
    w = checked_square("projection_matrix", w)
    return Rules((symmetric(w), named_rule(w @ w == w, "projection_matrix", w)), ("symmetric", "idempotent"))


@over_weights
def spd(w: Expression, factor: Expression, floor: float = 0.0) -> Rules:
    """`w == factor @ factor.mT + floor * I`: every matrix is symmetric, and positive definite through its factor.

    `factor` (..., n, k) is another weight of the model, `w` has shape (..., n, n). No eigenvalue of `w` is below
    `floor`. With k < n all but k of them are equal to `floor`.
    Errors: `ShapeError` for a factor without a row for each row of `w`, `ConstantError` for a floor below zero.
    """
    w, factor = checked_square("spd", w), checked_matrices("spd", factor)
    size = w.shape[-1]
    if factor.shape[:-1] != w.shape[:-1]:
        raise ShapeError(
            f"spd takes a factor of shape (…, {size}, k) for ({w}) of shape {w.shape}; ({factor}) has shape "
            f"{factor.shape}."
        )
    least = right_hand_side(floor)
    if least.shape or not least.values >= 0.0:
        raise ConstantError(f"the floor of spd is a number, 0 or more; got {floor!r:.60}.")
    first, second = np.triu_indices(size)
    squares = (factor @ factor.mT + float(least.values) * np.eye(size))[..., first, second]
    options: dict[str, Any] = {"floor": least.wording} if least.values else {}
    by_factor = named_rule(w[..., first, second] == squares, "spd", w, factor, **options)
    return Rules((symmetric(w), by_factor), ("symmetric", "factor"))


def _as_word(wording: Any) -> Any:
    """The wording of a constant or an expression, as an argument of a call is shown."""
    return wording if isinstance(wording, int | float) else Word(say(wording))
