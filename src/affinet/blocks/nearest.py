"""The projection in NumPy onto dense equations that many cells share, for planning.

The laws of the bases (`law()`) are as fast for many vectors but round differently: they also set pinned entries and
copies, and sum along strides. Planning uses this projection so that plans stay the same to the bit.
"""

from __future__ import annotations

import numpy as np

from affinet.language.calculus.terms import Floats


def project_cells(cells: Floats, basis: Floats, target: Floats | None) -> Floats:
    """`x − basisᵀ(basis x − target)` along the last axis of `cells`; the tangent part where `target` is None."""
    if len(basis) == 1 and not any(basis.strides):
        # All coefficients equal: no copy of the basis, and one sum.
        gap = cells.sum(axis=-1, keepdims=True) * float(basis[0, 0])
        moved: Floats = cells - (gap if target is None else gap - target) * float(basis[0, 0])
        return moved
    gap = cells @ basis.T
    return np.asarray(cells - (gap if target is None else gap - target) @ basis)
