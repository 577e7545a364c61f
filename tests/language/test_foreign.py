"""Functions of NumPy and torch on expressions: those of one meaning work, and those that rules cannot have say so."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

import affinet
from affinet.errors import ConstantError, MissingOperationError, NotAffineError, RuleError, ShapeError
from affinet.language.evaluation import evaluate

w = affinet.weights({"a": (3, 4)}).a
NUMBERS = np.arange(12.0).reshape(3, 4) ** 2

SAME: list[Callable[[Any], Any]] = [
    np.sum,
    lambda x: np.sum(x, axis=0),
    lambda x: np.sum(x, axis=1, keepdims=True),
    lambda x: np.mean(x, axis=-1),
    lambda x: np.cumsum(x, axis=1),
    lambda x: np.diff(x, axis=0),
    lambda x: np.roll(x, 1, 0),
    lambda x: np.flip(x, 1),
    np.trace,
    lambda x: np.trace(x, 1),
    lambda x: np.trace(x, offset=-1),
    lambda x: x.trace(1),
    lambda x: x.trace(offset=-2, axis1=1, axis2=0),
    lambda x: x.diagonal(1, axis1=1, axis2=0),
    lambda x: x.flatten("F"),
    lambda x: x.flatten(order="F"),
    lambda x: x.flatten("C"),
    lambda x: x.ravel(),
    lambda x: x.ravel("F"),
    lambda x: x.ravel(order="C"),
    lambda x: x.reshape(2, 6, order="F"),
    lambda x: x.reshape((2, 3, -1), order="F"),
    lambda x: np.reshape(x, (6, 2), order="F"),
    lambda x: np.ravel(x, order="F"),
    np.ravel,
    np.transpose,
    lambda x: np.tril(x, k=1),
    lambda x: np.triu(x),
    lambda x: np.diagonal(x, offset=1),
    lambda x: np.concatenate([x, x], axis=1),
    lambda x: np.stack([x, x], 1),
    lambda x: x.sum(axis=1, keepdims=True),
    lambda x: x.mean(axis=0),
]
SAME_IN_TORCH: list[Callable[[Any], Any]] = [
    torch.sum,
    lambda x: torch.sum(x, dim=1, keepdim=True),
    lambda x: torch.mean(x, 0),
    lambda x: torch.transpose(x, 0, 1),
    lambda x: torch.roll(x, shifts=1, dims=0) if isinstance(x, torch.Tensor) else torch.roll(x, 1, 0),
    lambda x: torch.cat([x, x], 1),
    lambda x: torch.stack([x, x], dim=2),
    lambda x: torch.flatten(x),
]


@pytest.mark.parametrize("function", SAME)
def test_functions_of_numpy_mean_on_an_expression_what_they_mean_on_an_array(function: Callable[[Any], Any]) -> None:
    np.testing.assert_allclose(evaluate(function(w), {"a": NUMBERS}), function(NUMBERS))


K = affinet.weights({"k": (2, 3, 4, 3)}).k
KERNELS = np.arange(72.0).reshape(2, 3, 4, 3) ** 2
OF_MORE_AXES: list[Callable[[Any], Any]] = [
    np.trace,
    lambda x: np.trace(x, 1),
    lambda x: np.trace(x, axis1=1, axis2=3),
    lambda x: np.trace(x, -1, 3, 1) if isinstance(x, np.ndarray) else x.trace(-1, 3, 1),
    lambda x: np.linalg.trace(x) if hasattr(np.linalg, "trace") else np.trace(x, axis1=-2, axis2=-1),
    lambda x: np.trace(x, axis1=-2, axis2=-1) if isinstance(x, np.ndarray) else x.trace(),
    lambda x: x.flatten("F"),
    lambda x: x.ravel("F"),
    lambda x: x.reshape(4, 9, -1, order="F"),
    lambda x: x.reshape(4, 18)[::2].reshape(-1, order="F"),
    lambda x: x[0, 0, 0, 0].reshape(1, 1, order="F"),
    lambda x: x[0, 0, 0, 0].ravel("F"),
    lambda x: x[:0].ravel("F"),
    lambda x: np.moveaxis(x, 0, 2).reshape(2, 12, 3, order="F") if isinstance(x, np.ndarray) else (
        x.movedim(0, 2).reshape(2, 12, 3, order="F")
    ),
]  # fmt: skip


@pytest.mark.parametrize("function", OF_MORE_AXES)
def test_traces_and_orders_of_more_axes(function: Callable[[Any], Any]) -> None:
    np.testing.assert_allclose(evaluate(function(K), {"k": KERNELS}), function(KERNELS))


def test_column_order_of_some_axes() -> None:
    found = evaluate(K.flatten(1, 2, order="F"), {"k": KERNELS})
    np.testing.assert_array_equal(found, KERNELS.transpose(0, 2, 1, 3).reshape(2, 12, 3))


@pytest.mark.parametrize("order", ["A", "K", "f", "", 1])
def test_orders_of_memory_are_refused(order: Any) -> None:
    for said in (lambda: w.ravel(order), lambda: w.flatten(order=order), lambda: w.reshape(12, order=order)):
        with pytest.raises(ShapeError, match=r'must be "C" \(row by row\) or "F" \(column by column\)'):
            said()


def test_what_an_order_says_is_in_the_text_of_a_rule() -> None:
    rules = [w.flatten("F") == 0, w.ravel("F") == 0, w.reshape(6, 2, order="F") == 0, w.trace(1) == 0, w.ravel() == 0]
    for rule in rules:
        again = affinet.parse(rule.text, affinet.weights({"a": (3, 4)}))
        assert again.text == rule.text  # type: ignore[union-attr]
        expressions = (one.expression for one in (again, rule))  # type: ignore[union-attr]
        np.testing.assert_array_equal(*(evaluate(one, {"a": NUMBERS}) for one in expressions))
    assert rules[0].text == "a.flatten(order='F') == 0"


@pytest.mark.parametrize("function", SAME_IN_TORCH)
def test_functions_of_torch_mean_on_an_expression_what_they_mean_on_a_tensor(function: Callable[[Any], Any]) -> None:
    np.testing.assert_allclose(evaluate(function(w), {"a": NUMBERS}), function(torch.from_numpy(NUMBERS)).numpy())


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (lambda: w.abs(), "abs"),
        (lambda: w.max(), "max"),
        (lambda: w.std(dim=0), "std"),
        (lambda: torch.nn.functional.relu(w), "relu"),
        (lambda: np.prod(w), "prod"),
        (lambda: np.maximum(w, 0), "maximum"),
        (lambda: np.maximum(0, w), "maximum"),
        (lambda: np.ones(4) ** w, "a power with weights in the exponent"),
        (lambda: torch.pow(2.0, w), "a power with weights in the exponent"),
        (lambda: np.linalg.norm(w, 2), "the spectral norm"),
        (lambda: torch.linalg.norm(w, 2), "the spectral norm"),
        (lambda: torch.linalg.matrix_norm(w, 2), "the spectral norm"),
        (lambda: np.linalg.norm(w, 2, (0, 1)), "the spectral norm"),
    ],
)
def test_functions_that_rules_cannot_have_say_so(said: Callable[[], Any], name: str) -> None:
    with pytest.raises(NotAffineError, match=rf"^{name} of \(a\) is not a function that rules can have"):
        said()


@pytest.mark.parametrize(
    "said",
    [
        lambda: np.linalg.norm(w, 1),
        lambda: np.linalg.norm(w, np.inf, axis=1),
        lambda: np.linalg.norm(w, "nuc"),
        lambda: torch.norm(w, 1),
        lambda: torch.norm(w, p=1, dim=1),
        lambda: torch.linalg.vector_norm(w, 0),
        lambda: torch.linalg.matrix_norm(w, "nuc"),
        lambda: w.norm(3),
    ],
)
def test_norms_of_other_orders_are_refused(said: Callable[[], Any]) -> None:
    with pytest.raises(NotAffineError, match=r"^norm of \(a\) has the order .* Euclidean lengths only"):
        said()


@pytest.mark.parametrize(
    ("said", "way_out"),
    [
        (lambda: w.view(12), r"has no 'view'\. Write \.reshape"),
        (lambda: w.t(), r"has no 't'\. Write \.T"),
        (lambda: w.matmul(torch.ones(4, 2)), "Write the operator @"),
        (lambda: torch.add(w, 1, alpha=2), r"Write the operator \+"),
        (lambda: np.add.reduce(w), r"Write \.sum\(dim\)"),
        (lambda: np.add(w, 1, where=np.ones((3, 4), bool)), r"Write the operator \+"),
        (lambda: np.kron(w, np.ones(2)), r'Write affinet\.einsum\("ij,kl->ikjl"'),
        (lambda: np.where(np.ones((3, 4)), w, 0), r"Write mask \* x"),
        (lambda: torch.nn.functional.linear(torch.ones(4), w), r"Write x @ w\.T"),
        (lambda: np.vstack([w, w]), r"Write affinet\.concat"),
        (lambda: w.transpos, "Did you mean 'transpose'"),
        (lambda: w.detach(), "It has: T, cos, cumsum, det, diagonal"),
        (lambda: np.tan(w), r"has no 'tan'\. Write x\.sin\(\) / x\.cos\(\)"),
        (lambda: torch.sigmoid(w), r"has no 'sigmoid'\. Write 1 / "),
        (lambda: np.linalg.matrix_power(w, 2), "Write the operator @"),
        (lambda: torch.norm(w, dtype=torch.float32), r"norm of \(a\) cannot be called .*'dtype'"),
        (lambda: np.diff(w, 2), r"mean different things.*as in \(a\)\.diff"),
    ],
)
def test_what_has_another_name_here_says_which(said: Callable[[], Any], way_out: str) -> None:
    with pytest.raises(MissingOperationError, match=way_out):
        said()


@pytest.mark.parametrize(
    ("said", "symbol"),
    [(lambda: np.ones(4) < w, ">"), (lambda: np.less(w, np.ones(4)), "<"), (lambda: np.not_equal(w, 1), "!=")],
)
def test_comparisons_of_arrays_that_are_not_rules(said: Callable[[], Any], symbol: str) -> None:
    with pytest.raises(RuleError, match=rf"^\(a\) {symbol} … is not a rule"):
        said()


def test_masked_arrays_and_other_libraries_leave_an_operator_to_the_expression() -> None:
    assert w.__array_ufunc__ is None
    with pytest.raises(ConstantError, match="is masked"):
        np.ma.array(np.ones(4), mask=[0, 0, 1, 0]) * w
    assert (sparse.csr_array(np.eye(3)) @ w).shape == (3, 4)
    assert (sparse.csr_matrix(np.eye(3)) @ w).shape == (3, 4)


def test_adding_to_an_array_in_place_makes_an_expression() -> None:
    total: Any = np.zeros((3, 4))
    total += w
    total -= np.ones(4)
    assert isinstance(total, affinet.Expression)
    np.testing.assert_allclose(evaluate(total, {"a": NUMBERS}), NUMBERS - 1)


def test_words_that_mean_the_same_are_given_once() -> None:
    for said in (
        lambda: w.flip(0, dims=1),
        lambda: w.roll(1, shifts=2),
        lambda: w.roll(1, 0, axis=1),
        lambda: w.diff(0, axis=1),
        lambda: w.reshape(12, shape=(3, 4)),
    ):
        with pytest.raises(ShapeError, match=r"which mean the same. Give only one of them"):
            said()


def test_an_axis_named_twice_is_one_too_many() -> None:
    with pytest.raises(ShapeError, match="sum got dim=0 and axis=1, which mean the same"):
        w.sum(dim=0, axis=1)


def test_tensors_on_the_left_of_an_operator_still_make_expressions() -> None:
    ones = torch.ones(3, 4)
    for said in (ones * w, ones + w, ones - w, torch.ones(2, 3) @ w, torch.tensor(2.0) * w):
        assert isinstance(said, affinet.Expression)
    assert isinstance(ones == w, affinet.Constraint)


def test_expressions_can_be_asked_copied_and_pickled() -> None:
    assert hasattr(w, "norm")
    assert not hasattr(w, "abs")
    for copied in (copy.copy(w), copy.deepcopy(w), pickle.loads(pickle.dumps(w))):
        assert str(copied.sum(dim=0)) == "a.sum(dim=0)"
