"""Entries that large rules fix, each in one block: what they hold where other rules read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from affinet.blocks.entry_sets import mask_of, place_in, set_of_mask, span_of
from affinet.blocks.fixed import Fixed
from affinet.language.affine import Values
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.planning.contradiction import Contradiction
from affinet.planning.reading.fixings import Fixing
from affinet.system.tolerance import Tolerance

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Held:
    """Fixed entries of one parameter: blocks that share no entry, and what the rounding of their values is relative to.

    `sizes` has an entry for each block: None where that is the values' own size.
    """

    parameter: Parameter
    blocks: tuple[Fixed, ...]
    sizes: tuple[Values | None, ...]

    def mask(self) -> Mask:
        """Which entries of the flat parameter are fixed; nobody writes to it."""
        masks = [mask_of(block.places, self.parameter.size) for block in self.blocks]
        return masks[0] if len(masks) == 1 else np.logical_or.reduce(masks)

    def known(self, positions: Integers) -> tuple[Mask, Floats, Floats]:
        """Which positions are fixed, at which values, and what the rounding of these is relative to (0 elsewhere)."""
        fixed = np.zeros(len(positions), bool)
        values, sizes = np.zeros(len(positions)), np.zeros(len(positions))
        for block, size in zip(self.blocks, self.sizes, strict=True):
            low, high = span_of(block.places)
            near = np.flatnonzero((positions >= low) & (positions <= high))
            at = place_in(block.places, positions[near])
            some, at = near[at >= 0], at[at >= 0]
            fixed[some], values[some] = True, block.values_at(at)
            sizes[some] = _size_at(block, size, at)
        return fixed, values, sizes

    def with_rules(self, rules: Iterable[int]) -> Held:
        """The same entries, owned by some more rules."""
        more = set(rules)
        blocks = (replace(block, rules=tuple(sorted({*block.rules, *more}))) for block in self.blocks)
        return replace(self, blocks=tuple(blocks)) if more else self


def held_by(fixings: Sequence[Fixing], tolerance: Tolerance) -> dict[str, Held]:
    """What rules fix, by parameter, each entry once; the first rule that fixes one gives it its value.

    Sets that are fixed at one number become one block. Raises Contradiction where two rules fix an entry at values
    that are further apart than rounding.
    """
    by_name: dict[str, list[Fixing]] = {}
    for fixing in fixings:
        by_name.setdefault(fixing.block.parameter.name, []).append(fixing)
    return {name: _together(some, tolerance) for name, some in by_name.items()}


def _together(fixings: list[Fixing], tolerance: Tolerance) -> Held:
    parameter = fixings[0].block.parameter
    apart = [fixings[0]]
    for fixing in fixings[1:]:
        left = _less(fixing, apart, tolerance)
        apart += [left] if left is not None else []
    joined = _joined(apart)
    rules = [rule for fixing in fixings for rule in fixing.block.rules]
    found = Held(parameter, tuple(one.block for one in joined), tuple(one.size for one in joined))
    return found if len(fixings) == 1 else found.with_rules(rules)


def _less(fixing: Fixing, others: list[Fixing], tolerance: Tolerance) -> Fixing | None:
    """The fixing without the entries that others fix already, None where none is left. Raises Contradiction."""
    entries = fixing.block.parameter.size
    low, high = span_of(fixing.block.places)
    meeting = [one for one in others if span_of(one.block.places)[0] <= high and low <= span_of(one.block.places)[1]]
    if not meeting:
        return fixing
    mine = mask_of(fixing.block.places, entries)
    taken = np.zeros(entries, bool)
    for other in meeting:
        both = mine & mask_of(other.block.places, entries)
        if both.any():
            _check(fixing, other, both, tolerance)
            taken |= both
    if not taken.any():
        return fixing
    left = mine & ~taken
    if not left.any():
        return None
    return _kept(fixing, left)


def _kept(fixing: Fixing, left: Mask) -> Fixing:
    """The fixing of some of its entries."""
    block, stored = fixing.block, fixing.block.stored
    positions = np.flatnonzero(left) if not isinstance(stored, float) or not _even(fixing.size) else None
    places = set_of_mask(left)
    if positions is None:
        return replace(fixing, block=replace(block, places=places), whole=False)
    at = place_in(block.places, positions)
    values: float | Floats = stored if isinstance(stored, float) else block.values_at(at)
    size = fixing.size if _even(fixing.size) else _size_at(block, fixing.size, at)
    kept = replace(block, places=places, stored=values, negated=False)
    return replace(fixing, block=kept, whole=False, size=size)


def _even(size: Values | None) -> bool:
    return size is None or isinstance(size, float)


def _check(fixing: Fixing, other: Fixing, both: Mask, tolerance: Tolerance) -> None:
    """Raise Contradiction unless two rules fix their common entries at one value each, to rounding."""
    mine, theirs = fixing.block.stored, other.block.stored
    if isinstance(mine, float) and isinstance(theirs, float) and mine == theirs:
        return
    positions = np.flatnonzero(both)
    at = [place_in(one.block.places, positions) for one in (fixing, other)]
    values = [one.block.values_at(places) for one, places in zip((fixing, other), at, strict=True)]
    sizes = [_size_at(one.block, one.size, places) for one, places in zip((fixing, other), at, strict=True)]
    if (np.abs(values[0] - values[1]) > tolerance.consistency(8) * np.maximum(*sizes)).any():
        raise Contradiction((*other.block.rules, *fixing.block.rules))


def _size_at(block: Fixed, size: Values | None, at: Integers) -> Floats:
    if size is None:
        return np.abs(block.values_at(at))
    if isinstance(size, float):
        return np.full(len(at), size)
    return np.maximum(size[at], np.abs(block.values_at(at)))


def _joined(fixings: list[Fixing]) -> list[Fixing]:
    """Sets that are fixed at one number, with no sizes of their own, made one set for each number."""
    apart: list[Fixing] = []
    alike: dict[float, list[Fixing]] = {}
    for fixing in fixings:
        if isinstance(fixing.block.stored, float) and fixing.size is None:
            alike.setdefault(fixing.block.stored, []).append(fixing)
        else:
            apart.append(fixing)
    for same in alike.values():
        if len(same) == 1:
            apart.append(same[0])
            continue
        block = same[0].block
        mask = np.logical_or.reduce([mask_of(one.block.places, block.parameter.size) for one in same])
        apart.append(replace(same[0], block=replace(block, places=set_of_mask(mask)), whole=False))
    return apart


__all__ = ["Held", "held_by"]
