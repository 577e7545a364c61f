"""Ties that are a forest already are followed, and say what a search through the graph says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse
from scipy.sparse import csgraph

import affinet
from affinet.planning.elimination.forest import Edges, _follow_chains, spanning_forest


def edges(x: np.ndarray, y: np.ndarray) -> Edges:
    ones = np.ones(len(x))
    return Edges(np.asarray(x, np.int64), np.asarray(y, np.int64), ones, -ones, np.zeros(len(x)))


@given(arrays(np.int64, st.integers(2, 40), elements=st.integers(0, 1_000)), st.data())
def test_first_of_every_tree(below: np.ndarray, data: st.DataObject) -> None:
    nodes = len(below)
    linked = np.flatnonzero(data.draw(arrays(bool, nodes)))
    linked = linked[linked > 0]
    given_edges = edges(below[linked] % linked, linked)
    graph = sparse.csr_array((np.ones(len(linked)), (given_edges.x, given_edges.y)), shape=(nodes, nodes))
    _, labels = csgraph.connected_components(graph, directed=False)
    first = np.array([np.flatnonzero(labels == label)[0] for label in labels])
    assert (spanning_forest(given_edges, nodes).root == first).all()
    assert _follow_chains(given_edges, nodes) is not None


@pytest.mark.parametrize(
    ("x", "y"), [([1], [0]), ([0, 1], [2, 2]), ([0, 0], [1, 1])], ids=["upwards", "two into one", "said twice"]
)
def test_what_is_no_forest_of_chains_is_searched(x: list[int], y: list[int]) -> None:
    assert _follow_chains(edges(np.array(x), np.array(y)), 3) is None


@pytest.mark.parametrize("marks", [[5, -1, 5, 3, 3, 5], [10**12, 7, 10**12, -4, 7], [0], [-1, -1]])
def test_patterns_near_and_far(marks: list[int]) -> None:
    w = affinet.weights({"a": (len(marks),)})
    plan = affinet.plan(affinet.families.share(w.a, np.array(marks)))
    kept = [mark for mark in marks if mark >= 0]
    assert plan.rank == len(kept) - len(set(kept))
