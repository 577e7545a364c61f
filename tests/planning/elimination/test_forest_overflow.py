"""Ties whose ratios leave the range of float64 half way, and come back."""

from __future__ import annotations

import numpy as np

from affinet.planning.elimination.forest import Edges, spanning_forest


def test_a_chain_that_vanishes_half_way_has_no_shifts_and_its_ends_are_equal() -> None:
    links = 1_100
    k = np.arange(2 * links)
    ratio = np.where(k < links, 3.0, 1 / 3.0)
    # ratio · w[k + 1] == w[k]: 3^1100 is beyond float64, and so is the ratio of the last entry to the middle one.
    forest = spanning_forest(Edges(k, k + 1, np.ones(len(k)), -ratio, np.zeros(len(k))), len(k) + 1)
    assert (forest.shift == 0).all()
    assert (forest.size == 0).all()
    assert forest.scale[0] == 1.0 or forest.scale[-1] == 1.0
    np.testing.assert_allclose(forest.scale[[0, -1]], 1.0, rtol=1e-12)
    assert (forest.root == forest.root[0]).all()
