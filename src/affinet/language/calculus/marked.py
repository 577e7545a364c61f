"""A table of the places where a mask is True, in rising order, stored as one bit per place of the mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affinet.language.forecast import forecast

RUN = 4_096
"""Bytes per block of the mask: Trues are counted per block, so that finding one place unpacks a single block."""
BIT_COUNTS = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)
"""The number of bits that are set in each byte."""


@dataclass(frozen=True, eq=False, slots=True)
class Marked:
    """`step * p` for every place p at which the mask is True, in rising order of p.

    `bits` packs the mask as `numpy.packbits` does; `places` is its length and `size` the number of its Trues.
    """

    bits: NDArray[np.uint8]
    places: int
    size: int
    step: int

    @classmethod
    def of(cls, mask: NDArray[np.bool_], step: int) -> Marked:
        """The table of a mask of any shape, read in row-major order."""
        return cls(np.packbits(mask.reshape(-1)), mask.size, int(np.count_nonzero(mask)), step)

    @property
    def nbytes(self) -> int:
        return int(self.bits.nbytes)

    def mask(self) -> NDArray[np.bool_]:
        """The mask itself, one byte for each place."""
        return np.unpackbits(self.bits, count=self.places).view(np.bool_)

    def table(self) -> NDArray[np.integer]:
        """The positions one by one, in 32 bits where their numbers allow."""
        forecast("the positions of a mask, one by one,", self.places + 8 * self.size, item_bytes=1)
        reach = abs(self.step) * self.places
        places = np.flatnonzero(self.mask())
        return (places.astype(np.int32, copy=False) if reach < 2**31 else places) * self.step

    def at(self, point: int) -> int:
        """The position of one point of the table."""
        before = self._before()
        block = int(np.searchsorted(before, point, side="right")) - 1
        first = block * RUN
        bits = np.unpackbits(self.bits[first : first + RUN])
        return self.step * (8 * first + int(np.flatnonzero(bits)[point - int(before[block])]))

    def between(self, low: int, high: int) -> range:
        """The points whose positions lie from `low` to `high`."""
        if self.step < 0:
            low, high = -high, -low
        step = abs(self.step)
        first, last = max(-(-low // step), 0), min(high // step, self.places - 1)
        if first > last:
            return range(0)
        return range(self._rank(first), self._rank(last + 1))

    def bounds(self) -> tuple[int, int]:
        """The lowest and the highest position."""
        ends = self.at(0), self.at(self.size - 1)
        return min(ends), max(ends)

    def _before(self) -> NDArray[np.integer]:
        """The number of Trues before each block of bytes, and in all blocks."""
        starts = np.arange(0, len(self.bits), RUN)
        return np.concatenate([[0], np.cumsum(np.add.reduceat(BIT_COUNTS[self.bits], starts, dtype=np.int64))])

    def _rank(self, place: int) -> int:
        """The number of Trues before a place."""
        full_bytes, bits_after = divmod(place, 8)
        blocks = full_bytes // RUN
        count = int(self._before()[blocks]) + int(BIT_COUNTS[self.bits[blocks * RUN : full_bytes]].sum(dtype=np.int64))
        return count + (int(BIT_COUNTS[self.bits[full_bytes] >> (8 - bits_after)]) if bits_after else 0)
