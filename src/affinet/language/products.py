"""Multiply expressions by constant matrices from either side, as NumPy's matmul does."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from affinet.errors import ShapeError
from affinet.language.affine import Affine, assemble, from_constant, reword
from affinet.language.arithmetic import multiply
from affinet.language.calculus.coefficients import mix, mix_sparse
from affinet.language.calculus.terms import Floats, Term
from affinet.language.constants import Constant, SparseMatrix
from affinet.language.rearranging import insert_axis
from affinet.language.reducing import total
from affinet.language.wording import Operation, Wording, say

Matrix: TypeAlias = Constant | SparseMatrix


def from_left(matrix: Matrix, affine: Affine) -> Affine:
    """`matrix @ affine`."""
    wording = Operation(matrix.wording, "@", affine.wording)
    axis = max(len(affine.shape) - 2, 0)
    _check_shapes(matrix, affine, matrix.shape[-1:], affine.shape[axis : axis + 1], wording)
    if len(matrix.shape) > 2:
        return reword(_multiply_stack(matrix, affine, on_left=True), wording)
    return _mix(affine, matrix, axis, wording)


def from_right(affine: Affine, matrix: Matrix) -> Affine:
    """`affine @ matrix`."""
    wording = Operation(affine.wording, "@", matrix.wording)
    _check_shapes(matrix, affine, matrix.shape[-2:][:1], affine.shape[-1:], wording)
    if len(matrix.shape) > 2:
        return reword(_multiply_stack(matrix, affine, on_left=False), wording)
    return _mix(affine, _transpose(matrix), len(affine.shape) - 1, wording)


def _mix(affine: Affine, matrix: Matrix, axis: int, wording: Wording) -> Affine:
    """Apply a matrix along one axis; a matrix that is a vector removes the axis."""
    epsilon = max(affine.epsilon, matrix.epsilon)
    rows = matrix.shape[:-1]
    shape = (*affine.shape[:axis], *(rows or (1,)), *affine.shape[axis + 1 :])
    if affine.shape[axis] == 0 or 0 in shape:
        result = Affine(shape, (), 0.0, epsilon, wording)
    elif isinstance(matrix, SparseMatrix):
        result = _mix_sparse(affine, matrix, axis, shape, epsilon, wording)
    else:
        dense = np.broadcast_to(matrix.values, matrix.shape).reshape(-1, matrix.shape[-1])
        terms = [mix(term, dense, axis) for term in affine.terms]
        constant = affine.constant
        if not isinstance(constant, float) or constant:
            constant = np.moveaxis(np.tensordot(dense, _extended_constant(affine, axis), (1, axis)), 0, axis)
        result = assemble(shape, terms, constant, epsilon, wording)
    return result if rows else _drop_axis(result, axis)


def _mix_sparse(
    affine: Affine, matrix: SparseMatrix, axis: int, shape: tuple[int, ...], epsilon: float, wording: Wording
) -> Affine:
    def mix_term(term: Term) -> Term | None:
        return mix_sparse(term, matrix.rows, matrix.columns, matrix.values, matrix.shape, axis)

    constant = affine.constant
    if not isinstance(constant, float) or constant:
        constant_rows = np.moveaxis(_extended_constant(affine, axis), axis, 0)
        product = np.zeros((matrix.shape[0], *constant_rows.shape[1:]))
        coefficients = matrix.values.reshape(-1, *(1,) * (constant_rows.ndim - 1))
        np.add.at(product, matrix.rows, coefficients * constant_rows[matrix.columns])
        constant = np.moveaxis(product, 0, axis)
    return assemble(shape, map(mix_term, affine.terms), constant, epsilon, wording)


def _extended_constant(affine: Affine, axis: int) -> Floats:
    """The constant with `axis` at full size; the other axes are as they are stored."""
    constant = np.asarray(affine.constant, np.float64)
    stored_shape = constant.shape or (1,) * len(affine.shape)
    return np.broadcast_to(constant, tuple(affine.shape[axis] if a == axis else n for a, n in enumerate(stored_shape)))


def _drop_axis(affine: Affine, axis: int) -> Affine:
    return reword(total(affine, axis), affine.wording)


def _transpose(matrix: Matrix) -> Matrix:
    if isinstance(matrix, SparseMatrix):
        shape = matrix.shape[1], matrix.shape[0]
        return SparseMatrix(matrix.columns, matrix.rows, matrix.values, shape, matrix.epsilon, matrix.wording)
    values = matrix.values if isinstance(matrix.values, float) else matrix.values.T
    return Constant(values, matrix.shape[::-1], matrix.epsilon, matrix.wording)


def _multiply_stack(matrix: Matrix, affine: Affine, *, on_left: bool) -> Affine:
    """Multiply by a stack of matrices: multiply entry by entry and sum over the inner axis."""
    assert isinstance(matrix, Constant), "sparse matrices have two axes"
    stack, is_vector = from_constant(matrix), len(affine.shape) == 1
    if on_left:
        columns = insert_axis(affine, 1) if is_vector else affine
        product = total(
            multiply(insert_axis(stack, len(stack.shape)), insert_axis(columns, len(columns.shape) - 2)), -2
        )
        return total(product, -1) if is_vector else product
    rows = insert_axis(affine, 0) if is_vector else affine
    product = total(multiply(insert_axis(rows, len(rows.shape)), insert_axis(stack, len(stack.shape) - 2)), -2)
    return total(product, -2) if is_vector else product


def _check_shapes(
    matrix: Matrix, affine: Affine, outer: tuple[int, ...], inner: tuple[int, ...], wording: Wording
) -> None:
    if outer and inner and outer == inner:
        return
    raise ShapeError(
        f"the shapes in ({say(wording)}) do not fit: {say(matrix.wording)} has shape {matrix.shape} and "
        f"{say(affine.wording)} has shape {affine.shape}. "
        + (
            "`@` does not take single numbers; write `*`."
            if not (outer and inner)
            else f"The inner sizes {outer[0]} and {inner[0]} must be equal."
        )
    )
