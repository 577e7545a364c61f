"""What an expression is, without its operators: a shape, terms in the weights, and a constant."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from affinet.errors import ShapeError
from affinet.language.calculus.axes import relabel
from affinet.language.calculus.terms import Floats, Parameter, Term, identity
from affinet.language.constants import EXACT, Constant, compacted
from affinet.language.forecast import forecast
from affinet.language.wording import Word, Wording, say

Values: TypeAlias = float | Floats
"""A number, or an array that has every axis of its expression, whole or of size one. Straight from a right-hand side
the array may be of float32, which is exact: it is widened before anything is computed from it."""

MOST_AXES = 32
"""What every version of NumPy can hold."""


@dataclass(frozen=True, eq=False, slots=True)
class Affine:
    """`constant + Σ terms`, an array of shape `shape` that is affine in the weights.

    `epsilon` is the spacing at 1 of the coarsest floating dtype among the constants that went in. No term has the
    scalar zero: such terms are dropped, so that nothing that reads terms meets an entry that is not in the expression.
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
    """The whole of a weight tensor."""
    return assemble(parameter.shape, [identity(parameter)], 0.0, EXACT, Word(parameter.name))


def from_constant(constant: Constant) -> Affine:
    """A constant, as an expression without weights."""
    return Affine(constant.shape, (), constant.values, constant.epsilon, constant.wording)


def assemble(
    shape: Iterable[int], terms: Iterable[Term | None], constant: Values, epsilon: float, wording: Wording
) -> Affine:
    """An expression of what is left of `terms`; an array of constants is cut to what it needs."""
    shape = tuple(shape)
    if len(shape) > MOST_AXES:
        raise ShapeError(f"({say(wording)}) has {len(shape)} axes, and NumPy has at most {MOST_AXES}.")
    if not isinstance(constant, float):
        constant = compacted(constant)
    left = () if 0 in shape else tuple(term for term in terms if term is not None)
    return Affine(shape, left, 0.0 if 0 in shape else constant, epsilon, wording)


def transform(
    affine: Affine,
    shape: Iterable[int],
    of_term: Callable[[Term], Term | None],
    of_constant: Callable[[Floats], Floats],
    wording: Wording,
) -> Affine:
    """Another reading of the same entries: `of_constant` sees the constant at full shape, as a view that repeats."""
    constant = affine.constant
    if not isinstance(constant, float):
        with np.errstate(all="ignore"):  # what leaves the range of float64 is found when rules are put together
            constant = of_constant(np.broadcast_to(widened(constant), affine.shape))
    return assemble(shape, map(of_term, affine.terms), constant, affine.epsilon, wording)


def broadcast(affine: Affine, shape: tuple[int, ...]) -> Affine:
    """The expression repeated to a shape that NumPy would broadcast it to, under the same wording."""
    if affine.shape == shape:
        return affine
    ahead = len(shape) - len(affine.shape)
    places = [None if n == 1 != shape[axis + ahead] else axis + ahead for axis, n in enumerate(affine.shape)]
    constant = affine.constant
    if not isinstance(constant, float):
        constant = constant.reshape((1,) * ahead + constant.shape)
    terms = [relabel(term, places, len(shape)) for term in affine.terms]
    return assemble(shape, terms, constant, affine.epsilon, affine.wording)


def common_shape(left: Affine, right: Affine, wording: Wording) -> tuple[int, ...]:
    """The shape that two expressions broadcast to.

    Errors: `ShapeError` with both shapes and what both are.
    """
    if left.shape == right.shape:
        return left.shape
    try:
        return np.broadcast_shapes(left.shape, right.shape)
    except ValueError:
        raise ShapeError(
            f"the shapes in ({say(wording)}) do not fit: {say(left.wording)} has shape {left.shape} and "
            f"{say(right.wording)} has shape {right.shape}. Shapes are aligned at their last axis, and each pair "
            f"of sizes must be equal or have a 1."
        ) from None


def combined(first: Values, second: Values, operation: Callable[[Values, Values], Values]) -> Values:
    """An elementwise operation on two constants of equally many axes; nothing is rounded to float32."""
    if not _negated(first, second):
        first, second = widened(first), widened(second)
    if not isinstance(first, float) and not isinstance(second, float) and first.shape != second.shape:
        shape = np.broadcast_shapes(first.shape, second.shape)
        forecast("the constants of this expression", int(np.prod(shape, dtype=object)))
    return operation(first, second)


def widened(values: Values) -> Values:
    """The same numbers in float64."""
    return values if isinstance(values, float) else values.astype(np.float64, copy=False)


def _negated(first: Values, second: Values) -> bool:
    """Whether one of two numbers is zero, so that a sum or difference of them rounds nothing."""
    return any(isinstance(part, float) and part == 0.0 for part in (first, second))


def checked_integer(value: object, wording: Wording) -> int:
    """The integer that was given.

    Errors: `ShapeError` for anything else.
    """
    try:
        if not isinstance(value, bool):
            return operator.index(value)  # type: ignore[arg-type]  # whatever is no integer is refused
    except TypeError:
        pass
    raise ShapeError(f"in ({say(wording)}) {value!r:.60} is no integer.")


def checked_axis(affine: Affine, dim: object, wording: Wording) -> int:
    """The axis that `dim` means, counted from zero.

    Errors: `ShapeError` where there is no such axis.
    """
    axis = checked_integer(dim, wording)
    if not -len(affine.shape) <= axis < len(affine.shape):
        raise ShapeError(
            f"in ({say(wording)}) there is no axis {axis}: {say(affine.wording)} has shape {affine.shape}, "
            f"its axes are {_axes(len(affine.shape))}."
        )
    return axis % len(affine.shape)


def checked_axes(affine: Affine, dims: object, wording: Wording) -> tuple[int, ...]:
    """Several distinct axes; None means all."""
    if dims is None:
        return tuple(range(len(affine.shape)))
    given = tuple(dims) if isinstance(dims, tuple | list) else (dims,)
    axes = tuple(checked_axis(affine, dim, wording) for dim in given)
    if len(set(axes)) < len(axes):
        raise ShapeError(f"in ({say(wording)}) an axis is named twice in {given}; name each once.")
    return axes


def reworded(affine: Affine, wording: Wording) -> Affine:
    """The same expression, said in other words."""
    return replace(affine, wording=wording)


def _axes(count: int) -> str:
    return f"0 to {count - 1} (or -{count} to -1)" if count else "none, it is a single number"
