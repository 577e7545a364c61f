"""Rules about matrices, the last two axes of a weight: symmetric, Toeplitz and their kin, centred."""

from __future__ import annotations

from affinet.errors import ShapeError
from affinet.language.expression import Constraint, Expression, concat
from affinet.language.families.saying import checked, said
from affinet.language.weight_groups import over_weights


@over_weights
def symmetric(w: Expression) -> Constraint:
    """`w == w.mT`: every matrix is its transpose. The last two axes are equally long."""
    w = square("symmetric", w)
    return said(w == w.mT, "symmetric", w)


@over_weights
def skew(w: Expression) -> Constraint:
    """`w == -w.mT`: every matrix is minus its transpose, so its diagonal is zero."""
    w = square("skew", w)
    return said(w == -w.mT, "skew", w)


@over_weights
def persymmetric(w: Expression) -> Constraint:
    """`w[..., i, j] == w[..., n - 1 - j, n - 1 - i]`: symmetric about the other diagonal."""
    w = square("persymmetric", w)
    return said(w == w.mT.flip(-2, -1), "persymmetric", w)


@over_weights
def toeplitz(w: Expression) -> Constraint:
    """`w[..., i + 1, j + 1] == w[..., i, j]`: every diagonal holds one number. Any two sizes."""
    w = matrices("toeplitz", w)
    return said(w[..., 1:, 1:] == w[..., :-1, :-1], "toeplitz", w)


@over_weights
def hankel(w: Expression) -> Constraint:
    """`w[..., i + 1, j] == w[..., i, j + 1]`: each diagonal of equal `i + j` holds one number. Any sizes."""
    w = matrices("hankel", w)
    return said(w[..., 1:, :-1] == w[..., :-1, 1:], "hankel", w)


@over_weights
def circulant(w: Expression) -> Constraint:
    """`w[..., i + 1, (j + 1) % n] == w[..., i, j]`: every row is the one above, moved one place round."""
    w = square("circulant", w)
    return said(w[..., 1:, :].roll(-1, -1) == w[..., :-1, :], "circulant", w)


@over_weights
def doubly_centred(w: Expression) -> Constraint:
    """Every row and every column sums to zero: n + m equations, of which one follows from the others. Any two sizes."""
    w = matrices("doubly_centred", w)
    return said(concat([w.sum(-1), w.sum(-2)], dim=-1) == 0, "doubly_centred", w)


def matrices(family: str, w: object) -> Expression:
    """`w`, an expression of two axes or more.

    Errors: `RuleError` for what is no expression, `ShapeError` for fewer axes.
    """
    stack = checked(family, w)
    if stack.ndim < 2:
        raise ShapeError(f"{family} is about matrices: ({stack}) has shape {stack.shape}, and needs two axes.")
    return stack


def square(family: str, w: object) -> Expression:
    """`w`, an expression whose last two axes are equally long.

    Errors: as `matrices`, and `ShapeError` where they differ.
    """
    stack = matrices(family, w)
    if stack.shape[-1] != stack.shape[-2]:
        raise ShapeError(
            f"{family} is about square matrices: the last two axes of ({stack}) of shape {stack.shape} differ."
        )
    return stack
