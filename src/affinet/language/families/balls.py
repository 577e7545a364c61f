"""Rules that bound the norms of vectors along some axes, the largest singular values of matrices, or eigenvalues."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from affinet.errors import ShapeError
from affinet.language.affine import Dims, checked_axes
from affinet.language.constants import Constant, compact, read_constant
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression
from affinet.language.families.bounds import read_radius
from affinet.language.families.matrices import checked_matrices, checked_square
from affinet.language.families.naming import checked_expression, named_rule
from affinet.language.origin import Family, FamilyName
from affinet.language.sense import Norm, Spectrum
from affinet.language.weight_groups import over_weights


@over_weights
def l1_ball(w: Expression, radius: Any, dim: Dims = None) -> Constraint:
    """`|w|.sum(dim) <= radius`: one inequality for each vector along `dim`, or one for all entries.

    `radius` is a number, or an array that broadcasts to the other axes.
    Errors: `ConstantError` for a radius that is not a positive number, `ShapeError` where it does not fit.
    """
    return _ball("l1_ball", 1, w, radius, dim)


@over_weights
def l2_ball(w: Expression, radius: Any, dim: Dims = None) -> Constraint:
    """`w.square().sum(dim).sqrt() <= radius`: one inequality for each vector along `dim`, or one for all entries.

    `radius` is a number, or an array that broadcasts to the other axes.
    Errors: `ConstantError` for a radius that is not a positive number, `ShapeError` where it does not fit.
    """
    return _ball("l2_ball", 2, w, radius, dim)


@over_weights
def spectral_norm(w: Expression, bound: Any) -> Constraint:
    """The largest singular value of every matrix is at most `bound`: of the last two axes, one inequality per matrix.

    `bound` is a number, or an array that broadcasts to the other axes. A weight in it can be in no other rule.
    Errors: `ConstantError` for a bound that is not a positive number, `ShapeError` where there are no matrices.
    """
    w = checked_matrices("spectral_norm", w)
    limit = read_radius("spectral_norm", w, bound, "bound")
    rows, columns = w.shape[-2:]
    rule = _measured("spectral_norm", Spectrum("spectral", rows, columns), _laid_out(w), w, limit)
    return named_rule(rule, "spectral_norm", w, bound=limit.wording)


@over_weights
def psd(w: Expression) -> Constraint:
    """Every matrix is symmetric and positive semidefinite: no eigenvalue is below 0; one inequality per matrix.

    A weight in it can be in no other rule. `spd` keeps eigenvalues above a floor, by a factor, under other rules too.
    Errors: `ShapeError` where the matrices are not square.
    """
    w = checked_square("psd", w)
    rows = w.shape[-1]
    rule = _measured("psd", Spectrum("negative", rows, rows), _laid_out(w), w, read_constant(0.0))
    return named_rule(rule, "psd", w)


def _ball(family: FamilyName, norm: Norm, w: object, radius: Any, dim: Dims) -> Constraint:
    w = checked_expression(family, w)
    limit = read_radius(family, w, radius)
    axes = checked_axes(w.affine, dim, w.affine.wording)
    other_axes = tuple(axis for axis in range(w.ndim) if axis not in axes)
    vectors = (w.permute(*other_axes, *axes) if axes != tuple(range(len(other_axes), w.ndim)) else w).reshape(
        *(w.shape[axis] for axis in other_axes), prod(w.shape[axis] for axis in axes)
    )
    rule = _measured(family, norm, vectors, w, limit)
    options: dict[str, Any] = {} if dim is None else {"dim": dim}
    return named_rule(rule, family, w, radius=limit.wording, **options)


def _laid_out(w: Expression) -> Expression:
    """The matrices of the last two axes, each laid end to end."""
    return w.reshape(*w.shape[:-2], w.shape[-2] * w.shape[-1])


def _measured(family: FamilyName, norm: Norm, vectors: Expression, w: Expression, limit: Constant) -> Constraint:
    """The rule that the norm of every vector along the last axis is at most the limit."""
    shape = vectors.shape[:-1]
    try:
        values = np.broadcast_to(np.broadcast_to(limit.values, limit.shape), shape)
    except ValueError:
        what = "bound" if family == "spectral_norm" else "radius"
        raise ShapeError(
            f"the {what} of {family} has shape {limit.shape}, and must broadcast to the shape {shape} of the "
            f"{'matrices' if isinstance(norm, Spectrum) else 'vectors'} of ({w})."
        ) from None
    affine = replace(vectors.affine, epsilon=max(w.epsilon, limit.epsilon))
    return Constraint(
        Expression(affine),
        (w.affine.wording, limit.wording),
        Family(family),
        sense="<=",
        norm=norm,
        radius=compact(values),
    )
