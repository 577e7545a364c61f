"""Rules about matrices, the last two axes of a weight: symmetric, skew, Toeplitz, circulant."""

from __future__ import annotations

from affinet.errors import ShapeError
from affinet.language.expression import Constraint, Expression
from affinet.language.families.saying import checked, said


def symmetric(w: Expression) -> Constraint:
    """`w == w.mT`: every matrix is its transpose. The last two axes are equally long."""
    w = _square("symmetric", w)
    return said(w == w.mT, "symmetric", w)


def skew(w: Expression) -> Constraint:
    """`w == -w.mT`: every matrix is minus its transpose, so its diagonal is zero."""
    w = _square("skew", w)
    return said(w == -w.mT, "skew", w)


def toeplitz(w: Expression) -> Constraint:
    """`w[..., i + 1, j + 1] == w[..., i, j]`: every diagonal holds one number. Any two sizes."""
    w = _matrices("toeplitz", w)
    return said(w[..., 1:, 1:] == w[..., :-1, :-1], "toeplitz", w)


def circulant(w: Expression) -> Constraint:
    """`w[..., i + 1, (j + 1) % n] == w[..., i, j]`: every row is the one above, moved one place round."""
    w = _square("circulant", w)
    return said(w[..., 1:, :].roll(-1, -1) == w[..., :-1, :], "circulant", w)


def _matrices(family: str, w: object) -> Expression:
    matrices = checked(family, w)
    if matrices.ndim < 2:
        raise ShapeError(f"{family} is about matrices: ({matrices}) has shape {matrices.shape}, and needs two axes.")
    return matrices


def _square(family: str, w: object) -> Expression:
    matrices = _matrices(family, w)
    if matrices.shape[-1] != matrices.shape[-2]:
        raise ShapeError(
            f"{family} is about square matrices: the last two axes of ({matrices}) of shape {matrices.shape} differ."
        )
    return matrices
