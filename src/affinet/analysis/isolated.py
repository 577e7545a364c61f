"""Tell whether nonlinear equations leave an entry isolated values only, by the ranks at random points of their set."""

from __future__ import annotations

from typing import Any

import numpy as np

from affinet.blocks.block import Block
from affinet.blocks.curved_cells import CurvedCells
from affinet.blocks.namespace import NumPy
from affinet.blocks.tangent_map import TangentMap

STARTS = 2
"""Random points from which the set is looked for."""
MOST = 100_000
"""Entries of the largest block whose set is looked for."""
DEPENDENT = 1e-9
"""The squared length of the part of an entry's unit vector in the tangent plane below which the entry cannot move: the
unit vector is then a combination of the derivatives, to half of the digits."""


def is_isolated(block: Block, place: int) -> bool:
    """Whether an entry of a block of nonlinear equations can take isolated values only, as far as they tell.

    The equation `entry == value` then adds nothing to the rank of the derivatives. This is compared at random points of
    the set, and holds at almost all points of its branches there; False where no such point is found, and for large
    blocks and those with inequalities.
    """
    law = block.law()
    if not isinstance(law, TangentMap) or block.size > MOST:
        return False
    curved: CurvedCells[Any] = law.set
    xp = NumPy()
    at = place if law.order is None else int(np.flatnonzero(law.order == place)[0])
    unit = np.zeros(block.size)
    unit[at] = 1.0
    cell = at // (block.size // max(1, curved.shape[0]))
    for seed in range(STARTS):
        with np.errstate(all="ignore"):
            point = curved.nearest(xp, np.random.default_rng(seed).standard_normal(curved.shape))
            if not bool(np.asarray(curved.satisfies(xp, point, xp.spacing(point) / 2.0)).ravel()[cell]):
                return False
            part = np.asarray(curved.tangent_part(xp, unit.reshape(curved.shape), curved.face(xp, point)))
        if not float(part.reshape(-1) @ part.reshape(-1)) <= DEPENDENT:
            return False
    return True
