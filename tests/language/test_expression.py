"""Hard expressions against NumPy, what stays strided, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from affinet.errors import TooLargeError
from affinet.language.calculus.terms import held_bytes
from affinet.language.evaluation import evaluate
from affinet.language.expression import Expression, concat, stack
from tests.language.drawn import (
    COLUMNS,
    MASK,
    PLACES,
    RANDOM,
    ROWS,
    SYMBOLS,
    VALUES,
    C,
    K,
    M,
    N,
    P,
    S,
    W,
    X,
    b,
    bytes_in,
    parameter,
    tables,
)


def cumsum(x: Any, dim: int) -> Any:
    return x.cumsum(dim) if isinstance(x, Expression) else np.cumsum(x, dim)


def diff(x: Any, dim: int) -> Any:
    return x.diff(dim) if isinstance(x, Expression) else np.diff(x, axis=dim)


def roll(x: Any, shift: Any, dim: Any = None) -> Any:
    return x.roll(shift, dim) if isinstance(x, Expression) else np.roll(x, shift, dim)


def flip(x: Any, *dims: int) -> Any:
    return x.flip(*dims) if isinstance(x, Expression) else np.flip(x, dims or None)


def tril(x: Any, k: int = 0) -> Any:
    return x.tril(k) if isinstance(x, Expression) else np.tril(x, k)


def triu(x: Any, k: int = 0) -> Any:
    return x.triu(k) if isinstance(x, Expression) else np.triu(x, k)


def permute(x: Any, *dims: int) -> Any:
    return x.permute(*dims) if isinstance(x, Expression) else np.transpose(x, dims)


def join(parts: list[Any], dim: int = 0) -> Any:
    return concat(parts, dim) if isinstance(parts[0], Expression) else np.concatenate(parts, dim)


HARD: dict[str, Callable[..., Any]] = {
    "matrices on both sides": lambda W, S, K, X, b: M @ W @ N + 3.0,
    "cumsum and diff": lambda W, S, K, X, b: cumsum(W, 1)[:, 1:] - diff(W, 1),
    "triangle times vector": lambda W, S, K, X, b: tril(S, -1) @ np.arange(7.0) - S.trace(),
    "flatten of a transpose, strided": lambda W, S, K, X, b: W.T.flatten()[3:40:5] * 2,
    "two index arrays, repeated": lambda W, S, K, X, b: W[ROWS, PLACES] - W[ROWS[::-1], PLACES[::-1]],
    "mask of a product": lambda W, S, K, X, b: (W * C)[MASK].sum() + W[:, COLUMNS].sum(1),
    "cumsum across a seam": lambda W, S, K, X, b: cumsum(join([W, X.T]), 0)[4:9],
    "means broadcast": lambda W, S, K, X, b: W - W.mean(1)[:, None] - W.mean(),
    "outer broadcast reshaped": lambda W, S, K, X, b: (b[:, None] - X[:, 0]).reshape(4, 12),
    "kernel permuted": lambda W, S, K, X, b: permute(K, 3, 2, 1, 0)[::-1, :, 1] - K[0, 0, 0, 0],
    "diagonal of a product over pieces": lambda W, S, K, X, b: (P @ join([W, X.T])).diagonal(),
    "roll, transpose, flip": lambda W, S, K, X, b: roll(S, 2, 0) - S.T + flip(S, 1)[None],
    "mean over blocks": lambda W, S, K, X, b: W.reshape(3, 2, 4, 2).mean((1, 3)),
    "row gather of a triangle": lambda W, S, K, X, b: (tril(S)[[3, 1, 1, 6]] * np.arange(1.0, 8))[::2],
    "triu of a stack": lambda W, S, K, X, b: triu(K, 1) - tril(K, -1),
    "roll of everything": lambda W, S, K, X, b: roll(W, 5) + roll(W, (1, -2), (0, 1)),
    "sum over nothing": lambda W, S, K, X, b: W[3:3].sum(0) + W[0],
    "diagonal aside": lambda W, S, K, X, b: S.diagonal(-2) - S.diagonal(2) + K.diagonal(0, 2, 3)[0, 0].sum(),
    "diagonal of an outer sum": lambda W, S, K, X, b: (b[:, None] + 2 * b[None, :]).diagonal(1),
    "array behind a slice": lambda W, S, K, X, b: K[1, :, [0, 2, 2]] - K[0][:, [1, 1, 0]].T.mean(0),
    "open mesh": lambda W, S, K, X, b: W[np.ix_([0, 2, 5], [7, 1])] * C[:3, :2],
    "mask and newaxis": lambda W, S, K, X, b: K[:, None, K_MASK],
    "index of two axes": lambda W, S, K, X, b: W[[[0, 1], [2, 3]], 4] - b[[[0], [1]]],
    "weighted scalar": lambda W, S, K, X, b: 3 * W[0, 1] - b[2] / 2 - 0.5,
    "negative steps": lambda W, S, K, X, b: W[::-2, 7:1:-3] - W[-6::2, :-6:1],
    "vector products": lambda W, S, K, X, b: np.arange(6.0) @ W @ np.arange(8.0) + b @ np.ones(6),
    "stacks of matrices": lambda W, S, K, X, b: np.ones((4, 2, 3)) @ K[:, 0] @ np.ones((3, 2)),
    "sum of a list": lambda W, S, K, X, b: sum([W[0], 2 * W[1], W[2]]),
    "sum of rows": lambda W, S, K, X, b: sum(row * 2 for row in W),
}
K_MASK = RANDOM.random((3, 3)) < 0.6


@pytest.mark.parametrize("case", HARD)
def test_hard_expressions_mean_what_numpy_means(case: str) -> None:
    expression, truth = HARD[case](**SYMBOLS), np.asarray(HARD[case](**VALUES))
    assert expression.shape == truth.shape
    np.testing.assert_allclose(evaluate(expression, VALUES), truth, rtol=0, atol=1e-12)


STRIDED: dict[str, Expression] = {
    "slices": W[1:5:2, ::-1],
    "integers": W[2, 3] - W[-1, -1],
    "transposes": W.T - (W.T.mT.T).T.T,
    "sums": W.sum(dim=1) - W.mean(0).sum(),
    "concat": concat([W, X.T, W[:, ::-1]])[3:15:4],
    "diff": W.diff(0).diff(1),
    "roll": W.roll(3, 1) - W,
    "products": M @ W @ N,
    "triangles": S.tril()[::2].triu(1),
    "running sums": W.cumsum(1)[:, ::3].cumsum(0),
    "diagonals": S.diagonal(1) + (S[:6] @ np.eye(7)).diagonal(),
    "reshape": W.reshape(3, 2, 2, 4).permute(1, 3, 0, 2).flatten(1, 2),
    "flatten and split": W.flatten()[8:40].reshape(4, 8),
    "flat slice of rows": W.flatten()[3:40:5],
    "flat transpose at one place": W.T.flatten()[17],
    "arithmetic index array": W[np.arange(1, 6, 2)],
    "blocks": K.reshape(4, 27)[:, 9:18].reshape(4, 3, 3),
    "stack": stack([W, -W], 1)[:, 1],
}


@pytest.mark.parametrize("case", STRIDED)
def test_it_stays_strided(case: str) -> None:
    assert tables(STRIDED[case]) == 0


def test_a_negative_slice_keeps_a_positive_output_step() -> None:
    (term,) = W[:, ::-2].terms
    assert [(v.source, v.outputs) for v in term.variables] == [(8, ((0, 1),)), (-2, ((1, 1),))]
    assert term.offset == 7


def test_index_arrays_cost_a_table_a_variable_in_32_bits() -> None:
    (term,) = W[[0, 2, 5], :].terms
    assert [np.asarray(v.source).dtype for v in term.variables if not isinstance(v.source, int)] == [np.int32]
    assert tables(W[np.ix_([0, 2, 5], [7, 1, 2])]) == 2


def test_a_broadcast_axis_stays_broadcast() -> None:
    mean = W.mean(1)[:, None]
    for expression in (W - mean, (W - mean)[::2, 1:5], (W - mean).T, (W - mean) * 3, (W - mean)[None]):
        broadcast = [term for term in expression.terms if None in term.start[-2:]]
        assert broadcast, expression
    (term,) = (0 * W + b[:, None]).reshape(2, 3, 8).terms
    assert term.start == (0, 0, None)


def test_matrices_on_both_sides_stay_two_factors() -> None:
    (term,) = (M @ W @ N).terms
    assert sorted(factor.values.shape for factor in term.factors) == [(2, 8), (3, 6)]


def test_matrices_on_one_side_are_multiplied_where_that_saves_memory() -> None:
    v, square = parameter("v", 50), RANDOM.standard_normal((50, 50)) / 10
    (term,) = (square @ (square @ v)).terms
    assert [factor.values.shape for factor in term.factors] == [(50, 50)]
    (thin,) = (square[:, :2] @ (square[:2] @ v)).terms
    assert len(thin.factors) == 2
    (sums,) = v.cumsum(0).cumsum(0).terms
    assert held_bytes(sums) < 5_000
    many: Expression = v
    for _ in range(100):
        many = square @ many
    value = np.linalg.matrix_power(square, 100) @ np.ones(50)
    np.testing.assert_allclose(evaluate(many, {"v": np.ones(50)}), value, rtol=1e-9)


def test_coefficients_along_a_summed_broadcast_axis_are_summed() -> None:
    (term,) = (b[:, None] * C).sum(1).terms
    assert [factor.values.shape for factor in term.factors] == [(6,)]
    (term,) = (b[:, None] * C[0]).sum(1).terms
    assert term.factors == ()


def test_a_sparse_matrix_is_one_variable_with_tables() -> None:
    n = 100_000
    rows, columns = RANDOM.integers(0, 50_000, n), RANDOM.integers(0, 200_000, n)
    matrix = scipy.sparse.coo_array((RANDOM.standard_normal(n), (rows, columns)), shape=(50_000, 200_000))
    w, values = parameter("w", 200_000), RANDOM.standard_normal(200_000)
    for made in (matrix, matrix.tocsr(), matrix.tocsc(), scipy.sparse.csr_matrix(matrix)):
        product = made @ w
        assert bytes_in(product) < 20 * n
        np.testing.assert_allclose(evaluate(product, {"w": values}), matrix @ values, atol=1e-12)
    np.testing.assert_allclose(evaluate(w @ matrix.T, {"w": values}), matrix @ values, atol=1e-12)


def test_sparse_products_of_broadcast_constant_and_matrix_expressions() -> None:
    A = scipy.sparse.csr_array(np.round(M))
    E = W.sum(0) + 2 * b[:, None] + 1.5
    V = VALUES["W"].sum(0) + 2 * VALUES["b"][:, None] + 1.5
    np.testing.assert_allclose(evaluate(A @ E, VALUES), A @ V, atol=1e-12)
    np.testing.assert_allclose(evaluate(E.T @ A.T, VALUES), V.T @ A.T, atol=1e-12)
    T = torch.tensor(np.round(M)).to_sparse()
    np.testing.assert_allclose(evaluate(T @ E, VALUES), A @ V, atol=1e-12)


def test_memory_follows_the_description() -> None:
    big = parameter("big", 4096, 11008)
    square = parameter("square", 4096, 4096)
    for rule in (big.sum(dim=1) == 1, square == square.T, big - big.mean(0) == 0, big[::2, 1:] == 0):
        assert bytes_in(rule.expression) < 1_000
    assert bytes_in(square.tril() - square.cumsum(0)) < 200_000
    i, j = RANDOM.integers(0, 2_000_000, (2, 1_000_000))
    vector = parameter("vector", 2_000_000)
    assert bytes_in((vector[i] == vector[j]).expression) < 2 * 4_000_000 + 1_000


def test_constants_are_never_expanded() -> None:
    big = parameter("big", 4096, 11008) + 1
    assert (big[::2].T.reshape(-1) == 3).expression.constant == -2.0
    row = np.arange(11008.0)
    assert np.asarray((big == row).expression.constant).shape == (1, 11008)
    assert np.asarray((big + np.broadcast_to(row, (4096, 11008)))[::2].T.constant).shape == (11008, 1)


def test_constants_are_copied() -> None:
    given = np.ones(8)
    rule = W == given
    given[:] = 7
    assert np.all(rule.expression.constant == -1)


def test_a_table_beyond_sensible_memory_is_refused_before_it_is_made() -> None:
    big = parameter("big", 60_000, 60_001)
    with pytest.raises(TooLargeError, match=r"would take .* GiB, and the limit is 4 GiB"):
        big.T.reshape(60_000, 60_001)


def test_the_fast_path_means_the_same() -> None:
    for x in (W, W.T[::-1], W * 2 + C, M @ W @ N, W - W.mean(0), tril(S), W[[0, 2]], concat([W, X.T])):
        for i in range(-x.shape[0], x.shape[0]):
            fast, slow = x[i, 1], x[i : i + 1 or None, 1:2].reshape(())
            assert fast.shape == slow.shape == ()
            assert evaluate(fast, VALUES) == pytest.approx(evaluate(slow, VALUES), abs=1e-14)
            assert all(term.start == () for term in fast.terms)
    assert W[0, 0].terms[0].variables == ()
