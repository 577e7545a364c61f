"""Join expressions along an axis that they have (`concat`), or along a new one (`stack`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affinet.errors import ShapeError
from affinet.language.affine import Affine, Values, assemble, checked_axis
from affinet.language.calculus.axes import relabel, set_start, spell_out, start_at
from affinet.language.calculus.terms import Term
from affinet.language.constants import EXACT
from affinet.language.wording import Function, Wording, say


def concat(parts: Sequence[Affine], dim: object) -> Affine:
    """Join the parts end to end along axis `dim`, as `numpy.concatenate` does."""
    wording = _wording("concat", parts, dim)
    if not parts:
        raise ShapeError("concat needs one expression or more; got an empty list.")
    axis = checked_axis(parts[0], dim, wording)
    for part in parts[1:]:
        other_sizes = [shape[:axis] + shape[axis + 1 :] for shape in (part.shape, parts[0].shape)]
        if len(part.shape) != len(parts[0].shape) or other_sizes[0] != other_sizes[1]:
            raise ShapeError(
                f"the parts of ({say(wording)}) do not fit: {say(parts[0].wording)} has shape {parts[0].shape} and "
                f"{say(part.wording)} has shape {part.shape}. The shapes may differ along axis {axis} only."
            )
    return join_along(parts, axis, wording)


def stack(parts: Sequence[Affine], dim: object) -> Affine:
    """Join the parts, all of one shape, along a new axis `dim`, as `numpy.stack` does."""
    wording = _wording("stack", parts, dim)
    if not parts:
        raise ShapeError("stack needs one expression or more; got an empty list.")
    for part in parts[1:]:
        if part.shape != parts[0].shape:
            raise ShapeError(
                f"the parts of ({say(wording)}) do not fit: {say(parts[0].wording)} has shape {parts[0].shape} and "
                f"{say(part.wording)} has shape {part.shape}. The shapes must be equal."
            )
    shape = parts[0].shape
    axis = checked_axis(Affine((*shape, 1), (), 0.0, EXACT, parts[0].wording), dim, wording)
    places = [a if a < axis else a + 1 for a in range(len(shape))]
    return join_along([_insert_axis(part, axis, places) for part in parts], axis, wording)


def join_along(parts: Sequence[Affine], axis: int, wording: Wording) -> Affine:
    """Join parts that fit each other end to end along `axis`."""
    terms: list[Term] = []
    offset = 0
    for part in parts:
        size = part.shape[axis]
        for term in part.terms:
            term_on_axis = spell_out(term, axis, size)
            terms.append(set_start(term_on_axis, axis, start_at(term_on_axis, axis) + offset))
        offset += size
    shape = (*parts[0].shape[:axis], offset, *parts[0].shape[axis + 1 :])
    return assemble(shape, terms, _join_constants(parts, axis), max(part.epsilon for part in parts), wording)


def _join_constants(parts: Sequence[Affine], axis: int) -> Values:
    numbers = {part.constant for part in parts if isinstance(part.constant, float)}
    if len(numbers) == 1 and all(isinstance(part.constant, float) for part in parts):
        return numbers.pop()
    axes = len(parts[0].shape)
    constants = [np.asarray(part.constant, np.float64) for part in parts]
    constants = [values.reshape(values.shape or (1,) * axes) for values in constants]
    widest = [max(values.shape[a] for values in constants) for a in range(axes)]
    extended = [
        np.broadcast_to(values, tuple(part.shape[a] if a == axis else widest[a] for a in range(axes)))
        for values, part in zip(constants, parts, strict=True)
    ]
    return np.concatenate(extended, axis)


def _insert_axis(part: Affine, axis: int, places: Sequence[int]) -> Affine:
    constant = part.constant
    if not isinstance(constant, float):
        constant = np.expand_dims(constant, axis)
    terms = tuple(relabel(term, places, len(part.shape) + 1) for term in part.terms)
    return Affine((*part.shape[:axis], 1, *part.shape[axis:]), terms, constant, part.epsilon, part.wording)


def _wording(name: str, parts: Sequence[Affine], dim: object) -> Wording:
    arguments = () if type(dim) is int and dim == 0 else (("dim", dim),)
    return Function(name, tuple(part.wording for part in parts), arguments, listed=True)
