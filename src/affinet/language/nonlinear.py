"""Make nodes: products, powers and functions of expressions that have weights in them."""

from __future__ import annotations

import operator
from numbers import Real

import numpy as np

from affinet.errors import ConstantError, NotAffineError, ShapeError
from affinet.language import arithmetic
from affinet.language.affine import Affine, broadcast, common_shape, from_constant, reword
from affinet.language.calculus.terms import Floats
from affinet.language.constants import Constant
from affinet.language.indexing import index
from affinet.language.nodes import ELEMENTWISE, Kind, Node, node, ones_like, same
from affinet.language.opaque import Opaque
from affinet.language.products import from_left, from_right
from affinet.language.rearranging import reshape
from affinet.language.reducing import total
from affinet.language.wording import Function, Method, Operation, Wording, differing, say

MOST_EXPONENT = 64
"""Larger powers of weights leave the range of float32 or vanish in it."""
EXPANDED = 3
"""Determinants of matrices up to this size are written out as sums of products, which holds for singular ones too."""


def multiply(left: Affine, right: Affine) -> Affine:
    """`left * right`, broadcast as NumPy does; a square where both are the same expression with weights."""
    if not (left.terms and right.terms):
        return arithmetic.multiply(left, right)
    wording = Operation(left.wording, "*", right.wording)
    shape = common_shape(left, right, wording)
    left, right = broadcast(left, shape), broadcast(right, shape)
    if same(left, right):
        return node("power", shape, (left,), wording, 2)
    return node("multiply", shape, (left, right), wording)


def divide(left: Affine, right: Affine) -> Affine:
    """`left / right`; where the right side has weights, they must never become zero.

    Errors: `ConstantError` for a constant with a zero.
    """
    if not right.terms:
        return arithmetic.divide(left, right)
    return reword(multiply(left, function("reciprocal", right)), Operation(left.wording, "/", right.wording))


def matmul(left: Affine, right: Affine) -> Affine:
    """`left @ right` of two expressions with weights, as NumPy's matmul.

    Errors: `ShapeError` for single numbers, and for inner sizes that differ.
    """
    wording = Operation(left.wording, "@", right.wording)
    if not left.shape or not right.shape:
        raise ShapeError(f"in ({say(wording)}) `@` does not take single numbers; write `*`.")
    inner = left.shape[-1], right.shape[max(len(right.shape) - 2, 0)]
    if inner[0] != inner[1]:
        raise ShapeError(
            f"the shapes in ({say(wording)}) do not fit: {say(left.wording)} has shape {left.shape} and "
            f"{say(right.wording)} has shape {right.shape}. The inner sizes {inner[0]} and {inner[1]} must be equal."
        )
    if len(left.shape) == 1 and len(right.shape) == 1:
        return reword(total(multiply(left, right), None), wording)
    rows = left if len(left.shape) > 1 else reshape(left, (1, *left.shape), wording)
    columns = right if len(right.shape) > 1 else reshape(right, (*right.shape, 1), wording)
    try:
        outer = np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
    except ValueError:
        raise ShapeError(
            f"the shapes in ({say(wording)}) do not fit: stacks of {rows.shape[:-2]} and {columns.shape[:-2]} matrices "
            f"cannot be aligned at their last axis."
        ) from None
    rows, columns = broadcast(rows, outer + rows.shape[-2:]), broadcast(columns, outer + columns.shape[-2:])
    shape = (*outer, rows.shape[-2], columns.shape[-1])
    made = node("matmul", shape, (rows, columns), wording)
    shown = (*outer, *left.shape[-2:-1], *(right.shape[-1:] if len(right.shape) > 1 else ()))
    return made if shape == shown else reshape(made, shown, wording)


def matmul_by_constant(left: Affine, right: Affine) -> Affine:
    """`left @ right` where one of the two expressions has no weights, as of a product with frozen weights."""
    if right.terms:
        return from_left(_matrix(left), right)
    return from_right(left, _matrix(right))


def power(base: Affine, exponent: object) -> Affine:
    """`base ** exponent` for an integer, or ½, which is the square root.

    Errors: `NotAffineError` for any other exponent.
    """
    number = _half_or_integer(exponent)
    if number is None:
        raise NotAffineError(
            f"({say(base.wording)}) ** {exponent!r:.60}: the exponent must be an integer from -{MOST_EXPONENT} to "
            f"{MOST_EXPONENT}, or 0.5. Write other powers as exp(p * log(x)), for weights that stay positive."
        )
    wording = Operation(base.wording, "**", number)
    if number == 0.5:
        return reword(function("sqrt", base), wording)
    number = int(number)
    if number == 0:
        return ones_like(base, wording)
    if number < 0:
        base, number = function("reciprocal", base), -number
    if number == 1:
        return reword(base, wording)
    if base.terms:
        return node("power", base.shape, (base,), wording, number)
    with np.errstate(all="ignore"):
        values = np.asarray(base.constant, np.float64) ** number
    return _finite_constant(values, base, wording)


def function(name: Kind, argument: Affine) -> Affine:
    """A function of one number, of every entry: `sin`, `cos`, `tanh`, `exp`, `log`, `sqrt`, `reciprocal`.

    Errors: `ConstantError` for a constant at which the function has no value.
    """
    assert name in ELEMENTWISE, name
    wording = Function(name, (argument.wording,))
    if argument.terms:
        return node(name, argument.shape, (argument,), wording)
    with np.errstate(all="ignore"):
        values = np.asarray(getattr(np, name)(np.asarray(argument.constant, np.float64)))
    return _finite_constant(values, argument, wording)


def determinant(matrix: Affine) -> Affine:
    """The determinant of a square matrix, or of each matrix of a stack.

    Errors: `ShapeError` for matrices that are not square.
    """
    wording = Function("det", (matrix.wording,))
    size = _check_square(matrix, wording)
    if not matrix.terms:
        values = np.linalg.det(np.broadcast_to(np.asarray(matrix.constant, np.float64), matrix.shape))
        return from_constant(Constant(_number(values), matrix.shape[:-2], matrix.epsilon, wording))
    if size > EXPANDED:
        return node("det", matrix.shape[:-2], (matrix,), wording)
    return reword(_expanded(matrix, tuple(range(size)), wording), wording)


def inverse(matrix: Affine) -> Affine:
    """The inverse of a square matrix, or of each matrix of a stack.

    Errors: `ShapeError` for matrices that are not square, `ConstantError` for a constant that has no inverse.
    """
    wording = Function("inverse", (matrix.wording,))
    _check_square(matrix, wording)
    if matrix.terms:
        return node("inverse", matrix.shape, (matrix,), wording)
    try:
        values = np.linalg.inv(np.broadcast_to(np.asarray(matrix.constant, np.float64), matrix.shape))
    except np.linalg.LinAlgError:
        raise ConstantError(f"({say(wording)}): this matrix of constants is singular and has no inverse.") from None
    return from_constant(Constant(values, matrix.shape, matrix.epsilon, wording))


def made_again(read: Node, operands: tuple[Affine, ...]) -> Affine:
    """What `read` is with other operands of the same shapes, some of which have weights: affine where it can be."""
    match read.kind:
        case "multiply":
            return multiply(*operands)
        case "matmul":
            return (matmul if all(operand.terms for operand in operands) else matmul_by_constant)(*operands)
        case "power":
            return power(operands[0], read.exponent)
        case "det":
            return determinant(operands[0])
        case "inverse":
            return inverse(operands[0])
        case "function":
            assert read.opaque is not None
            return result_of(read.opaque, operands[0])
        case _:
            return function(read.kind, operands[0])


def result_of(function: Opaque, numbers: Affine) -> Affine:
    """The results (count,) of a function that the language cannot look into, of numbers (size,)."""
    wording = Function(function.name, (numbers.wording,))
    return node("function", (function.count,), (numbers,), wording, opaque=function)


def norm(vectors: Affine, dim: object, keepdim: bool) -> Affine:
    """The Euclidean length along an axis, or of all entries: the square root of a sum of squares."""
    options = differing(dim=(dim, None), keepdim=(keepdim, False))
    wording = Method(vectors.wording, "norm", tuple(options.items()))
    squares = total(power(vectors, 2), dim, keepdim, wording)
    return reword(function("sqrt", squares), wording)


def _finite_constant(values: Floats, of: Affine, wording: Wording) -> Affine:
    """A function of a constant, entry by entry, as an expression. Raises ConstantError where it is not finite."""
    if not np.isfinite(values).all():
        raise ConstantError(f"({say(wording)}) has numbers that are not finite.")
    return from_constant(Constant(_number(values), of.shape, of.epsilon, wording))


def _half_or_integer(exponent: object) -> float | int | None:
    """The exponent of a power that rules can have, and None for any other."""
    if isinstance(exponent, bool | np.bool_):
        return None
    try:
        if isinstance(exponent, Real) and not isinstance(exponent, int):
            number = float(exponent)
            return (
                int(number) if number.is_integer() and abs(number) <= MOST_EXPONENT else 0.5 if number == 0.5 else None
            )
        integer = operator.index(exponent)  # type: ignore[arg-type]  # anything else raises TypeError
    except (TypeError, OverflowError):
        return None
    return integer if abs(integer) <= MOST_EXPONENT else None


def _check_square(matrix: Affine, wording: Wording) -> int:
    if len(matrix.shape) < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ShapeError(
            f"{say(wording)} needs square matrices along the last two axes: {say(matrix.wording)} has shape "
            f"{matrix.shape}."
        )
    return matrix.shape[-1]


def _expanded(matrix: Affine, columns: tuple[int, ...], wording: Wording) -> Affine:
    """The determinant of the last rows and these columns, by the first of the rows (Laplace)."""
    row = matrix.shape[-1] - len(columns)
    if not columns:
        return from_constant(Constant(1.0, matrix.shape[:-2], matrix.epsilon, wording))
    result: Affine | None = None
    for place, column in enumerate(columns):
        entry = index(matrix, (..., row, column))
        remaining = (*columns[:place], *columns[place + 1 :])
        minor = _expanded(matrix, remaining, wording)
        part = entry if not remaining else multiply(entry, minor)
        if result is None:
            result = part
        else:
            result = (arithmetic.subtract if place % 2 else arithmetic.add)(result, part)
    assert result is not None
    return result


def _matrix(affine: Affine) -> Constant:
    return Constant(affine.constant, affine.shape, affine.epsilon, affine.wording)


def _number(values: np.ndarray) -> float | np.ndarray:
    return float(values) if not values.shape else values
