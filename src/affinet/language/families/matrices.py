"""Rules about matrices, which are the last two axes of a weight: symmetric, Toeplitz and the like, centred."""

from __future__ import annotations

from affinet.errors import ShapeError
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression, concat
from affinet.language.families.naming import checked_expression, named_rule
from affinet.language.weight_groups import over_weights


@over_weights
def symmetric(w: Expression) -> Constraint:
    """`w == w.mT`: every matrix is its transpose. The last two axes are equally long."""
    w = checked_square("symmetric", w)
    return named_rule(w == w.mT, "symmetric", w)


@over_weights
def skew(w: Expression) -> Constraint:
    """`w == -w.mT`: every matrix is minus its transpose, so its diagonal is zero."""
    w = checked_square("skew", w)
    return named_rule(w == -w.mT, "skew", w)


@over_weights
def persymmetric(w: Expression) -> Constraint:
    """`w[..., i, j] == w[..., n - 1 - j, n - 1 - i]`: symmetric about the other diagonal."""
    w = checked_square("persymmetric", w)
    return named_rule(w == w.mT.flip(-2, -1), "persymmetric", w)


@over_weights
def toeplitz(w: Expression) -> Constraint:
    """`w[..., i + 1, j + 1] == w[..., i, j]`: every diagonal holds one number. Any two sizes."""
    w = checked_matrices("toeplitz", w)
    return named_rule(w[..., 1:, 1:] == w[..., :-1, :-1], "toeplitz", w)


@over_weights
def hankel(w: Expression) -> Constraint:
    """`w[..., i + 1, j] == w[..., i, j + 1]`: each diagonal of equal `i + j` holds one number. Any sizes."""
    w = checked_matrices("hankel", w)
    return named_rule(w[..., 1:, :-1] == w[..., :-1, 1:], "hankel", w)


@over_weights
def circulant(w: Expression) -> Constraint:
    """`w[..., i + 1, (j + 1) % n] == w[..., i, j]`: every row is the one above, moved one place round."""
    w = checked_square("circulant", w)
    return named_rule(w[..., 1:, :].roll(-1, -1) == w[..., :-1, :], "circulant", w)


@over_weights
def doubly_centred(w: Expression) -> Constraint:
    """Every row and every column sums to zero: n + m equations, one of which follows from the others. Any two sizes."""
    w = checked_matrices("doubly_centred", w)
    return named_rule(concat([w.sum(-1), w.sum(-2)], dim=-1) == 0, "doubly_centred", w)


def checked_matrices(family: str, w: object) -> Expression:
    """`w`, checked to be an expression of two axes or more.

    Errors: `RuleError` for anything but an expression, `ShapeError` for fewer axes.
    """
    stack = checked_expression(family, w)
    if stack.ndim < 2:
        raise ShapeError(f"{family} is about matrices: ({stack}) has shape {stack.shape}, and needs two axes or more.")
    return stack


def checked_square(family: str, w: object) -> Expression:
    """`w`, checked to be an expression whose last two axes are equally long.

    Errors: as `matrices`, and `ShapeError` where they differ.
    """
    stack = checked_matrices(family, w)
    if stack.shape[-1] != stack.shape[-2]:
        raise ShapeError(
            f"{family} is about square matrices: the last two axes of ({stack}) of shape {stack.shape} differ."
        )
    return stack
