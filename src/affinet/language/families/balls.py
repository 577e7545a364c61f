"""Rules that the vectors along some axes have a limited norm: the sum of magnitudes, or the Euclidean length."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from affinet.errors import ShapeError
from affinet.language.affine import Dims, checked_axes
from affinet.language.constants import compact
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression
from affinet.language.families.bounds import read_radius
from affinet.language.families.naming import checked_expression, named_rule
from affinet.language.origin import Family, FamilyName
from affinet.language.sense import Norm
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


def _ball(family: FamilyName, norm: Norm, w: object, radius: Any, dim: Dims) -> Constraint:
    w = checked_expression(family, w)
    limit = read_radius(family, w, radius)
    axes = checked_axes(w.affine, dim, w.affine.wording)
    other_axes = tuple(axis for axis in range(w.ndim) if axis not in axes)
    vectors = (w.permute(*other_axes, *axes) if axes != tuple(range(len(other_axes), w.ndim)) else w).reshape(
        *(w.shape[axis] for axis in other_axes), prod(w.shape[axis] for axis in axes)
    )
    shape = vectors.shape[:-1]
    try:
        values = np.broadcast_to(np.broadcast_to(limit.values, limit.shape), shape)
    except ValueError:
        raise ShapeError(
            f"the radius of {family} has shape {limit.shape}, and must broadcast to the shape {shape} of the vectors "
            f"of ({w})."
        ) from None
    affine = replace(vectors.affine, epsilon=max(w.epsilon, limit.epsilon))
    rule = Constraint(
        Expression(affine),
        (w.affine.wording, limit.wording),
        Family(family),
        sense="<=",
        norm=norm,
        radius=compact(values),
    )
    options: dict[str, Any] = {} if dim is None else {"dim": dim}
    return named_rule(rule, family, w, radius=limit.wording, **options)
