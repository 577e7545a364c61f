"""Ties on a spanning forest: scales and shifts to the entry of largest scale, along chains of any length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import affinet
from affinet.planning.elimination.forest import Edges, Forest, spanning_forest

pytestmark = pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")  # some of these determine all

RATIOS = st.sampled_from([1.0, -1.0, 2.0, -3.0, 0.5])


def edges_of(ties: list[tuple[int, int, float, float, float]]) -> Edges:
    x, y, a, b, c = (np.array([tie[k] for tie in ties]) for k in range(5))
    return Edges(x.astype(np.int64), y.astype(np.int64), a.astype(float), b.astype(float), c.astype(float))


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[tuple[int, int, float, float, float]], int]:
    """Ties without cycles, each in either direction, over nodes in any order."""
    n = draw(st.integers(2, 12))
    names = draw(st.permutations(range(n)))
    ties = []
    for k in range(1, n):
        if draw(st.integers(0, 4)):
            other, a, b, c = names[draw(st.integers(0, k - 1))], draw(RATIOS), draw(RATIOS), draw(st.integers(-2, 2))
            pair = (names[k], other) if draw(st.booleans()) else (other, names[k])
            ties.append((*pair, a, b, float(c)))
    return ties, n


def values(forest: Forest, roots: np.ndarray) -> np.ndarray:
    return np.broadcast_to(forest.scale, roots.shape) * roots[forest.root] + forest.shift


@given(trees())
def test_any_values_at_the_roots_satisfy_the_ties(
    drawn: tuple[list[tuple[int, int, float, float, float]], int],
) -> None:
    ties, n = drawn
    if not ties:
        return
    edges = edges_of(ties)
    forest = spanning_forest(edges, n)
    w = values(forest, np.random.default_rng(0).standard_normal(n))
    np.testing.assert_allclose(edges.a * w[edges.x] + edges.b * w[edges.y], edges.c, rtol=0, atol=1e-9)
    assert len(np.unique(forest.root)) == n - len(ties)
    scale = np.broadcast_to(forest.scale, n)
    assert (np.abs(scale) <= 1 + 1e-9).all()
    roots = forest.root == np.arange(n)
    assert (scale[roots] == 1).all()
    assert (np.broadcast_to(forest.shift, n)[roots] == 0).all()


def test_plain_equalities_carry_no_scales() -> None:
    forest = spanning_forest(edges_of([(0, 1, 1, -1, 0), (2, 1, 3, -3, 0), (4, 5, -1, 1, 0)]), 6)
    assert forest.root.tolist() == [0, 0, 0, 3, 4, 4]
    assert (len(forest.scale), len(forest.shift)) == (1, 1)


@pytest.mark.parametrize("link", [3.0, 1 / 3, -3.0])
def test_a_chain_of_a_thousand_ratios_neither_overflows_nor_loses_its_near_end(link: float) -> None:
    n = 1001
    forest = spanning_forest(edges_of([(k, k + 1, 1.0, -link, 0.0) for k in range(n - 1)]), n)
    root = 0 if abs(link) > 1 else n - 1
    assert (forest.root == root).all()
    assert np.isfinite(forest.scale).all()
    near = np.arange(n) if abs(link) > 1 else np.arange(n)[::-1]
    step = 1 / link if abs(link) > 1 else link
    np.testing.assert_allclose(forest.scale[near[:600]], step ** np.arange(600.0), rtol=1e-12)
    assert np.abs(forest.scale[near[700:]]).max() == 0.0


def test_a_shifted_chain_adds_its_shifts() -> None:
    forest = spanning_forest(edges_of([(k, k + 1, 1.0, -1.0, -0.25) for k in range(40)]), 41)
    np.testing.assert_allclose(forest.shift - forest.shift[0], 0.25 * np.arange(41))


def test_a_long_chain_takes_few_rounds_of_doubling() -> None:
    n = 200_000
    k = np.arange(n - 1)
    forest = spanning_forest(Edges(k, k + 1, np.ones(n - 1), np.full(n - 1, -1.0), np.full(n - 1, -1.0)), n)
    np.testing.assert_array_equal(forest.shift, np.arange(float(n)))


def test_cycles_that_agree_are_redundant() -> None:
    w = affinet.weights({"a": (4,)})
    plan = affinet.plan([w.a[0] == 2 * w.a[1], w.a[1] == 3 * w.a[2], w.a[0] == 6 * w.a[2], w.a[2] == w.a[3] + 1])
    assert (plan.rows, plan.rank, plan.free) == (4, 3, 1)


def test_a_second_ratio_fixes_the_class() -> None:
    w = affinet.weights({"a": (3,)})
    plan = affinet.plan([w.a[0] == 2 * w.a[1], w.a[0] == w.a[1] + 1, w.a[2] == w.a[0]])
    assert (plan.rank, plan.free) == (3, 0)
    fixed = plan.projector({"a": np.zeros(3)}).project({"a": np.zeros(3)})
    np.testing.assert_allclose(fixed["a"], [2, 1, 2])


def test_a_cycle_with_a_shift_left_over_is_a_contradiction() -> None:
    w = affinet.weights({"a": (3,)})
    with pytest.raises(affinet.InfeasibleError, match="together they say 0 == 1 for"):
        affinet.plan([w.a[0] == w.a[1], w.a[1] == w.a[2], w.a[2] == w.a[0] + 1])
