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
from affinet.blocks.programs.gram_factor import products_of
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


def star(leaves: int) -> affinet.Plan:
    """A plan of `w_i <= t` for all i: no bound of one weight, and not a chain."""
    w = affinet.weights({"w": (leaves,), "t": (1,)})
    return affinet.plan([(w["w"] <= w["t"][0]).named("capped")])


def test_rows_that_are_active_together_are_refused_before_memory_runs_out() -> None:
    """Where few of them are, the same plan projects: 9 rows have 81 products, 500 have 250,000 of 12 bytes."""
    arrays = {"w": np.arange(600.0), "t": np.zeros(1)}
    projector = star(600).projector(arrays)
    with limited(0, "", limit=2**21):
        calm = projector.project({"w": np.linspace(-600.0, 9.0, 600), "t": np.array([0.0])})
        assert calm["w"].max() <= calm["t"][0] + 1e-12
        with pytest.raises(TooLargeError, match=r'"capped": the products of \d+ active rows of one polyhedron.*GiB'):
            projector.project({"w": np.full(600, 9.0), "t": np.zeros(1)})


def test_equations_of_a_polyhedron_that_do_not_fit_are_refused_when_they_are_planned() -> None:
    """They are active in every step: 2,000 equations that share a weight have 4,000,000 products, of 12 bytes each."""
    w = affinet.weights({"u": (2_000,), "v": (2_000,), "t": (1,)})
    rules = [(w["u"] + w["v"] + w["t"][0] == 1).named("shared"), (w["u"] >= 0).named("low")]
    affinet.plan(rules)
    words = r'"shared".*: the products of 2,000 equations of one polyhedron over 4,001 entries would take .* GiB'
    with limited(0, "", limit=2**25), pytest.raises(TooLargeError, match=words):
        affinet.plan(rules)


@pytest.mark.parametrize("dense", [False, True])
def test_the_products_of_rows_are_counted(dense: bool) -> None:
    rng = np.random.default_rng(0)
    rows = sparse.random_array((40, 60), density=1.0 if dense else 0.05, random_state=rng, format="csr")
    assert products_of(rows) >= (rows @ rows.T).nnz
    assert products_of(rows) <= 40 * 40
    apart = sparse.csr_array(np.kron(np.eye(5), np.ones((1, 3))))
    assert products_of(apart) == 15, "three entries of each row, which no other reads"
