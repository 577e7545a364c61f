"""Collect the entries that large rules fix into blocks that share no entry, and look up their values."""

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
class FixedBlocks:
    """Fixed entries of one parameter: disjoint blocks, and the magnitudes that rounding is relative to.

    `sizes` has one item per block, None where the rounding is relative to the values themselves.
    """

    parameter: Parameter
    blocks: tuple[Fixed, ...]
    sizes: tuple[Values | None, ...]

    def mask(self) -> Mask:
        """Which entries of the flat parameter are fixed; do not write to it."""
        masks = [mask_of(block.places, self.parameter.size) for block in self.blocks]
        return masks[0] if len(masks) == 1 else np.logical_or.reduce(masks)

    def known(self, positions: Integers) -> tuple[Mask, Floats, Floats]:
        """Which positions are fixed, their values, and the magnitudes that rounding is relative to (0 elsewhere)."""
        fixed = np.zeros(len(positions), bool)
        values, sizes = np.zeros(len(positions)), np.zeros(len(positions))
        for block, size in zip(self.blocks, self.sizes, strict=True):
            low, high = span_of(block.places)
            in_span = np.flatnonzero((positions >= low) & (positions <= high))
            place = place_in(block.places, positions[in_span])
            fixed_places, place = in_span[place >= 0], place[place >= 0]
            fixed[fixed_places], values[fixed_places] = True, block.values_at(place)
            sizes[fixed_places] = _sizes_at(block, size, place)
        return fixed, values, sizes

    def with_rules(self, rules: Iterable[int]) -> FixedBlocks:
        """The same entries, owned by further rules too."""
        more = set(rules)
        blocks = (replace(block, rules=tuple(sorted({*block.rules, *more}))) for block in self.blocks)
        return replace(self, blocks=tuple(blocks)) if more else self


def collect_fixed(fixings: Sequence[Fixing], tolerance: Tolerance) -> dict[str, FixedBlocks]:
    """The entries that rules fix, by parameter name; where several rules fix an entry, the first gives the value.

    Sets that are fixed at one number become one block. Raises Contradiction where two rules fix an entry at values
    that differ by more than rounding.
    """
    by_name: dict[str, list[Fixing]] = {}
    for fixing in fixings:
        by_name.setdefault(fixing.block.parameter.name, []).append(fixing)
    return {name: _merge_fixings(fixings_of_parameter, tolerance) for name, fixings_of_parameter in by_name.items()}


def _merge_fixings(fixings: list[Fixing], tolerance: Tolerance) -> FixedBlocks:
    parameter = fixings[0].block.parameter
    disjoint = [fixings[0]]
    for fixing in fixings[1:]:
        remainder = _exclude_fixed(fixing, disjoint, tolerance)
        disjoint += [remainder] if remainder is not None else []
    merged = _join_equal_values(disjoint)
    rules = [rule for fixing in fixings for rule in fixing.block.rules]
    fixed = FixedBlocks(parameter, tuple(fixing.block for fixing in merged), tuple(fixing.size for fixing in merged))
    return fixed if len(fixings) == 1 else fixed.with_rules(rules)


def _exclude_fixed(fixing: Fixing, earlier: list[Fixing], tolerance: Tolerance) -> Fixing | None:
    """The fixing without the entries that earlier ones fix; None if no entry remains. Raises Contradiction."""
    entries = fixing.block.parameter.size
    low, high = span_of(fixing.block.places)
    meeting = [
        other for other in earlier if span_of(other.block.places)[0] <= high and low <= span_of(other.block.places)[1]
    ]
    if not meeting:
        return fixing
    entries_of_fixing = mask_of(fixing.block.places, entries)
    already_fixed = np.zeros(entries, bool)
    for other in meeting:
        common = entries_of_fixing & mask_of(other.block.places, entries)
        if common.any():
            _check_agreement(fixing, other, common, tolerance)
            already_fixed |= common
    if not already_fixed.any():
        return fixing
    remaining = entries_of_fixing & ~already_fixed
    if not remaining.any():
        return None
    return _restrict(fixing, remaining)


def _restrict(fixing: Fixing, mask: Mask) -> Fixing:
    """The fixing of the entries in `mask` only."""
    block, stored = fixing.block, fixing.block.stored
    positions = np.flatnonzero(mask) if not isinstance(stored, float) or not _is_uniform(fixing.size) else None
    places = set_of_mask(mask)
    if positions is None:
        return replace(fixing, block=replace(block, places=places), in_order=False)
    place = place_in(block.places, positions)
    values: float | Floats = stored if isinstance(stored, float) else block.values_at(place)
    size = fixing.size if _is_uniform(fixing.size) else _sizes_at(block, fixing.size, place)
    restricted = replace(block, places=places, stored=values, negated=False)
    return replace(fixing, block=restricted, in_order=False, size=size)


def _is_uniform(size: Values | None) -> bool:
    return size is None or isinstance(size, float)


def _check_agreement(fixing: Fixing, other: Fixing, common: Mask, tolerance: Tolerance) -> None:
    """Raise Contradiction unless two rules fix their common entries at the same values, to rounding."""
    stored, other_stored = fixing.block.stored, other.block.stored
    if isinstance(stored, float) and isinstance(other_stored, float) and stored == other_stored:
        return
    positions = np.flatnonzero(common)
    place_pairs = [place_in(side.block.places, positions) for side in (fixing, other)]
    values = [side.block.values_at(places) for side, places in zip((fixing, other), place_pairs, strict=True)]
    sizes = [
        _sizes_at(side.block, side.size, places) for side, places in zip((fixing, other), place_pairs, strict=True)
    ]
    if (np.abs(values[0] - values[1]) > tolerance.consistency(8) * np.maximum(*sizes)).any():
        raise Contradiction((*other.block.rules, *fixing.block.rules))


def _sizes_at(block: Fixed, size: Values | None, places: Integers) -> Floats:
    if size is None:
        return np.abs(block.values_at(places))
    if isinstance(size, float):
        return np.full(len(places), size)
    return np.maximum(size[places], np.abs(block.values_at(places)))


def _join_equal_values(fixings: list[Fixing]) -> list[Fixing]:
    """Merge the sets that are fixed at one number without separate sizes, into one set per number."""
    disjoint: list[Fixing] = []
    by_value: dict[float, list[Fixing]] = {}
    for fixing in fixings:
        if isinstance(fixing.block.stored, float) and fixing.size is None:
            by_value.setdefault(fixing.block.stored, []).append(fixing)
        else:
            disjoint.append(fixing)
    for equal in by_value.values():
        if len(equal) == 1:
            disjoint.append(equal[0])
            continue
        block = equal[0].block
        mask = np.logical_or.reduce([mask_of(fixing.block.places, block.parameter.size) for fixing in equal])
        disjoint.append(replace(equal[0], block=replace(block, places=set_of_mask(mask)), in_order=False))
    return disjoint


__all__ = ["FixedBlocks", "collect_fixed"]
