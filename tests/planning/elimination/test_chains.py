"""Long chains of ties, from the rules to the blocks: no overflow, no lost digit, no round an entry."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet.blocks.fixed import Fixed
from affinet.blocks.ties import Ties

pytestmark = pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")  # some of these determine all


def test_a_thousand_links_of_three_are_one_class() -> None:
    w = affinet.weights({"a": (1000,)})
    (block,) = affinet.plan(w.a[:-1] == 3 * w.a[1:]).blocks
    assert isinstance(block, Ties)
    assert (block.rank, block.classes.count) == (999, 1)
    assert np.allclose(block.classes.scale[:30], 3.0 ** -np.arange(30.0), rtol=1e-13)


@pytest.mark.parametrize("length", [3, 70, 600])
@pytest.mark.parametrize("end", [0, -1])
def test_a_chain_with_a_fixed_end_is_fixed(length: int, end: int) -> None:
    w = affinet.weights({"a": (length,)})
    (block,) = affinet.plan([w.a.diff() == 0.5, w.a[end] == 1]).blocks
    assert isinstance(block, Fixed)
    wanted = 1 + 0.5 * np.arange(length) - (0.5 * (length - 1) if end else 0)
    assert np.allclose(block.values_at(np.arange(block.size)), wanted, rtol=0, atol=1e-12)


def test_a_chain_of_ratios_with_a_fixed_end_keeps_its_digits() -> None:
    w = affinet.weights({"a": (100,)})
    (block,) = affinet.plan([w.a[:-1] == 3 * w.a[1:], w.a[-1] == 1]).blocks
    assert isinstance(block, Fixed)
    assert np.allclose(block.values_at(np.arange(block.size)), 3.0 ** np.arange(99.0, -1, -1), rtol=1e-13)


def test_a_value_beyond_float64_is_a_contradiction() -> None:
    w = affinet.weights({"a": (1000,)})
    with pytest.raises(affinet.InfeasibleError, match="cannot hold together"):
        affinet.plan([w.a[:-1] == 3 * w.a[1:], w.a[-1] == 1])
    assert affinet.plan([w.a[:-1] == 3 * w.a[1:], w.a[-1] == 0]).free == 0


def test_a_second_ratio_on_a_cycle_fixes_the_class_and_what_hangs_on_it() -> None:
    w = affinet.weights({"a": (5,)})
    rules = [w.a[0] == 2 * w.a[1], w.a[1] == w.a[2] + 1, w.a[2] == w.a[0] - 3, w.a[3] == -w.a[0], w.a[4] == w.a[3]]
    (block,) = affinet.plan(rules).blocks
    assert isinstance(block, Fixed)
    assert block.values_at(np.arange(block.size)).tolist() == [4.0, 2.0, 1.0, -4.0, -4.0]


def test_a_cycle_that_agrees_is_redundant() -> None:
    w = affinet.weights({"a": (3,)})
    plan = affinet.plan([w.a[0] == 2 * w.a[1], w.a[1] == 3 * w.a[2], w.a[0] == 6 * w.a[2]])
    assert (plan.rank, plan.redundant, plan.free) == (2, 1, 1)
