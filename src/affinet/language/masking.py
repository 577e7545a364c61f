"""A boolean mask as an index: the terms keep the mask, one bit for each entry of it, and not the positions."""

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

LISTED = 64
"""Places of a mask for each of its Trues from which on a table of these is the smaller."""
FEWEST = 16
"""Places of the smallest mask that is kept as one."""


def masked(
    affine: Affine, items: Sequence[Any], arrays: Sequence[NDArray[Any] | None], wording: Wording
) -> Affine | None:
    """`affine[items]` for one mask beside slices, `None` and `...`; None where the index is another, or is wrong."""
    at = [place for place, array in enumerate(arrays) if array is not None]
    if len(at) != 1 or not all(
        item is None or item is Ellipsis or isinstance(item, slice) for item in _others(items, at)
    ):
        return None
    mask = arrays[at[0]]
    if mask is None or mask.dtype.kind != "b" or mask.size < FEWEST:
        return None
    axes = len(affine.shape)
    taken = sum(isinstance(item, slice) for item in items) + mask.ndim
    dots = [place for place, item in enumerate(items) if item is Ellipsis]
    if taken > axes or len(dots) > 1 or any(_odd(item) for item in items if isinstance(item, slice)):
        return None
    rest = [slice(None)] * (axes - taken)
    place = dots[0] if dots else len(items)
    before, after = list(items[:place]), list(items[place + 1 :])
    spelled = [*before, *rest, *after]
    own = at[0] if at[0] < place else at[0] - 1 + len(rest)
    first = sum(item is not None for item in spelled[:own])
    if affine.shape[first : first + mask.ndim] != mask.shape:
        return None
    spelled[own : own + 1] = [slice(None)] * mask.ndim
    return _at_mask(select(affine, spelled, wording), own, mask, wording)


def _others(items: Sequence[Any], at: list[int]) -> list[Any]:
    return [item for place, item in enumerate(items) if place not in at]


def _odd(item: slice) -> bool:
    """Whether a slice has bounds that are refused, which is said elsewhere."""
    parts = (item.start, item.stop, item.step)
    return item.step == 0 or not all(part is None or hasattr(part, "__index__") for part in parts)


def _at_mask(affine: Affine, axis: int, mask: Mask, wording: Wording) -> Affine:
    """`affine[:, …, mask, …]`, the mask over axes from `axis` on."""
    ahead, behind = affine.shape[:axis], affine.shape[axis + mask.ndim :]
    flat = (*ahead, mask.size, *behind)
    chosen = _Chosen(mask)
    shape = (*ahead, chosen.count, *behind)
    if 0 in shape:
        return assemble(shape, (), 0.0, affine.epsilon, wording)
    terms = [_at_places(reshape(term, affine.shape, flat), axis, chosen) for term in affine.terms]
    constant = affine.constant
    if not isinstance(constant, float):
        forecast("the constants of this selection", int(np.prod(shape, dtype=object)))
        whole: tuple[Any, ...] = (slice(None),) * axis
        constant = np.broadcast_to(constant, affine.shape)[(*whole, mask)]
    return assemble(shape, terms, constant, affine.epsilon, wording)


class _Chosen:
    """The places of a flat mask in the forms that terms ask for, each made once."""

    def __init__(self, mask: Mask) -> None:
        self.flat = mask.reshape(-1)
        self.count = int(np.count_nonzero(self.flat))
        self._positions: Integers | None = None

    @property
    def positions(self) -> Integers:
        """The places one by one."""
        if self._positions is None:
            self._positions = narrow(np.flatnonzero(self.flat))
        return self._positions

    @property
    def run(self) -> int | None:
        """The first place where all are neighbours, else None."""
        first = int(np.argmax(self.flat))
        return first if bool(self.flat[first : first + self.count].all()) else None

    def source(self, step: int) -> tuple[Source, int]:
        """Where a loop of this step reads as it visits the places, and what to add to every position."""
        first = self.run
        if first is not None:
            return step, step * first
        if self.count * LISTED < self.flat.size:
            return narrow(self.positions.astype(np.int64) * step), 0
        return Marked.of(self.flat, step), 0


def _at_places(term: Term, axis: int, chosen: _Chosen) -> Term | None:
    """The term at the chosen places of one axis."""
    if term.start[axis] is None:
        return term
    moving = term.variables_on(axis)
    k = moving[0] if len(moving) == 1 else -1
    if k < 0 or term.start[axis] != 0 or chosen.count == 1 or not _plain(term, k, axis, chosen.flat.size):
        return gather(term, (axis,), (chosen.positions,))
    variable = term.variables[k]
    assert isinstance(variable.source, int)
    source, base = chosen.source(variable.source)
    visiting = Variable(chosen.count, source, variable.outputs)
    variables = (*term.variables[:k], visiting, *term.variables[k + 1 :])
    return replace(term, offset=term.offset + base, variables=variables)


def _plain(term: Term, k: int, axis: int, size: int) -> bool:
    """Whether a loop reads by steps, moves along the whole of this axis alone, and carries no coefficients."""
    variable = term.variables[k]
    weighed = any(k in factor.variables for factor in term.factors)
    alone = variable.outputs == ((axis, 1),) and variable.size == size
    return alone and not weighed and isinstance(variable.source, int) and variable.source != 0


__all__ = ["masked"]
