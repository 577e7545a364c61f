"""Fixed entries as compiled loops over a mask or runs, where torch would make a list of positions."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.entry_sets import Intervals, Masked
from affinet.blocks.fixed import Fixed
from affinet.kernels.torch.compiled.looped import WIDTHS

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By bytes of a number: what a dtype's bits are read as."""


class FixedLoops:
    """Loops over the flat numbers of a parameter, for sets that are no box."""

    def __init__(self, block: Fixed, places: Intervals | Masked) -> None:
        from affinet.kernels.loops import fixed, openmp

        self._loops, self._team = fixed, openmp.team
        self._places, self._stored = places, block.stored
        self._sign = -1.0 if block.negated else 1.0

    @classmethod
    def of(cls, block: Fixed) -> FixedLoops | None:
        """The loops of a block; None for a box, which torch's own operations are as quick for."""
        places = block.places
        return cls(block, places) if isinstance(places, Intervals | Masked) else None

    def fill(self, flat: Tensor, value: Tensor, threads: int) -> bool:
        """Set the entries to one number; False for a dtype that numbers of this many bits do not hold."""
        kind = INTEGERS.get(flat.element_size())
        if kind is None or not self._reaches(flat):
            return False
        bits = value.view(kind).numpy()[()]
        x = flat.view(kind).numpy()
        if isinstance(self._places, Masked):
            self._loops.fill_masked(x, self._places.mask, bits, self._team(len(x), threads))
        else:
            self._loops.fill_runs(x, *self._bounds, bits, self._team(self._places.size, threads))
        return True

    def put(self, flat: Tensor, threads: int) -> bool:
        """Set the entries to their values; False for dtypes that the loops are not compiled for."""
        stored = self._stored
        if isinstance(stored, float) or flat.dtype not in WIDTHS or not self._reaches(flat):
            return False
        x, team = flat.numpy(), self._team(self._places.size, threads)
        if isinstance(self._places, Masked):
            self._loops.put_masked(x, self._places.mask, stored, self._before, self._sign, team)
        else:
            self._loops.put_runs(x, *self._bounds, stored, self._places.before, self._sign, team)
        return True

    def decay(self, flat: Tensor, weights: Tensor, rate: float, threads: int) -> bool:
        """Set the entries to `−rate` times the weights; False for dtypes that the loops are not compiled for."""
        if flat.dtype not in WIDTHS or weights.dtype != flat.dtype or not self._reaches(flat):
            return False
        x, source, team = flat.numpy(), weights.numpy(), self._team(len(flat), threads)
        if isinstance(self._places, Masked):
            self._loops.scale_masked(x, self._places.mask, source, -rate, team)
        else:
            self._loops.scale_runs(x, *self._bounds, source, -rate, team)
        return True

    def _reaches(self, flat: Tensor) -> bool:
        return flat.device.type == "cpu"

    @property
    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        assert isinstance(self._places, Intervals)
        return self._places.first, self._places.last

    @cached_property
    def _before(self) -> np.ndarray:
        """How many Trues there are before each block of the mask."""
        assert isinstance(self._places, Masked)
        starts = np.arange(0, len(self._places.mask), self._loops.BLOCK)
        counts = np.add.reduceat(self._places.mask, starts, dtype=np.int64)
        return np.concatenate([[0], np.cumsum(counts)[:-1]])
