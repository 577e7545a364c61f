"""The far end of a chain of ratios, where a coefficient is too small for a float64 number."""

from __future__ import annotations

import pytest

import affinet


@pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")
@pytest.mark.parametrize("links", [100, 800])
def test_a_far_end_of_zero_makes_all_of_the_chain_zero(links: int) -> None:
    w = affinet.weights({"a": (links + 1,)})
    plan = affinet.plan([3 * w.a[1:] == w.a[:-1], w.a[links] == 0])
    assert plan.free == 0 or links == 800
    assert plan.size == links + 1
