"""Tables of offsets below zero, as of entries that are listed from the middle on."""

from __future__ import annotations

import numpy as np

from affinet.blocks.offsets import Nest, Table, disjoint_sums, mixed_radix


def test_offsets_on_both_sides_of_the_first_reach_as_far_as_they_lie_apart() -> None:
    listed = Table(np.array([0, -5, 5], np.int32))
    assert not mixed_radix(listed, Nest(((2, 10),)))  # −5 + 10 is 5 + 0
    assert not disjoint_sums(listed, Nest(((2, 10),)))
    assert mixed_radix(listed, Nest(((2, 15),)))
    assert mixed_radix(Table(np.array([7, 12, 17], np.int32)), Nest(((2, 15),)))
