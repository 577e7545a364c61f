"""Connected components: the same batches whatever order the equations came in."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from affinet.planning.elimination.components import Batch, Giant, split
from affinet.system.limits import Limits
from affinet.system.rows import Rows


def rows_of(matrix: np.ndarray) -> Rows:
    compressed = sparse.csr_array(matrix)
    n = len(matrix)
    return Rows(
        compressed.indptr.astype(np.int64),
        compressed.indices.astype(np.int64),
        compressed.data,
        np.arange(float(n)),
        np.arange(n),
        np.zeros(n, np.int64),
    )


def block_system(draw: np.random.Generator, forms: list[tuple[int, int]]) -> np.ndarray:
    """Dense blocks along a diagonal, rows and columns shuffled."""
    blocks = [draw.uniform(1, 2, form) for form in forms]
    whole = sparse.block_diag(blocks).toarray()
    return whole[draw.permutation(len(whole))][:, draw.permutation(whole.shape[1])]


def rebuilt(found: list[Batch | Giant], shape: tuple[int, int]) -> np.ndarray:
    matrix = np.zeros(shape)
    for part in found:
        if isinstance(part, Giant):
            matrix[np.ix_(part.rows, part.nodes)] = part.matrix.toarray()
            assert part.rhs.tolist() == part.rows.tolist()
        else:
            for nodes, block, rows, rhs in zip(part.nodes, part.matrix, part.rows, part.rhs, strict=True):
                matrix[np.ix_(rows, nodes)] = block
                assert rhs.tolist() == rows.tolist()
    return matrix


@pytest.mark.parametrize("seed", range(5))
def test_components_are_batched_by_form(seed: int) -> None:
    draw = np.random.default_rng(seed)
    matrix = block_system(draw, [(1, 3), (2, 4), (1, 3), (2, 4), (1, 3), (3, 3)])
    found = split(rows_of(matrix), np.ones(len(matrix)), Limits())
    assert sorted(part.matrix.shape for part in found) == [(1, 3, 3), (2, 2, 4), (3, 1, 3)]
    np.testing.assert_array_equal(rebuilt(found, matrix.shape), matrix)


def test_the_order_of_equations_does_not_change_the_batches() -> None:
    draw = np.random.default_rng(0)
    matrix = block_system(draw, [(2, 5)] * 4 + [(1, 3)] * 3)
    order = draw.permutation(len(matrix))
    plain, shuffled = (split(rows_of(m), np.ones(len(m)), Limits()) for m in (matrix, matrix[order]))
    assert [part.matrix.shape for part in plain] == [part.matrix.shape for part in shuffled]
    np.testing.assert_array_equal(rebuilt(shuffled, matrix.shape), matrix[order])


def test_components_beyond_a_dense_factor_stay_sparse() -> None:
    matrix = block_system(np.random.default_rng(1), [(3, 6), (2, 5), (3, 6)])
    found = split(rows_of(matrix), np.ones(len(matrix)), Limits(dense_rows=2))
    assert sorted(type(part).__name__ for part in found) == ["Batch", "Giant", "Giant"]
    np.testing.assert_array_equal(rebuilt(found, matrix.shape), matrix)


def test_too_many_numbers_stay_sparse() -> None:
    found = split(rows_of(np.ones((2, 6))), np.ones(2), Limits(dense_numbers=10))
    assert [type(part) for part in found] == [Giant]


def test_no_equations_have_no_components() -> None:
    assert split(rows_of(np.zeros((0, 3))), np.zeros(0), Limits()) == []
