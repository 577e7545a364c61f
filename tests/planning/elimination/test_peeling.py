"""Ranks of large sparse components: what is peeled is independent, and a core too large to factor is bounded."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

import affinet
from affinet.blocks.interval import Interval
from affinet.blocks.sparse import Sparse
from affinet.planning.elimination.peeling import independent_rows
from affinet.plans.plan import Plan
from affinet.system.limits import Limits
from affinet.system.tolerance import Tolerance
from tests.limits import planned
from tests.oracle import oracle


def scattered(seed: int, rows: int, columns: int, *, repeated: int = 0) -> sparse.csr_array:
    """Rows of three to five random numbers, some of them sums of two others."""
    draw = np.random.default_rng(seed)
    dense = np.zeros((rows, columns))
    for row in dense:
        places = draw.choice(columns, draw.integers(3, 6), replace=False)
        row[places] = draw.integers(1, 4, len(places))
    for row in range(rows - repeated, rows):
        dense[row] = dense[draw.choice(rows - repeated, 2, replace=False)].sum(axis=0)
    dense /= np.linalg.norm(dense, axis=1)[:, None]
    return sparse.csr_array(dense)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("rows", "columns", "repeated"), [(30, 80, 0), (40, 50, 6), (60, 40, 0), (50, 50, 10)])
def test_the_rank_is_numpys(seed: int, rows: int, columns: int, repeated: int) -> None:
    matrix = scattered(seed, rows, columns, repeated=repeated)
    rhs = matrix @ np.random.default_rng(seed).standard_normal(columns)
    found = independent_rows(matrix, rhs, np.abs(rhs), Tolerance(), Limits())
    rank = int(np.linalg.matrix_rank(matrix.toarray()))
    assert found.rank == Interval(rank, rank)
    assert found.exact
    assert found.consistent
    assert len(found.rows) == rank == np.linalg.matrix_rank(matrix.toarray()[found.rows])


def test_a_core_that_cannot_hold_is_found() -> None:
    matrix = scattered(0, 50, 50, repeated=10)
    rhs = matrix @ np.ones(50)
    rhs[-1] += 0.5
    assert not independent_rows(matrix, rhs, np.abs(rhs), Tolerance(), Limits()).consistent


def test_a_chain_of_private_unknowns_leaves_no_core() -> None:
    matrix = sparse.csr_array(np.tril(np.ones((40, 40))) / np.sqrt(np.arange(1, 41))[:, None])
    found = independent_rows(matrix, np.arange(40.0), np.arange(40.0), Tolerance(), Limits())
    assert (found.rank, found.rows.tolist()) == (Interval(40, 40), list(range(40)))


BOUNDED = Limits(largest_core=0, most_eliminated=0)


def large(**limits: int) -> tuple[Plan, np.ndarray]:
    """A plan of one component that is too large for a dense factor: 50 equations, 6 of them redundant."""
    matrix = scattered(1, 50, 56, repeated=6).toarray()
    w = affinet.weights({"a": (56,)})
    rules = [matrix[:25] @ w.a == 1.0 * matrix[:25].sum(1), matrix[25:] @ w.a == 1.0 * matrix[25:].sum(1)]
    return planned(rules, dense_rows=10, **limits), matrix


def test_a_core_that_can_be_factored_has_one_rank() -> None:
    plan, matrix = large()
    (block,) = (block for block in plan.blocks if isinstance(block, Sparse))
    assert block.independent
    assert plan.rank == np.linalg.matrix_rank(matrix) == oracle(plan.system).rank == 44
    assert (plan.redundant, plan.free) == (6, plan.size - 44)
    assert "note:" not in str(plan)


def test_a_large_core_that_stays_sparse_has_one_rank() -> None:
    plan, _ = large(largest_core=5)
    (block,) = (block for block in plan.blocks if isinstance(block, Sparse))
    assert block.independent
    assert (plan.rank, len(block.rhs)) == (44, 44)


def test_a_core_too_large_to_factor_has_a_rank_within_bounds() -> None:
    plan, _ = large(largest_core=5, most_eliminated=0)
    (block,) = (block for block in plan.blocks if isinstance(block, Sparse))
    assert not block.independent
    rank, size = plan.rank, plan.size
    assert isinstance(rank, Interval)
    assert rank.low <= 44 <= rank.high <= 50
    assert rank.low < rank.high
    assert str(rank) == f"{rank.low}..{rank.high}"
    assert plan.free == Interval(size - rank.high, size - rank.low)
    assert plan.redundant == Interval(50 - rank.high, 50 - rank.low)
    assert f"rank {rank.low}..{rank.high}, {size} entries, {size - rank.high}..{size - rank.low} free>" in repr(plan)
    text = str(plan)
    assert "note: a large irregular core has a rank that is bounded, not known; all of its equations are kept." in text
    assert f"Of its 50 equations {rank.low} are independent, for each owns an entry that none after it has" in text
    assert rank.low > 25
    assert f"50 equations, rank {rank.low}..{rank.high} ({50 - rank.high}..{50 - rank.low} redundant)" in text
    assert "(conjugate gradients)" in text
    assert len(block.rhs) == 50


def test_a_known_count_prints_as_one_number() -> None:
    assert str(Interval(3, 3)) == "3"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("rows", "columns", "repeated"), [(300, 400, 0), (300, 200, 0), (200, 220, 40), (90, 30, 5)])
def test_bounds_hold_and_are_of_use(seed: int, rows: int, columns: int, repeated: int) -> None:
    matrix = scattered(seed, rows, columns, repeated=repeated)
    found = independent_rows(matrix, np.zeros(rows), np.zeros(rows), Tolerance(), BOUNDED)
    rank = int(np.linalg.matrix_rank(matrix.toarray()))
    assert found.rank.low <= rank <= found.rank.high <= min(rows, columns)
    assert found.rank.low > 0.6 * rank
    assert found.exact == (rank == rows and found.rank.low == found.rank.high)


def test_a_rank_that_both_bounds_agree_on_makes_no_rows_independent() -> None:
    matrix = sparse.csr_array(np.kron(np.eye(3), np.ones((5, 2)) / np.sqrt(2)))
    found = independent_rows(matrix, np.zeros(15), np.zeros(15), Tolerance(), BOUNDED)
    assert found.rank.high == 6
    assert not found.exact
    assert len(found.rows) == 15
