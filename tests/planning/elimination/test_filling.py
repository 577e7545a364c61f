"""The forecast of a sparse factor bounds the factor that is made, and is near where a band is all there is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import splu

import affinet
from affinet import families
from affinet.blocks.sparse import Sparse
from affinet.planning.elimination.filling import forecast_fill
from tests.limits import planned

DRAW = np.random.default_rng(0)


def banded(rows: int) -> sparse.csr_array:
    return sparse.csr_array(sparse.diags_array([1.0, 0.3, -0.2], offsets=[0, 1, 2], shape=(rows, rows + 2)))


def scattered(rows: int, entries: int) -> sparse.csr_array:
    columns = np.array([DRAW.choice(entries, 4, replace=False) for _ in range(rows)])
    at = np.repeat(np.arange(rows), 4), columns.ravel()
    return sparse.csr_array(sparse.coo_array((DRAW.uniform(1, 2, 4 * rows), at), shape=(rows, entries)))


@pytest.mark.parametrize(
    "matrix", [banded(400), scattered(300, 900), scattered(200, 260)], ids=["band", "scattered", "crowded"]
)
def test_no_factor_holds_more_than_forecast(matrix: sparse.csr_array) -> None:
    shuffled = matrix[DRAW.permutation(matrix.shape[0])]
    factor = splu((shuffled @ shuffled.T).tocsc(), permc_spec="MMD_AT_PLUS_A")
    assert factor.L.nnz <= 1.05 * forecast_fill(shuffled)


def test_the_forecast_of_a_band_follows_its_length() -> None:
    short, long = (forecast_fill(banded(rows)[DRAW.permutation(rows)]) for rows in (1_000, 10_000))
    assert short <= 3 * 1_000
    assert long <= 3 * 10_000


def test_a_long_band_keeps_a_factor_and_scattered_rows_do_not() -> None:
    w = affinet.weights({"a": (30_002,), "b": (900,)})
    rules = [families.linear([w.a[:5_002]], banded(5_000), 1), families.linear([w.b], scattered(400, 900))]
    plan = planned(rules, dense_rows=10, largest_fill=16_000)
    solved = {block.factored: block.matrix.shape[0] for block in plan.blocks if isinstance(block, Sparse)}
    assert solved[True] == 5_000
    assert solved[False] > 300
    assert "5,000 equations, solved together (sparse factor)" in str(plan)
    assert "solved together (conjugate gradients)" in str(plan)
