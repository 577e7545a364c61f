"""Whether the rows of one large polyhedron are dense or sparse follows from how many of them are zero."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import sparse

import affinet
from affinet import families
from affinet.blocks.chain import Chain
from affinet.blocks.polyhedron import Polyhedron
from affinet.errors import TooLargeError
from affinet.language.forecast import limited
from affinet.system.limits import Limits


def rows_of(G: np.ndarray | sparse.csr_array) -> object:
    """The matrix of the only block of `G w <= 1`."""
    w = affinet.weights({"w": (G.shape[1],)}).w
    (block,) = affinet.plan(families.linear([w], G, 1.0, sense="<=").named("budget")).blocks
    assert isinstance(block, Polyhedron)
    return block.matrix


def test_full_rows_are_dense_however_many_they_are() -> None:
    """More of them than a component of equations may have as a dense matrix."""
    G = np.random.default_rng(0).normal(size=(Limits().dense_rows + 1, 700))
    assert isinstance(rows_of(G), np.ndarray)


def test_a_few_entries_are_searched_in_dense_rows() -> None:
    G = sparse.random_array((600, 300), density=0.05, random_state=np.random.default_rng(0), format="csr")
    assert isinstance(rows_of(G), np.ndarray)


@pytest.mark.parametrize("count", [20, Limits().dense_rows + 8])
def test_rows_over_many_entries_that_are_mostly_zero_are_sparse(count: int) -> None:
    """Below and above the most rows of a dense component."""
    width = 50 * count
    G = sparse.lil_array((count, width))
    G[np.arange(width) % count, np.arange(width)] = 1.0
    G[:, 0] = 1.0  # links the rows
    assert sparse.issparse(rows_of(sparse.csr_array(G)))


def test_a_long_chain_of_single_rows_is_a_chain_in_little_memory() -> None:
    """As a dense matrix its rows would take 3 GB."""
    w = affinet.weights({"w": (20_000,)}).w
    tracemalloc.start()
    try:
        (block,) = affinet.plan((w[1:] >= w[:-1]).named("rising")).blocks
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(block, Chain)
    assert peak < 20_000**2  # an eighth of it


def test_a_polyhedron_that_does_not_fit_is_refused_with_its_rule() -> None:
    """Rows are read one by one, which takes more memory than the matrix that becomes of them."""
    w = affinet.weights({"w": (1_000,)}).w
    rule = families.linear([w], np.ones((600, 1_000)), np.arange(600), sense="<=").named("budget")
    with limited(0, "Use fewer rows.", limit=600 * 1_000 * 8), pytest.raises(TooLargeError, match=r'"budget".*GiB'):
        affinet.plan(rule)
