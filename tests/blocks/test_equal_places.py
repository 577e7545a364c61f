"""What slices give a value is given it wherever an equation on top carries it."""

from __future__ import annotations

import numpy as np
from scipy import sparse

import affinet
from affinet.blocks.commuting import Commuting
from affinet.blocks.equal_places import equal_places
from affinet.blocks.slices import Slices
from affinet.system.system import System
from tests.limits import blocks_within


def test_a_value_of_slices_is_carried_along_ties() -> None:
    w = affinet.weights({"a": (4, 3)})
    # In every row the first entry is 1 − 0.7.
    system = System.of(w.a @ np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 1.0]]) == [1.0, 0.7])
    (base,) = blocks_within(system, one_by_one=0)
    assert isinstance(base, Slices)
    assert base.pinned.tolist() == [0]
    ties = sparse.csr_array(
        np.array([[0, 0, 0, 1.0, 0, 0, 0, 0, 0, 0, 0, 0, 1.0, 0]])
    )  # a[1, 0] == −(the entry behind)
    found = equal_places([base], ties, np.zeros(1))
    given = dict(zip(found.pinned.tolist(), found.values.tolist(), strict=True))
    assert given.keys() == {3, 12}
    np.testing.assert_allclose([given[3], given[12]], [0.3, -0.3], rtol=1e-14)
    assert len(found.copies) == 0


def test_a_value_of_one_part_of_a_product_is_carried_along_ties() -> None:
    w = affinet.weights({"a": (4, 3)})
    matrix = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    system = System.of([w.a @ matrix == [1.0, 0.7], w.a.sum(0) == [1.2, 1.4, 1.4]])
    (base,) = blocks_within(system, one_by_one=0)
    assert isinstance(base, Commuting)
    tie = np.zeros((1, 14))
    tie[0, [3, 12]] = 1.0
    found = equal_places([base], sparse.csr_array(tie), np.zeros(1))
    given = dict(zip(found.pinned.tolist(), found.values.tolist(), strict=True))
    np.testing.assert_allclose([given[3], given[12]], [0.3, -0.3], rtol=1e-14)
