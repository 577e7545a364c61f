"""Rules about sums of squares: vectors of a given Euclidean length, and weights of equal energy."""

from __future__ import annotations

from typing import Any

import numpy as np

from affinet.errors import ShapeError
from affinet.language.affine import Dims
from affinet.language.constants import Constant, compact
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression
from affinet.language.families.bounds import read_radius
from affinet.language.families.naming import checked_expression, named_rule
from affinet.language.weight_groups import over_weights


@over_weights
def unit_norm(w: Expression, dim: Dims = None, value: Any = 1.0) -> Constraint:
    """`(w**2).sum(dim) == value**2`: every vector along `dim`, or all of `w`, has the Euclidean length `value`.

    `value` is a number, or an array that broadcasts to the other axes.
    Errors: `ConstantError` for a length that is not a positive number, `ShapeError` where it does not fit.
    """
    w = checked_expression("unit_norm", w)
    length = read_radius("unit_norm", w, value, called="length")
    squares = (w**2).sum(dim)
    values = np.broadcast_to(length.values, length.shape)
    try:
        np.broadcast_to(values, squares.shape)
    except ValueError:
        raise ShapeError(
            f"the length of unit_norm has shape {length.shape}, and must broadcast to the shape {squares.shape} of the "
            f"vectors of ({w})."
        ) from None
    rule = squares == Constant(compact(values**2), length.shape, length.epsilon, length.wording)
    options: dict[str, Any] = {} if dim is None else {"dim": dim}
    if length.shape or length.values != 1.0:
        options["value"] = length.wording
    return named_rule(rule, "unit_norm", w, **options)


@over_weights
def equal_energy(a: Expression, b: Expression) -> Constraint:
    """`(a**2).sum() == (b**2).sum()`: the same energy in two weights of any shapes, such as neighbouring layers.

    At weights that are all zero the rule has no tangent plane: start elsewhere.
    """
    a, b = checked_expression("equal_energy", a), checked_expression("equal_energy", b)
    return named_rule((a**2).sum() == (b**2).sum(), "equal_energy", a, b)
