"""The far end of a chain of ratios, where a coefficient is too small for a float64 number."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet.blocks.fixed import Fixed


@pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")
@pytest.mark.parametrize("links", [100, 800])
def test_a_far_end_of_zero_makes_all_of_the_chain_zero(links: int) -> None:
    w = affinet.weights({"a": (links + 1,)})
    plan = affinet.plan([3 * w.a[1:] == w.a[:-1], w.a[links] == 0])
    assert (plan.size, plan.free) == (links + 1, 0)
    (block,) = plan.blocks
    assert isinstance(block, Fixed)
    assert not np.any(block.values_at(np.arange(block.size)))
