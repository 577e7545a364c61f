"""Peeling of rows that own a private column: the same rows are left however it goes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from affinet.planning.elimination.private import unpeeled


@pytest.mark.parametrize("seed", range(6))
def test_peeling_one_by_one_and_in_rounds_leave_the_same(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(seed)
    matrix = sparse.csr_array((draw.random((60, 70)) < draw.choice([0.03, 0.05])).astype(float))
    matrix = matrix[np.diff(matrix.indptr) > 0]
    in_rounds = []
    for worth in (0.0, 0.05, 1.0):
        monkeypatch.setattr("affinet.planning.elimination.private.WORTH_A_ROUND", worth)
        in_rounds.append(unpeeled(matrix).tolist())
    assert in_rounds[0] == in_rounds[1] == in_rounds[2]
    uses = (matrix[in_rounds[0]].toarray() != 0).sum(axis=0)
    assert not (matrix[in_rounds[0]].toarray()[:, uses == 1]).any()


def test_a_long_chain_is_peeled_from_its_ends() -> None:
    n = 50_000
    chain = sparse.diags_array([np.ones(n), -np.ones(n)], offsets=[0, 1], shape=(n, n + 1)).tocsr()
    assert not len(unpeeled(chain))
    closed = sparse.csr_array(
        sparse.vstack([chain, sparse.csr_array(([1.0, -1.0], ([0, 0], [0, n])), shape=(1, n + 1))])
    )
    assert len(unpeeled(closed)) == n + 1
