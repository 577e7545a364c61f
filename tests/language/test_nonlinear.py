"""Products, powers and functions of weights: what they are in numbers, what they are called, and what is refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import affinet
from affinet.errors import ConstantError, NotAffineError, ShapeError
from affinet.language import nonlinear
from affinet.language.affine import from_constant
from affinet.language.constants import read_constant
from affinet.language.evaluation import evaluate
from affinet.language.expression import Expression
from affinet.language.nodes import Node, nodes_of, weights_of
from affinet.language.substitution import substitute, substitute_with_size

SHAPES = {
    "number": (),
    "v": (4,),
    "u": (3,),
    "a": (3, 4),
    "row": (1, 4),
    "square": (3, 3),
    "large": (5, 5),
    "stack": (2, 3, 3),
    "stacks": (2, 1, 3, 4),
}
W = affinet.weights(SHAPES)
random = np.random.default_rng(17)
VALUES = {name: random.uniform(0.5, 2.0, shape) for name, shape in SHAPES.items()}
VALUES["large"] += 3.0 * np.eye(5)
C = np.array([1.0, -2.0, 0.5, 3.0])

# The largest numbers here are products of at most eight factors up to 5 with sums of at most five of them, so that
# 64 ulp cover every order of the sums (5 additions, and inverses of matrices whose condition is below 100).
TOLERANCE = 1e-12

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "product": lambda number, v, u, a, row, square, large, stack, stacks: a * v,
    "product of a number": lambda number, v, u, a, row, square, large, stack, stacks: number * a * number,
    "product of stacks": lambda number, v, u, a, row, square, large, stack, stacks: stacks * a,
    "outer product": lambda number, v, u, a, row, square, large, stack, stacks: u[:, None] * v[None],
    "square": lambda number, v, u, a, row, square, large, stack, stacks: (a - row) * (a - row),
    "quotient": lambda number, v, u, a, row, square, large, stack, stacks: (a + 1) / (2 * v - 1j.imag),
    "reciprocal": lambda number, v, u, a, row, square, large, stack, stacks: 3 / stacks,
    "quotient of arrays": lambda number, v, u, a, row, square, large, stack, stacks: C / a,
    "matrices": lambda number, v, u, a, row, square, large, stack, stacks: square @ a,
    "transposed": lambda number, v, u, a, row, square, large, stack, stacks: a.T @ square.T,
    "matrix and vector": lambda number, v, u, a, row, square, large, stack, stacks: a @ v,
    "vector and matrix": lambda number, v, u, a, row, square, large, stack, stacks: u @ a,
    "vectors": lambda number, v, u, a, row, square, large, stack, stacks: v @ v,
    "stack and matrix": lambda number, v, u, a, row, square, large, stack, stacks: stack @ a,
    "matrix and stack": lambda number, v, u, a, row, square, large, stack, stacks: square @ stacks,
    "stack and stack": lambda number, v, u, a, row, square, large, stack, stacks: stack @ stacks,
    "stack and vector": lambda number, v, u, a, row, square, large, stack, stacks: stacks @ v,
    "vector and stack": lambda number, v, u, a, row, square, large, stack, stacks: u @ stack,
    "chain": lambda number, v, u, a, row, square, large, stack, stacks: u @ square @ a @ v,
    "powers": lambda number, v, u, a, row, square, large, stack, stacks: a**3 - v**1 + a**0 - 2 * u[:, None] ** 2,
    "negative powers": lambda number, v, u, a, row, square, large, stack, stacks: a**-2 + v**-1,
    "root": lambda number, v, u, a, row, square, large, stack, stacks: a**0.5,
    "whole power": lambda number, v, u, a, row, square, large, stack, stacks: (-a) ** np.float32(3.0),
    "nested": lambda number, v, u, a, row, square, large, stack, stacks: ((a**2).sum(axis=1) - 1) ** 2 * u,
    "indexed": lambda number, v, u, a, row, square, large, stack, stacks: (a**2)[[2, 0], 1:] * (a * v)[1, :3],
    "mixed": lambda number, v, u, a, row, square, large, stack, stacks: C * (a * v) @ np.arange(4.0) - u**2 / 3 + 1,
    "trace": lambda number, v, u, a, row, square, large, stack, stacks: np.trace(square @ square.T),
    "sine": lambda number, v, u, a, row, square, large, stack, stacks: np.sin(a),
    "cosine": lambda number, v, u, a, row, square, large, stack, stacks: np.cos(2 * a - 1),
    "tanh": lambda number, v, u, a, row, square, large, stack, stacks: np.tanh(stacks),
    "exponential": lambda number, v, u, a, row, square, large, stack, stacks: np.exp(-a) * a,
    "logarithm": lambda number, v, u, a, row, square, large, stack, stacks: np.log(a / v),
    "square root": lambda number, v, u, a, row, square, large, stack, stacks: np.sqrt(number),
    "squares": lambda number, v, u, a, row, square, large, stack, stacks: np.square(row),
    "reciprocals": lambda number, v, u, a, row, square, large, stack, stacks: np.reciprocal(v),
    "power of NumPy": lambda number, v, u, a, row, square, large, stack, stacks: np.power(a, 2),
    "determinant": lambda number, v, u, a, row, square, large, stack, stacks: np.linalg.det(square),
    "small determinants": lambda number, v, u, a, row, square, large, stack, stacks: np.linalg.det(stack[:, 1:, 1:]),
    "one by one": lambda number, v, u, a, row, square, large, stack, stacks: np.linalg.det(stack[:, :1, :1]),
    "determinants": lambda number, v, u, a, row, square, large, stack, stacks: np.linalg.det(stack),
    "large determinant": lambda number, v, u, a, row, square, large, stack, stacks: np.linalg.det(large),
    "inverse": lambda number, v, u, a, row, square, large, stack, stacks: np.linalg.inv(large) @ large[0],
    "inverses": lambda number, v, u, a, row, square, large, stack, stacks: np.linalg.inv(stack + 9 * np.eye(3)),
    "length": lambda number, v, u, a, row, square, large, stack, stacks: np.linalg.norm(v),
    "lengths": lambda number, v, u, a, row, square, large, stack, stacks: np.linalg.norm(a, axis=1),
    "lengths of columns": lambda number, v, u, a, row, square, large, stack, stacks: np.linalg.norm(
        stack, axis=-2, keepdims=True
    ),
    "length of all": lambda number, v, u, a, row, square, large, stack, stacks: np.linalg.norm(a),
    "lengths of matrices": lambda number, v, u, a, row, square, large, stack, stacks: np.linalg.norm(
        stack, "fro", axis=(1, 2)
    ),
    "sum of squares": lambda number, v, u, a, row, square, large, stack, stacks: np.einsum("ij,ij->i", a, a),
    "gram": lambda number, v, u, a, row, square, large, stack, stacks: np.einsum("ij,kj->ik", a, a),
    "two and a constant": lambda number, v, u, a, row, square, large, stack, stacks: np.einsum(
        "nij,njk,k->ni", stack, stack, np.arange(3.0)
    ),
    "three factors": lambda number, v, u, a, row, square, large, stack, stacks: np.einsum("ij,jk,k->i", square, a, v),
    "diagonal": lambda number, v, u, a, row, square, large, stack, stacks: np.einsum("ii,jk->kj", square, a),
    "shared letter": lambda number, v, u, a, row, square, large, stack, stacks: np.einsum("nij,nkj->kni", stack, stack),
    "size one": lambda number, v, u, a, row, square, large, stack, stacks: np.einsum("ij,ik->jk", row, row),
    "dots": lambda number, v, u, a, row, square, large, stack, stacks: np.einsum("...ij,jk->...ik", stack, a),
    "dot": lambda number, v, u, a, row, square, large, stack, stacks: np.dot(a, v),
    "dot of stacks": lambda number, v, u, a, row, square, large, stack, stacks: np.dot(stack, a),
    "inner": lambda number, v, u, a, row, square, large, stack, stacks: np.inner(a, row),
    "outer": lambda number, v, u, a, row, square, large, stack, stacks: np.outer(u, v),
}
EXPRESSIONS = {name: function(*W) for name, function in FUNCTIONS.items()}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_weights_have_the_numbers_of_numpy(name: str) -> None:
    expected = np.asarray(FUNCTIONS[name](*VALUES.values()))
    expression = EXPRESSIONS[name]
    assert expression.shape == expected.shape
    np.testing.assert_allclose(evaluate(expression, VALUES), expected, rtol=TOLERANCE)


OF_TORCH: list[Callable[..., Any]] = [
    lambda a, v, square: torch.exp(a),
    lambda a, v, square: torch.log(a) + torch.sin(a) * torch.cos(v) - torch.tanh(v),
    lambda a, v, square: torch.square(a) - torch.sqrt(v),
    lambda a, v, square: torch.reciprocal(a) * torch.pow(a, 3),
    lambda a, v, square: torch.linalg.inv(square),
    lambda a, v, square: torch.inverse(square),
    lambda a, v, square: torch.det(square) + torch.linalg.det(square),
    lambda a, v, square: torch.mv(a, v),
    lambda a, v, square: torch.mm(square, a),
    lambda a, v, square: torch.matmul(square, a) / v,
    lambda a, v, square: torch.dot(v, v),
    lambda a, v, square: torch.norm(a),
    lambda a, v, square: torch.norm(a, 2),
    lambda a, v, square: torch.norm(a, dim=1),
    lambda a, v, square: torch.norm(a, 2, -1, True),
    lambda a, v, square: a.norm(dim=0),
    lambda a, v, square: a.norm(2),
    lambda a, v, square: a.norm(2, 1),
    lambda a, v, square: torch.linalg.norm(a, dim=1, keepdim=True),
    lambda a, v, square: torch.linalg.norm(v, 2),
    lambda a, v, square: torch.linalg.vector_norm(a, 2),
    lambda a, v, square: torch.linalg.vector_norm(a, dim=0),
    lambda a, v, square: torch.linalg.matrix_norm(square),
    lambda a, v, square: torch.einsum("ij,ij->j", a, a),
    lambda a, v, square: a.square().sqrt().exp().log().sin().cos().tanh().reciprocal(),
    lambda a, v, square: square.inverse().det(),
]


@pytest.mark.parametrize("function", OF_TORCH)
def test_functions_of_weights_have_the_numbers_of_torch(function: Callable[..., Any]) -> None:
    expected = function(*(torch.from_numpy(VALUES[name]) for name in ("a", "v", "square")))
    found = evaluate(function(W.a, W.v, W.square), VALUES)
    np.testing.assert_allclose(found, expected.numpy(), rtol=TOLERANCE)


@given(seed=st.integers(0, 2**32 - 1), left=st.integers(1, 3), right=st.integers(1, 3), data=st.data())
def test_products_broadcast_as_in_numpy(seed: int, left: int, right: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    sizes = st.sampled_from([1, 2, 3])
    shapes = [tuple(data.draw(sizes) for _ in range(axes)) for axes in (left, right)]
    w = affinet.weights({"x": shapes[0], "y": shapes[1]})
    values = {"x": rng.standard_normal(shapes[0]), "y": rng.standard_normal(shapes[1])}
    for operator in ("__mul__", "__matmul__"):
        try:
            expected = getattr(values["x"], operator)(values["y"])
        except ValueError:
            with pytest.raises(ShapeError, match="do not fit"):
                getattr(w.x, operator)(w.y)
            continue
        found = evaluate(getattr(w.x, operator)(w.y), values)
        assert found.shape == np.shape(expected)
        # at most three products are added up: five roundings of numbers below the sum of the magnitudes
        sizes_of = getattr(np.abs(values["x"]), operator)(np.abs(values["y"]))
        assert (np.abs(found - expected) <= 5 * 2.0**-53 * sizes_of).all()


TEXTS = [
    (W.a * W.v == 1, "a * v == 1"),
    (W.a * W.a == 1, "a * a == 1"),
    (W.a**2 == 1, "a**2 == 1"),
    (np.square(W.a) == 1, "a**2 == 1"),
    (W.a**-1 == 2, "a**-1 == 2"),
    ((-W.v) ** 2 == -(W.v**2), "(-v)**2 == -v**2"),
    ((W.v + 1) ** 2 * W.v == 0, "(v + 1)**2 * v == 0"),
    (W.v**0.5 == 1, "v**0.5 == 1"),
    (1 / W.v == W.v / (W.v + 1), "1 / v == v / (v + 1)"),
    (W.square @ W.square.T == np.eye(3), "square @ square.T == array(3, 3)"),
    (W.a @ W.v == W.u, "a @ v == u"),
    (W.u @ W.square @ W.u == 1, "u @ square @ u == 1"),
    (W.u @ (W.square @ W.u) == 1, "u @ (square @ u) == 1"),
    (np.sin(W.v) == W.v.cos(), "sin(v) == cos(v)"),
    ((W.v + 1).exp() == 1, "exp(v + 1) == 1"),
    (W.square.det() == 1, "det(square) == 1"),
    (np.linalg.inv(W.square)[0] == 1, "inverse(square)[0] == 1"),
    (W.a.norm(dim=1) == 1, "a.norm(dim=1) == 1"),
    (np.linalg.norm(W.a) == 1, "a.norm() == 1"),
    (W.a.norm(dim=1, keepdim=True) == 1, "a.norm(dim=1, keepdim=True) == 1"),
    (affinet.einsum("ij,ij->i", W.a, W.a) == 1, 'einsum("ij,ij->i", a, a) == 1'),
    (W.v.reciprocal() == 1, "reciprocal(v) == 1"),
]


@pytest.mark.parametrize(("rule", "text"), TEXTS, ids=[text for _, text in TEXTS])
def test_the_text_of_a_rule_is_what_was_written(rule: affinet.Constraint, text: str) -> None:
    assert rule.text == text
    if "array" not in text:
        again = affinet.parse(text, W)
        assert again.text == text
        assert isinstance(again, affinet.Constraint)
        assert names(again.expression) == names(rule.expression)


def names(expression: Expression) -> list[str]:
    return [node.name for node in nodes_of(expression.affine)]


def test_a_node_is_named_after_what_it_is_made_of() -> None:
    pairs = [
        (W.a**2, W.a * W.a),
        (W.a**2, np.square(1.0 * W.a)),
        ((W.a * C) ** 2, (W.a * C.copy()) ** 2),
        ((W.square * np.tile(C[:3], (3, 1))) ** 2, (W.square * np.broadcast_to(C[:3], (3, 3)).copy("F")) ** 2),
        ((W.a + np.full((3, 4), 2.0)) ** 2, (W.a + 2) ** 2),
        ((W.a + np.asfortranarray(np.outer([1.0, 2, 3], C))) ** 2, (W.a + np.outer([1.0, 2, 3], C)) ** 2),
        ((W.a + 0.0) ** 2, (W.a + -0.0) ** 2),
        (affinet.parse("(a[1:] - 2 * a[0])**2 == 1", W).expression, (W.a[1:] - 2 * W.a[0]) ** 2),  # type: ignore[union-attr]
    ]
    for first, second in pairs:
        assert names(first) == names(second), (str(first), str(second))
    different = [
        W.a**2,
        W.a**3,
        W.a * W.v,
        W.v * W.a,
        W.a.T**2,
        (2 * W.a) ** 2,
        (W.a + 1) ** 2,
        (W.a + C) ** 2,
        (W.a + C[::-1]) ** 2,
        (W.a * C) ** 2,
        (W.a * C[:3, None]) ** 2,
        W.a[[0, 1]] ** 2,
        W.a[[0, 2]] ** 2,
        W.a[:2] ** 2,
        W.a[np.array([False, True, True])] ** 2,
        W.a[::-1] ** 2,
        np.sin(W.a),
        np.cos(W.a),
        W.square @ W.square,
        W.square * W.square.T,
        W.large.det(),
        W.large.inverse(),
    ]
    for first, second in itertools.combinations(different, 2):
        assert names(first)[-1] != names(second)[-1], (str(first), str(second))


def test_rows_and_columns_of_equal_numbers_are_told_apart() -> None:
    by_rows, by_columns = (W.square * C[:3, None]) ** 2, (W.square * C[:3]) ** 2
    assert names(by_rows) != names(by_columns)
    assert names((W.square + np.broadcast_to(C[:3, None], (3, 3))) ** 2) == names((W.square + C[:3, None]) ** 2)


def test_nodes_come_after_those_that_they_are_made_of() -> None:
    squares = W.a**2
    expression = (squares @ W.v) ** 2 + np.sin(squares.sum(dim=1))
    listed = nodes_of(expression.affine)
    assert [node.kind for node in listed] == ["power", "matmul", "power", "sin"]
    for place, node in enumerate(listed):
        inner = {term.parameter.name for operand in node.operands for term in operand.terms}
        assert inner <= {"a", "v", *(earlier.name for earlier in listed[:place])}
    assert {weight.name for weight in weights_of([expression.affine])} == {"a", "v"}


def test_a_long_product_needs_no_recursion() -> None:
    product, expected = W.v, VALUES["v"]
    for _ in range(3000):
        product, expected = product * W.v / 1.25, expected * VALUES["v"] / 1.25
    assert len(nodes_of(product.affine)) == 3000
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(evaluate(product, VALUES), expected, rtol=6000 * 2.0**-52)
    assert evaluate(substitute(product, VALUES), {}).shape == (4,)


def test_a_node_that_is_read_many_times_is_visited_once() -> None:
    x = W.v
    for _ in range(200):  # 2**200 paths
        x = (x * (x + 1) - 1) / 3
    assert len(nodes_of(x.affine)) == 200
    assert np.isfinite(evaluate(substitute(x, {"v": [0.1, 0.2, 0.3, 0.4]}), {})).all()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_frozen_weights_become_constants(name: str) -> None:
    expression = EXPRESSIONS[name]
    read = sorted({weight.name for weight in weights_of([expression.affine])})
    expected = evaluate(expression, VALUES)
    for count in range(len(read) + 1):
        for frozen in itertools.combinations(read, count):
            remaining, size = substitute_with_size(expression, {each: VALUES[each] for each in frozen})
            left_over = {weight.name for weight in weights_of([remaining.affine])}
            assert left_over == set(read) - set(frozen)
            found = evaluate(remaining, {each: VALUES[each] for each in left_over})
            np.testing.assert_allclose(found, expected, rtol=TOLERANCE)
            assert np.broadcast_shapes(size.shape, expression.shape) == expression.shape
            if count == len(read):
                assert not remaining.terms
                assert (np.broadcast_to(size, expression.shape) >= 0.99 * np.abs(expected)).all()


def test_a_product_with_a_frozen_factor_is_affine() -> None:
    for expression, frozen in (
        (W.a * W.v, "v"),
        (W.a * W.v, "a"),
        (W.square @ W.a, "a"),
        (W.square @ W.a, "square"),
        (W.stack @ W.stacks, "stacks"),
        ((W.a * (W.v + 1))[1:, ::2].sum(dim=0) - (W.a @ W.v)[:2], "a"),
        (W.u / W.number, "number"),
    ):
        remaining = substitute(expression, {frozen: VALUES[frozen]})
        assert not [term for term in remaining.terms if isinstance(term.parameter, Node)], str(expression)
        np.testing.assert_allclose(evaluate(remaining, VALUES), evaluate(expression, VALUES), rtol=TOLERANCE)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_rounding_of_frozen_constants_is_within_their_size(seed: int) -> None:
    """Rounding every frozen number to float32 moves the constant by at most its size times the rounding."""
    rng = np.random.default_rng(seed)
    values = {name: rng.uniform(0.5, 2.0, shape) for name, shape in SHAPES.items()}
    moved = {name: value * (1.0 + rng.uniform(-1, 1, value.shape) * 2.0**-24) for name, value in values.items()}
    for name in ("product", "chain", "nested", "mixed", "sine", "exponential", "logarithm", "square root", "lengths",
                 "negative powers", "determinant", "gram", "inverses", "large determinant", "tanh"):  # fmt: skip
        expression = EXPRESSIONS[name]
        constant, size = substitute_with_size(expression, values)
        change = np.abs(evaluate(substitute(expression, moved), {}) - evaluate(constant, {}))
        depth = 1 + len(nodes_of(expression.affine))  # the relative error of a size is counted once for each node
        assert (change <= depth * 8 * 2.0**-24 * np.broadcast_to(size, expression.shape)).all(), name


def test_functions_of_constants_are_constants() -> None:
    constant = Expression(from_constant(read_constant([4.0, 0.25])))
    matrix = Expression(from_constant(read_constant([[2.0, 1.0], [1.0, 3.0]])))
    for found, expected in (
        (constant.sqrt(), [2.0, 0.5]),
        (constant**2, [16.0, 0.0625]),
        (constant**-1, [0.25, 4.0]),
        (constant.log(), np.log([4.0, 0.25])),
        (constant.norm(), np.hypot(4.0, 0.25)),
        (matrix.det(), 5.0),
        (matrix.inverse(), [[0.6, -0.2], [-0.2, 0.4]]),
        (constant * constant, [16.0, 0.0625]),
        (1 / constant, [0.25, 4.0]),
    ):
        assert not found.terms
        np.testing.assert_allclose(evaluate(found, {}), expected, rtol=4 * 2.0**-52)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda x: (-x).log(), r"\(log\(-number\)\) has numbers that are not finite"),
        (lambda x: (1000 * x).exp(), "has numbers that are not finite"),
        (lambda x: (x * 1e60) ** 9, r"\*\* ?9.* has numbers that are not finite"),
        (lambda x: (x - 1).reciprocal(), "has numbers that are not finite"),
        (lambda x: affinet.stack([affinet.stack([x, x]), affinet.stack([x, x])]).inverse(), "is singular"),
    ],
)
def test_functions_of_constants_without_a_value_are_refused(
    mistake: Callable[[Expression], object], message: str
) -> None:
    constant = Expression(nonlinear.reword(from_constant(read_constant(1.0)), W.number.affine.wording))
    with pytest.raises(ConstantError, match=message):
        mistake(constant)


@pytest.mark.parametrize(
    ("expression", "value"),
    [(np.log(W.number), -1.0), (np.sqrt(W.number), -1.0), (1 / W.number, 0.0), (np.exp(W.number), 1e3)],
    ids=str,
)
def test_functions_of_frozen_weights_without_a_value_are_refused(expression: Expression, value: float) -> None:
    with pytest.raises(ConstantError, match=r"of \(number\) is not finite at the values of the weights"):
        substitute(expression, {"number": value})


def test_groups_of_weights_take_the_same_functions() -> None:
    w = affinet.weights({f"layers.{k}.weight": (3, 3) for k in range(2)})
    group = w["layers.*.weight"]
    values = {name: random.uniform(0.5, 2.0, symbol.shape) for name, symbol in w.items()}
    functions: list[Callable[[Any], Any]] = [
        lambda x: x * x,
        lambda x: x @ x.mT,
        lambda x: x**2,
        lambda x: 1 / x,
        lambda x: x / (x + 1),
        lambda x: np.sin(x),
        lambda x: np.linalg.det(x),
        lambda x: np.linalg.inv(x),
        lambda x: np.linalg.norm(x, axis=1),
        lambda x: np.einsum("ij,ij->i", x, x),
    ]
    for function in functions:
        found = function(group)
        assert len(found) == 2
        for symbol, value in zip(found, values.values(), strict=True):
            expected = value @ value.T if "@" in str(symbol) else function(value)  # NumPy 1 has no `mT`
            np.testing.assert_allclose(evaluate(symbol, values), expected, rtol=TOLERANCE)
    rules = group.norm(dim=1) == 1
    assert rules.text == "layers.0.weight.norm(dim=1) == 1\nlayers.1.weight.norm(dim=1) == 1"
    with pytest.raises(NotAffineError, match="a power with weights in the exponent"):
        2**group


def test_what_the_table_of_functions_does_not_have_is_refused_by_name() -> None:
    with pytest.raises(
        NotAffineError, match=r"^abs of \(v\) is not a function that rules can have\. For `abs\(w\) <= 1`"
    ):
        abs(W.v)
    with pytest.raises(NotAffineError, match=r"^max of \(v\) is not a function that rules can have\. They have \+ - "):
        W.v.max()
