"""The value behind an expression: a shape, terms in the weights, and a constant; and functions that make it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from affinet.errors import ShapeError
from affinet.language.calculus.axes import relabel
from affinet.language.calculus.terms import Floats, Parameter, Term, identity
from affinet.language.constants import EXACT, Constant, compact
from affinet.language.forecast import forecast
from affinet.language.wording import Word, Wording, say

Values: TypeAlias = float | Floats
"""A number, or an array that has every axis of its expression, at full size or at size one. An array that comes
straight from a right-hand side may be of float32, which is exact: it is widened before anything is computed from it."""

Dims: TypeAlias = int | Sequence[int] | None
"""The axes along which a function works, as users write them; None mostly means all."""

MOST_AXES = 32
"""The largest number of axes that every version of NumPy allows."""


@dataclass(frozen=True, eq=False, slots=True)
class Affine:
    """`constant + Σ terms`, an array of shape `shape` that is affine in the weights.

    `epsilon` is the spacing at 1 of the coarsest floating dtype among the constants in it. Terms whose scalar is zero
    are dropped, so that the terms hold only entries that the expression depends on.
    """

    shape: tuple[int, ...]
    terms: tuple[Term, ...]
    constant: Values
    epsilon: float
    wording: Wording

    def __post_init__(self) -> None:
        for term in self.terms:
            if term.scalar == 0.0:
                object.__setattr__(self, "terms", tuple([term for term in self.terms if term.scalar != 0.0]))
                return


def from_parameter(parameter: Parameter) -> Affine:
    """All entries of a weight tensor, in its shape."""
    return assemble(parameter.shape, [identity(parameter)], 0.0, EXACT, Word(parameter.name))


def from_constant(constant: Constant) -> Affine:
    """A constant, as an expression without weights."""
    return Affine(constant.shape, (), constant.values, constant.epsilon, constant.wording)


def assemble(
    shape: Iterable[int], terms: Iterable[Term | None], constant: Values, epsilon: float, wording: Wording
) -> Affine:
    """An expression of the terms that are not None; axes along which the constant repeats are cut to size one."""
    shape = tuple(shape)
    if len(shape) > MOST_AXES:
        raise ShapeError(f"({say(wording)}) has {len(shape)} axes, and NumPy has at most {MOST_AXES}.")
    if not isinstance(constant, float):
        constant = compact(constant)
    remaining = () if 0 in shape else tuple(term for term in terms if term is not None)
    return Affine(shape, remaining, 0.0 if 0 in shape else constant, epsilon, wording)


def transform(
    affine: Affine,
    shape: Iterable[int],
    of_term: Callable[[Term], Term | None],
    of_constant: Callable[[Floats], Floats],
    wording: Wording,
) -> Affine:
    """Rearrange an expression by `of_term` and `of_constant`; the latter gets the constant at full shape, as a view."""
    constant = affine.constant
    if not isinstance(constant, float):
        with np.errstate(all="ignore"):  # numbers beyond the range of float64 are reported when rules are planned
            constant = of_constant(np.broadcast_to(widen(constant), affine.shape))
    return assemble(shape, map(of_term, affine.terms), constant, affine.epsilon, wording)


def broadcast(affine: Affine, shape: tuple[int, ...]) -> Affine:
    """The expression repeated to a shape that NumPy would broadcast it to, under the same wording."""
    if affine.shape == shape:
        return affine
    leading = len(shape) - len(affine.shape)
    places = [None if n == 1 != shape[axis + leading] else axis + leading for axis, n in enumerate(affine.shape)]
    constant = affine.constant
    if not isinstance(constant, float):
        constant = constant.reshape((1,) * leading + constant.shape)
    terms = [relabel(term, places, len(shape)) for term in affine.terms]
    return assemble(shape, terms, constant, affine.epsilon, affine.wording)


def common_shape(left: Affine, right: Affine, wording: Wording) -> tuple[int, ...]:
    """The shape that two expressions broadcast to.

    Errors: `ShapeError` with the text and the shape of both.
    """
    if left.shape == right.shape:
        return left.shape
    try:
        return np.broadcast_shapes(left.shape, right.shape)
    except ValueError:
        raise ShapeError(
            f"the shapes in ({say(wording)}) do not fit: {say(left.wording)} has shape {left.shape} and "
            f"{say(right.wording)} has shape {right.shape}. Shapes are aligned at their last axis, and each pair "
            f"of sizes must be equal or contain a 1."
        ) from None


def combine_constants(first: Values, second: Values, operation: Callable[[Values, Values], Values]) -> Values:
    """Apply an elementwise operation to two constants with the same number of axes; nothing is rounded to float32."""
    if not _has_zero(first, second):
        first, second = widen(first), widen(second)
    if not isinstance(first, float) and not isinstance(second, float) and first.shape != second.shape:
        shape = np.broadcast_shapes(first.shape, second.shape)
        forecast("the constants of this expression", int(np.prod(shape, dtype=object)))
    return operation(first, second)


def widen(values: Values) -> Values:
    """Convert constants to float64, without a copy where they are in float64 already."""
    return values if isinstance(values, float) else values.astype(np.float64, copy=False)


def _has_zero(first: Values, second: Values) -> bool:
    """Whether one of two constants is the number zero, so that their sum or difference does not round."""
    return any(isinstance(part, float) and part == 0.0 for part in (first, second))


def checked_integer(value: object, wording: Wording) -> int:
    """`value`, checked to be an integer.

    Errors: `ShapeError` for anything else.
    """
    try:
        if not isinstance(value, bool):
            return operator.index(value)  # type: ignore[arg-type]  # anything else raises TypeError
    except TypeError:
        pass
    raise ShapeError(f"in ({say(wording)}) {value!r:.60} must be an integer.")


def checked_axis(affine: Affine, dim: object, wording: Wording) -> int:
    """The axis that `dim` stands for, counted from zero.

    Errors: `ShapeError` where there is no such axis.
    """
    axis = checked_integer(dim, wording)
    if not -len(affine.shape) <= axis < len(affine.shape):
        raise ShapeError(
            f"in ({say(wording)}) there is no axis {axis}: {say(affine.wording)} has shape {affine.shape}, "
            f"{_axes_text(len(affine.shape))}."
        )
    return axis % len(affine.shape)


def checked_axes(affine: Affine, dims: object, wording: Wording) -> tuple[int, ...]:
    """Several distinct axes; None means all."""
    if dims is None:
        return tuple(range(len(affine.shape)))
    listed_dims = tuple(dims) if isinstance(dims, tuple | list) else (dims,)
    axes = tuple(checked_axis(affine, dim, wording) for dim in listed_dims)
    if len(set(axes)) < len(axes):
        raise ShapeError(f"in ({say(wording)}) an axis is named twice in {listed_dims}. Name each axis once.")
    return axes


def reword(affine: Affine, wording: Wording) -> Affine:
    """The same expression with another wording."""
    return replace(affine, wording=wording)


def _axes_text(count: int) -> str:
    return f"so its axes are 0 to {count - 1} (or -{count} to -1)" if count else "so it is a single number without axes"
