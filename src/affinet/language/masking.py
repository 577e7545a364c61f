"""Index an expression by a boolean mask, of which terms store one bit per place instead of the positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from affinet.language.affine import Affine, assemble
from affinet.language.calculus.marked import Marked
from affinet.language.calculus.reshaping import reshape
from affinet.language.calculus.selecting import gather
from affinet.language.calculus.terms import Integers, Source, Term, Variable, narrow
from affinet.language.forecast import forecast
from affinet.language.placement import select
from affinet.language.wording import Wording

Mask: TypeAlias = NDArray[np.bool_]

SPARSEST = 64
"""Places per True from which on a table of positions takes less memory than the mask."""
SMALLEST = 16
"""The size from which on a mask is stored as a mask."""


def index_by_mask(
    affine: Affine, items: Sequence[Any], arrays: Sequence[NDArray[Any] | None], wording: Wording
) -> Affine | None:
    """`affine[items]` for one mask among slices, `None` and `...`; None for any other index, and for wrong ones."""
    array_places = [place for place, array in enumerate(arrays) if array is not None]
    if len(array_places) != 1 or not all(
        item is None or item is Ellipsis or isinstance(item, slice) for item in _without(items, array_places)
    ):
        return None
    mask = arrays[array_places[0]]
    if mask is None or mask.dtype.kind != "b" or mask.size < SMALLEST:
        return None
    axes = len(affine.shape)
    axes_indexed = sum(isinstance(item, slice) for item in items) + mask.ndim
    ellipses = [place for place, item in enumerate(items) if item is Ellipsis]
    if (
        axes_indexed > axes
        or len(ellipses) > 1
        or any(_has_wrong_bounds(item) for item in items if isinstance(item, slice))
    ):
        return None
    full_slices = [slice(None)] * (axes - axes_indexed)
    ellipsis = ellipses[0] if ellipses else len(items)
    before, after = list(items[:ellipsis]), list(items[ellipsis + 1 :])
    full_items = [*before, *full_slices, *after]
    mask_place = array_places[0] if array_places[0] < ellipsis else array_places[0] - 1 + len(full_slices)
    first = sum(item is not None for item in full_items[:mask_place])
    if affine.shape[first : first + mask.ndim] != mask.shape:
        return None
    full_items[mask_place : mask_place + 1] = [slice(None)] * mask.ndim
    return _apply_mask(select(affine, full_items, wording), mask_place, mask, wording)


def _without(items: Sequence[Any], places: list[int]) -> list[Any]:
    return [item for place, item in enumerate(items) if place not in places]


def _has_wrong_bounds(item: slice) -> bool:
    """Whether a slice has bounds that `indexing` will refuse with an error."""
    parts = (item.start, item.stop, item.step)
    return item.step == 0 or not all(part is None or hasattr(part, "__index__") for part in parts)


def _apply_mask(affine: Affine, axis: int, mask: Mask, wording: Wording) -> Affine:
    """`affine[:, …, mask, …]`, where the first axis of the mask is `axis`."""
    leading, trailing = affine.shape[:axis], affine.shape[axis + mask.ndim :]
    flat = (*leading, mask.size, *trailing)
    mask_places = _MaskPlaces(mask)
    shape = (*leading, mask_places.count, *trailing)
    if 0 in shape:
        return assemble(shape, (), 0.0, affine.epsilon, wording)
    terms = [_visit_places(reshape(term, affine.shape, flat), axis, mask_places) for term in affine.terms]
    constant = affine.constant
    if not isinstance(constant, float):
        forecast("the constants of this selection", int(np.prod(shape, dtype=object)))
        full_slices: tuple[Any, ...] = (slice(None),) * axis
        constant = np.broadcast_to(constant, affine.shape)[(*full_slices, mask)]
    return assemble(shape, terms, constant, affine.epsilon, wording)


class _MaskPlaces:
    """The places where a flat mask is True, in the forms that terms need, each of which is made once."""

    def __init__(self, mask: Mask) -> None:
        self.flat = mask.reshape(-1)
        self.count = int(np.count_nonzero(self.flat))
        self._positions: Integers | None = None

    @property
    def positions(self) -> Integers:
        """The places as a table."""
        if self._positions is None:
            self._positions = narrow(np.flatnonzero(self.flat))
        return self._positions

    @property
    def run(self) -> int | None:
        """The first place, if all places are neighbours, else None."""
        first = int(np.argmax(self.flat))
        return first if bool(self.flat[first : first + self.count].all()) else None

    def source(self, step: int) -> tuple[Source, int]:
        """The source of a variable with this step that visits the places, and a number to add to all positions."""
        first = self.run
        if first is not None:
            return step, step * first
        if self.count * SPARSEST < self.flat.size:
            return narrow(self.positions.astype(np.int64) * step), 0
        return Marked.of(self.flat, step), 0


def _visit_places(term: Term, axis: int, mask_places: _MaskPlaces) -> Term | None:
    """Read a term at the places of a mask on one axis."""
    if term.start[axis] is None:
        return term
    on_axis = term.variables_on(axis)
    k = on_axis[0] if len(on_axis) == 1 else -1
    if (
        k < 0
        or term.start[axis] != 0
        or mask_places.count == 1
        or not _is_plain_loop(term, k, axis, mask_places.flat.size)
    ):
        return gather(term, (axis,), (mask_places.positions,))
    variable = term.variables[k]
    assert isinstance(variable.source, int)
    source, base = mask_places.source(variable.source)
    visitor = Variable(mask_places.count, source, variable.outputs)
    variables = (*term.variables[:k], visitor, *term.variables[k + 1 :])
    return replace(term, offset=term.offset + base, variables=variables)


def _is_plain_loop(term: Term, k: int, axis: int, size: int) -> bool:
    """Whether variable `k` reads by steps, runs over all of this axis and no other, and has no coefficients."""
    variable = term.variables[k]
    weighted = any(k in factor.variables for factor in term.factors)
    fills_axis = variable.outputs == ((axis, 1),) and variable.size == size
    return fills_axis and not weighted and isinstance(variable.source, int) and variable.source != 0


__all__ = ["index_by_mask"]
