"""Hard expressions against NumPy, what stays strided, what it costs, and how it is said."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from affinet.errors import ConstantError, NotAffineError, RuleError, ShapeError, TooLargeError, TruthValueError
from affinet.language.evaluation import evaluate
from affinet.language.expression import Constraint, Expression, concat, stack, weight
from affinet.language.terms import Parameter, Term, held_bytes

RANDOM = np.random.default_rng(0)
SHAPES = {"W": (6, 8), "S": (7, 7), "K": (4, 3, 3, 3), "X": (8, 5), "b": (6,)}
VALUES = {name: RANDOM.standard_normal(shape) for name, shape in SHAPES.items()}
SYMBOLS = {name: weight(Parameter(name, shape)) for name, shape in SHAPES.items()}
W, S, K, X, b = SYMBOLS.values()
M, N, P, C = (RANDOM.standard_normal(shape) for shape in ((3, 6), (8, 2), (5, 11), (6, 8)))
MASK, COLUMNS = RANDOM.random((6, 8)) < 0.4, RANDOM.random(8) < 0.5
ROWS, PLACES = RANDOM.integers(0, 6, 9), RANDOM.integers(0, 8, 9)


def parameter(name: str, *shape: int) -> Expression:
    return weight(Parameter(name, shape))


def tables(expression: Expression) -> int:
    """How many tables the terms hold."""
    maps = [m for t in expression.terms for v in t.variables for m in (v.source, *(o for _, o in v.outputs))]
    return sum(not isinstance(m, int) for m in maps)


def bytes_in(expression: Expression) -> int:
    return sum(held_bytes(term) for term in expression.terms)


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


# How it is said


SAID: dict[str, Expression] = {
    "W.sum(dim=1)": W.sum(dim=1),
    "3 * W[0, 1] - b[2] / 2": 3 * W[0, 1] - b[2] / 2,
    "W[1:, ::-1]": W[1:, ::-1],
    "W[..., None, :2]": W[..., None, :2],
    "(W + 1) * 2": (W + 1) * 2,
    "W - (b[:, None] - 1)": W - (b[:, None] - 1),
    "-(W * 2)": -(W * 2),
    "(-W).T": (-W).T,
    "2 * (3 * W)": 2 * (3 * W),
    "array(3, 6) @ W @ array(8, 2)": M @ W @ N,
    "W[[0, 2], :]": W[[0, 2], :],
    "W[array(9), array(9)]": W[ROWS, PLACES],
    "W[array(6, 8)]": W[MASK],
    "W.reshape(3, -1).mT": W.reshape(3, -1).mT,
    "K.permute(3, 2, 1, 0)": K.permute(3, 2, 1, 0),
    "stack([W, W + 1], dim=1)": stack([W, W + 1], 1),
    "concat([W, 0 * W])": concat([W, 0 * W]),
    "W.sum(dim=(0, 1), keepdim=True)": W.sum((0, 1), True),
    "S.tril(-1) + S.diff(dim=0).sum()": S.tril(-1) + S.diff(0).sum(),
    "W.roll(1, dim=0)": W.roll(1, 0),
    "W[0] + W[1]": sum([W[0], W[1]]),
    "W.mean() * -1.5": W.mean() * -1.5,
}


@pytest.mark.parametrize("text", SAID)
def test_it_is_said_as_it_was_written(text: str) -> None:
    assert str(SAID[text]) == text
    assert repr(SAID[text]) == f"<Expression {text} of shape {SAID[text].shape}>"


def test_a_long_sum_is_said_without_recursion_and_cut_short() -> None:
    text = str(sum(parameter("v", 5000)))
    assert text.startswith("v[0] + v[1] + ")
    assert text.endswith(" …")
    assert len(text) < 700


# Rules


def test_equality_makes_a_rule() -> None:
    rule = W.sum(dim=1) == 1
    assert isinstance(rule, Constraint)
    assert (rule.left, rule.right, rule.text, rule.name) == ("W.sum(dim=1)", "1", "W.sum(dim=1) == 1", None)
    assert (rule.shape, rule.rows, rule.expression.constant) == ((6,), 6, -1.0)
    named = rule.named("rows sum to one")
    assert (named.name, named.text) == ("rows sum to one", rule.text)
    assert str(named) == '"rows sum to one"  W.sum(dim=1) == 1'
    assert repr(rule) == "<Constraint W.sum(dim=1) == 1, 6 equations>"


def test_a_rule_has_no_truth_value() -> None:
    with pytest.raises(TruthValueError, match=r"\(W == 1\) has no truth value.*two rules"):
        bool(W == 1)
    with pytest.raises(TruthValueError, match="has no truth value"):
        W[0] == W[1] == W[2]  # noqa: B015
    with pytest.raises(TruthValueError, match=r"\(W\[0\]\) has no truth value"):
        bool(W[0])


def test_rules_about_constants_only() -> None:
    assert (0 * W == 0).expression.terms == ()
    assert ((W - W) * 0 == 1).expression.constant == -1.0
    assert ((0 * W + 2) * W).terms, "an expression without weights is a constant"


def test_a_name_must_be_text() -> None:
    with pytest.raises(RuleError, match="is no name of a rule"):
        (W == 0).named("")
    with pytest.raises(RuleError, match="3 is no name"):
        (W == 0).named(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("symbol", ["lt", "le", "gt", "ge", "ne"])
def test_inequalities_are_not_there_yet(symbol: str) -> None:
    with pytest.raises(RuleError, match="Inequalities are not there yet"):
        getattr(operator, symbol)(W, 1)
    with pytest.raises(RuleError, match="Inequalities are not there yet"):
        getattr(operator, symbol)(np.ones(8), W)


def test_the_fast_path_means_the_same() -> None:
    for x in (W, W.T[::-1], W * 2 + C, M @ W @ N, W - W.mean(0), tril(S), W[[0, 2]], concat([W, X.T])):
        for i in range(-x.shape[0], x.shape[0]):
            fast, slow = x[i, 1], x[i : i + 1 or None, 1:2].reshape(())
            assert fast.shape == slow.shape == ()
            assert evaluate(fast, VALUES) == pytest.approx(evaluate(slow, VALUES), abs=1e-14)
            assert all(term.start == () for term in fast.terms)
    assert W[0, 0].terms[0].variables == ()


# Constants on the left


@pytest.mark.parametrize(
    "array",
    [
        np.ones(8),
        torch.ones(8),
        torch.nn.Parameter(torch.ones(8)).detach(),
        torch.ones(8, dtype=torch.bfloat16),
        [1] * 8,
    ],
)
def test_arrays_on_either_side(array: Any) -> None:
    ones, value = np.ones(8), VALUES["W"]
    for made, truth in (
        (array + W, ones + value),
        (array - W, ones - value),
        (W - array, value - ones),
        (array * W, value),
        (W / array, value),
        (W @ array, value @ ones),
    ):
        np.testing.assert_allclose(evaluate(made, VALUES), truth, atol=1e-12)
    assert isinstance(array == W, Constraint)
    assert isinstance(W == array, Constraint)
    assert isinstance(array @ W.T, Expression)


def test_numpy_scalars_and_zero_dimensional_tensors_on_the_left() -> None:
    for number in (np.float32(2), np.int64(2), torch.tensor(2.0), np.array(2), 2, 2.0):
        np.testing.assert_allclose(evaluate(number * W, VALUES), 2 * VALUES["W"])
        assert isinstance(number == W, Constraint)


@pytest.mark.parametrize(
    ("constant", "epsilon"),
    [
        (1, 2.0**-52),
        (0.5, 2.0**-52),
        (np.ones(8, int), 2.0**-52),
        (np.ones(8, bool), 2.0**-52),
        (np.float32(1), 2.0**-23),
        (np.ones(8, np.float16), 2.0**-10),
        (torch.ones(8), 2.0**-23),
        (torch.ones(8, dtype=torch.bfloat16), 2.0**-7),
        (torch.ones(8, dtype=torch.float64), 2.0**-52),
        ([np.float32(1)] * 8, 2.0**-23),
    ],
    ids=str,
)
def test_epsilon_is_the_spacing_of_the_coarsest_constant(constant: Any, epsilon: float) -> None:
    for expression in (W + constant, constant * W, (W == constant).expression, (constant * W)[0].sum() - 1):
        assert expression.epsilon == epsilon


# Mistakes


NOT_AFFINE: dict[str, tuple[Callable[[], object], str]] = {
    "product": (lambda: W * W, r"\(W\) \* \(W\) multiplies weights with weights"),
    "matmul": (lambda: W @ X, r"\(W\) @ \(X\) multiplies weights"),
    "division": (lambda: 1 / W, "division of .1 by W. is not affine"),
    "quotient": (lambda: W / (b[0] + 1), r"division of .W by b\[0\] \+ 1. is not affine"),
    "power": (lambda: W**2, r"a power of \(W\) is not affine"),
    "exponential": (lambda: 2**W, "an exponential of .W. is not affine"),
    "abs": (lambda: abs(W), "abs of .W. is not affine"),
    "floor": (lambda: W // 2, "floor division of .W. is not affine"),
    "remainder": (lambda: W % 2, "a remainder of .W. is not affine"),
}


@pytest.mark.parametrize("case", NOT_AFFINE)
def test_what_is_not_affine_is_refused(case: str) -> None:
    mistake, message = NOT_AFFINE[case]
    with pytest.raises(NotAffineError, match=message):
        mistake()


SHAPE_MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "sum of shapes": (lambda: W + b, r"do not fit: W has shape \(6, 8\) and b has shape \(6,\)"),
    "equation of shapes": (lambda: W == X, r"\(W - X\) do not fit"),
    "matrix on the left": (lambda: N @ W, r"array\(8, 2\) has shape \(8, 2\) and W has shape \(6, 8\). 2 is not 6"),
    "matrix on the right": (lambda: W @ M, "3 is not 8"),
    "number in a product": (lambda: 2 @ W, "takes no single numbers"),
    "number as a product": (lambda: W[0, 0] @ M, "takes no single numbers"),
    "index": (lambda: W[6], r"index 6 in \(W\[6\]\) is out of range: axis 0 of W has size 6"),
    "two indices": (lambda: W[0, -9], r"index -9 in \(W\[0, -9\]\) is out of range: axis 1 of W has size 8"),
    "index array": (lambda: W[:, [0, 8]], r"index 8 in .* is out of range: axis 1"),
    "too many": (lambda: W[0, 0, 0], r"has 3 indices, but W has shape \(6, 8\)"),
    "dots twice": (lambda: W[..., 0, ...], "has `...` twice"),
    "mask": (lambda: W[COLUMNS], r"the mask in .* has shape \(8,\), and the axes it stands for have \(6,\)"),
    "index arrays apart": (lambda: W[[0, 1], [0, 1, 2]], r"have shapes \(2,\) and \(3,\), which do not broadcast"),
    "float index": (lambda: W[1.0], "is no index of W"),
    "text index": (lambda: W["weight"], "'weight' is no index of W"),
    "bool index": (lambda: W[True], "True is no index of W"),
    "weights index": (lambda: W[b], "no index of W"),
    "step": (lambda: W[::0], "a slice has step 0"),
    "slice bound": (lambda: W[1.5:], "1.5 is no bound of a slice"),
    "axis": (lambda: W.sum(dim=2), r"there is no axis 2: W has shape \(6, 8\), its axes are 0 to 1"),
    "axis of a number": (lambda: W[0, 0].sum(dim=0), "none, it is a single number"),
    "axis twice": (lambda: W.sum(dim=(0, -2)), "an axis is named twice"),
    "axis of another kind": (lambda: W.sum(dim="0"), "'0' is no integer"),
    "permutation": (lambda: K.permute(0, 1), r"names axes \(0, 1\), but K of shape \(4, 3, 3, 3\) has 4"),
    "reshape": (lambda: W.reshape(5, -1), "W of shape .* has 48 entries"),
    "reshape to negative": (lambda: W.reshape(-2, -24), "the product of the sizes must be 48"),
    "flatten": (lambda: K.flatten(2, 1), "the first axis 2 comes after the last one 1"),
    "roll": (lambda: W.roll((1, 2), 0), "the number of shifts, 2, is not that of the axes, 1"),
    "diagonal": (lambda: W.diagonal(0, 1, 1), "two different axes"),
    "offset": (lambda: W.diagonal(0.5), "0.5 is no integer"),
    "triangle": (lambda: b.tril(), r"needs two axes: b has shape \(6,\)"),
    "trace": (lambda: b.trace(), "needs two axes"),
    "matrix transpose": (lambda: b.mT, "there is no axis -2"),
    "mean of nothing": (lambda: W[:0].mean(0), "is a mean of no numbers"),
    "concat": (lambda: concat([W, X]), r"W has shape \(6, 8\) and X has shape \(8, 5\). They may differ along axis 0"),
    "concat of nothing": (lambda: concat([]), "concat of no expressions"),
    "stack": (lambda: stack([W, X]), "They must be equal"),
    "too many axes": (lambda: W[(None,) * 31], "has 33 axes, and NumPy has at most 32"),
    "stack of nothing": (lambda: stack([]), "stack of no expressions"),
}


@pytest.mark.parametrize("case", SHAPE_MISTAKES)
def test_shapes_that_do_not_fit_say_both(case: str) -> None:
    mistake, message = SHAPE_MISTAKES[case]
    with pytest.raises(ShapeError, match=message):
        mistake()


CONSTANT_MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "nan": (lambda: W + np.nan, "nan is no constant"),
    "nan in an array": (
        lambda: W + np.where(C > 0, C, np.nan),
        r"has \d+ entries that are NaN or infinite, the first at",
    ),
    "infinity": (lambda: W == torch.tensor([1.0, np.inf] * 4), r"has 4 entries .* the first at 1 \(inf\)"),
    "complex": (lambda: W * 1j, "is no number"),
    "complex array": (lambda: W * np.ones(8, complex), "dtype is complex128"),
    "text": (lambda: W + "1", "'1' .str. is no number"),
    "none": (lambda: W == None, "None .NoneType. is no number"),  # noqa: E711
    "dictionary": (lambda: W == {}, "is no number"),
    "list of weights": (lambda: W[0, :2] == [W[1, 0], W[1, 1]], "To put weights together write affinet.stack"),
    "ragged": (lambda: W == [[1], [1, 2]], "is no array of numbers"),
    "large": (lambda: W + 10**400, "larger than any float64"),
    "large in a list": (lambda: W[:, 0] + [10**400] * 6, "one of the integers in this list is larger"),
    "meta": (lambda: W + torch.ones(8, device="meta"), "meta device has no numbers"),
    "sparse": (lambda: W + scipy.sparse.eye_array(8), "is sparse, which is understood in"),
    "sparse tensor": (lambda: W * torch.ones(8).to_sparse(), "is sparse"),
    "complex sparse": (lambda: scipy.sparse.eye_array(6, dtype=complex) @ W, "is no real sparse matrix"),
    "nan in sparse": (lambda: scipy.sparse.csr_array([[np.nan] * 6]) @ W, "NaN or infinite"),
    "masked": (lambda: W + np.ma.masked_equal(np.arange(8), 3), "is masked"),
    "zero": (lambda: W / 0, r"\(W / 0\) divides by zero"),
    "zeros": (lambda: W / np.arange(8), r"divides by zero: 1 of its 8 entries, the first at \(0,\)"),
    "overflow": (lambda: W * 1e300 * 1e300, "leave the range of float64"),
    "overflow of constants": (lambda: W + 1e308 + 1e308, "leave the range of float64"),
    "a rule": (lambda: W == (W == 1), "Constraint"),
}


@pytest.mark.parametrize("case", CONSTANT_MISTAKES)
def test_constants_that_are_none_are_refused(case: str) -> None:
    mistake, message = CONSTANT_MISTAKES[case]
    with pytest.raises(ConstantError, match=message):
        mistake()


def test_expressions_are_no_sequences_and_no_keys() -> None:
    assert not hasattr(W, "__len__")
    assert not hasattr(W, "__array__")
    with pytest.raises(TypeError, match="single number and cannot be iterated"):
        iter(W[0, 0])
    assert [str(row) for row in b[:2]] == ["b[:2][0]", "b[:2][1]"]
    with pytest.raises(TypeError, match="unhashable"):
        hash(W)
    with pytest.raises(TypeError, match="ufunc"):
        np.exp(W)  # type: ignore[call-overload]


def test_expressions_and_rules_are_immutable() -> None:
    with pytest.raises(AttributeError):
        W.affine = X.affine  # type: ignore[misc]
    with pytest.raises(AttributeError):
        (W == 0).name = "x"  # type: ignore[misc]


def test_terms_are_in_normal_form() -> None:
    (term,) = parameter("one", 1, 4, 1).terms
    assert isinstance(term, Term)
    assert [variable.size for variable in term.variables] == [4]
    (term,) = W[2:3, 1].terms
    assert (term.variables, term.offset, term.start) == ((), 17, (0,))


def test_what_numpy_alone_takes_is_refused_in_our_words() -> None:
    with pytest.raises(NotAffineError, match=r"cumsum of \(W\) cannot be called so: .*'dim'"):
        np.cumsum(W)
    with pytest.raises(NotAffineError, match=r"sum of \(W\) cannot be called so: .*'where'"):
        np.sum(W, where=np.ones((6, 8), dtype=bool))
    with pytest.raises(NotAffineError, match=r"\(W\[0, 0\]\) is no number"):
        float(W[0, 0])
