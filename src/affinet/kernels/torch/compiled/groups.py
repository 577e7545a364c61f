"""Many small groups of equations as a compiled loop: each group is read, projected and written before the next."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from affinet.blocks.dense import Dense

MOST_ENTRIES = 4_096
"""Entries of a group up to which one thread that stays in its cache is quicker than torch's matrix products."""


class SmallGroups:
    """Groups of equations over entries as they are, of one flat parameter."""

    def __init__(self, block: Dense, like: Tensor) -> None:
        from affinet.kernels.loops import groups, openmp

        self._run, self._team = groups.groups, openmp.team
        kind = np.dtype(str(like.dtype).removeprefix("torch."))
        (part,) = block.parts
        places = part.positions[block.classes.representative[block.members]].astype(np.uint32)
        order = np.argsort(places[:, 0])
        self._known = places[order], block.basis[order].astype(kind)
        self._target = block.target[order].astype(kind)
        self._nothing = np.zeros_like(self._target)

    @staticmethod
    def fits(block: Dense) -> bool:
        """Whether nothing is tied in groups of a size that the loop is made for."""
        classes = block.classes
        plain = classes.plain and bool((classes.scale == 1.0).all()) and not classes.shift.any()
        return plain and block.members.shape[1] <= MOST_ENTRIES

    def __call__(self, x: np.ndarray, threads: int, *, affine: bool, quiet: float) -> None:
        places, basis = self._known
        self._run(x, places, basis, self._target if affine else self._nothing, quiet, self._team(basis.size, threads))
