"""Compute sums, means, running sums, differences, triangles and traces along axes of expressions."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
from numpy.lib.stride_tricks import as_strided

from affinet.errors import ShapeError
from affinet.language.affine import (
    Affine,
    Values,
    assemble,
    checked_axes,
    checked_axis,
    checked_integer,
    combine_constants,
    reword,
)
from affinet.language.arithmetic import subtract
from affinet.language.calculus.axes import sum_over
from affinet.language.calculus.coefficients import mix, scale
from affinet.language.calculus.terms import Floats
from affinet.language.rearranging import diagonal, difference
from affinet.language.wording import Wording, say


def total(affine: Affine, dim: object, keepdim: bool = False, wording: Wording | None = None) -> Affine:
    """The sum over the axes `dim` (None: all), which are removed unless `keepdim`."""
    wording = affine.wording if wording is None else wording
    axes = checked_axes(affine, dim, wording)
    remaining = [axis for axis in range(len(affine.shape)) if axis not in axes]
    places = [None if axis in axes else axis if keepdim else remaining.index(axis) for axis in range(len(affine.shape))]
    shape = tuple(1 if axis in axes else n for axis, n in enumerate(affine.shape))
    if not keepdim:
        shape = tuple(affine.shape[axis] for axis in remaining)
    terms = [sum_over(term, axes, affine.shape, places, len(shape)) for term in affine.terms]
    constant = _sum_constant(affine, axes, keepdim)
    return assemble(shape, terms, constant, affine.epsilon, wording)


def mean(affine: Affine, dim: object, keepdim: bool, wording: Wording) -> Affine:
    """The mean over the axes `dim` (None: all).

    Errors: `ShapeError` for a mean of no entries.
    """
    count = prod(affine.shape[axis] for axis in checked_axes(affine, dim, wording))
    if count == 0:
        raise ShapeError(f"({say(wording)}) is a mean of no numbers: {say(affine.wording)} has shape {affine.shape}.")
    sums = total(affine, dim, keepdim, wording)
    terms = tuple(replace(term, scalar=term.scalar / count) for term in sums.terms)
    return replace(sums, terms=terms, constant=sums.constant / count)


def running_sum(affine: Affine, dim: object, wording: Wording) -> Affine:
    """Sums of the entries up to each position along `dim`: a product with a triangle that stores 2n numbers."""
    axis = checked_axis(affine, dim, wording)
    size = affine.shape[axis]
    if size == 0:
        return reword(affine, wording)
    terms = [mix(term, _band(size, size, 0), axis) for term in affine.terms]
    constant = affine.constant
    if not isinstance(constant, float) or constant:
        constant_array = np.asarray(constant, np.float64)
        shape = constant_array.shape or (1,) * len(affine.shape)
        extended_shape = tuple(size if a == axis else n for a, n in enumerate(shape))
        with np.errstate(all="ignore"):  # as in `transform`
            constant = np.cumsum(np.broadcast_to(constant_array, extended_shape), axis)
    return assemble(affine.shape, terms, constant, affine.epsilon, wording)


def differences(affine: Affine, dim: object, wording: Wording) -> Affine:
    """Each entry along `dim` minus the one before it."""
    return reword(subtract(*difference(affine, dim, wording)), wording)


def lower_triangle(affine: Affine, offset: object, wording: Wording) -> Affine:
    """Set the entries above the diagonal `offset` of the last two axes to zero."""
    rows, columns = _last_two(affine, wording)
    return _apply_mask(affine, _band(rows, columns, checked_integer(offset, wording)), wording)


def upper_triangle(affine: Affine, offset: object, wording: Wording) -> Affine:
    """Set the entries below the diagonal `offset` of the last two axes to zero."""
    rows, columns = _last_two(affine, wording)
    return _apply_mask(affine, _band(columns, rows, -checked_integer(offset, wording)).T, wording)


def trace(affine: Affine, offset: object, dim1: object, dim2: object, wording: Wording) -> Affine:
    """The sum of a diagonal of two axes."""
    _last_two(affine, wording)
    return total(diagonal(affine, offset, dim1, dim2, wording), -1, wording=wording)


def _sum_constant(affine: Affine, axes: tuple[int, ...], keepdim: bool) -> Values:
    constant = affine.constant
    count = prod(affine.shape[axis] for axis in axes)
    if isinstance(constant, float):
        return constant * count
    repeated = prod(affine.shape[axis] for axis in axes if constant.shape[axis] == 1)
    with np.errstate(all="ignore"):
        summed = np.asarray(constant.sum(axis=axes, keepdims=keepdim, dtype=np.float64)) * repeated
    return summed if summed.ndim else float(summed)


def _band(rows: int, columns: int, offset: int) -> Floats:
    """`1 where column <= row + offset else 0`, a read-only view of rows + columns numbers."""
    numbers = (np.arange(rows + columns) <= rows - 1 + offset).astype(np.float64)
    step = numbers.strides[0]
    return as_strided(numbers[rows - 1 :], (rows, columns), (-step, step), writeable=False)


def _last_two(affine: Affine, wording: Wording) -> tuple[int, int]:
    if len(affine.shape) < 2:
        raise ShapeError(f"({say(wording)}) needs two axes or more: {say(affine.wording)} has shape {affine.shape}.")
    return affine.shape[-2], affine.shape[-1]


def _apply_mask(affine: Affine, mask: Floats, wording: Wording) -> Affine:
    long_axes = [axis for axis in (len(affine.shape) - 2, len(affine.shape) - 1) if affine.shape[axis] > 1]
    if 0 in affine.shape:
        return reword(affine, wording)
    terms = [scale(term, mask.squeeze(), long_axes) for term in affine.terms]
    constant = affine.constant
    if not isinstance(constant, float) or constant:
        constant = combine_constants(
            constant, mask.reshape((1,) * (len(affine.shape) - 2) + mask.shape), lambda x, y: x * y
        )
    return assemble(affine.shape, terms, constant, affine.epsilon, wording)
