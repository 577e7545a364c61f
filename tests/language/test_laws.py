"""Random chains of operations mean the same on an Expression as on a NumPy array, and leave terms in normal form."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import affinet
from affinet.language.calculus.terms import Floats, Parameter
from affinet.language.evaluation import evaluate, violations
from affinet.language.expression import Expression, concat, stack, weight

Operation = Callable[[Any], Any]
Draw = Callable[..., Any]
Shape = tuple[int, ...]

MOST_ENTRIES, MOST_AXES = 400, 5
START_SHAPES: list[Shape] = [(6, 8), (4, 3, 2), (5,), (2, 3, 2, 2), (), (1, 4), (4, 4)]


def numbers(shape: Shape, seed: int) -> Floats:
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float64)


def either(on_array: Operation, on_expression: Operation) -> Operation:
    """An operation that NumPy and affinet spell differently."""
    return lambda x: on_expression(x) if isinstance(x, Expression) else on_array(x)


# Each of these draws one operation on an array of shape `shape`; `a` is one of its axes, `k` a small integer.


def basic_index(draw: Draw, shape: Shape, a: int, k: int) -> Operation:
    key = draw(arrays.basic_indices(shape, max_dims=MOST_AXES, allow_newaxis=True))
    return lambda x: x[key]


def fancy_index(draw: Draw, shape: Shape, a: int, k: int) -> Operation:
    key = draw(arrays.integer_array_indices(shape, result_shape=arrays.array_shapes(max_dims=2, max_side=4)))
    return lambda x: x[key]


def mask_index(draw: Draw, shape: Shape, a: int, k: int) -> Operation:
    mask = numbers(shape[: draw(st.integers(1, len(shape)))], draw(st.integers(0, 99))) > 0
    return lambda x: x[mask]


def mixed_index(draw: Draw, shape: Shape, a: int, k: int) -> Operation:
    key: list[Any] = []
    length = draw(st.integers(1, 3))
    for n in shape:
        kind = draw(st.sampled_from(["slice", "integer", "array", "column", "new axis"]))
        if kind == "new axis":
            key.append(None)
        if kind == "integer":
            key.append(draw(st.integers(-n, n - 1)))
        elif kind in ("array", "column"):
            positions = np.array(draw(st.lists(st.integers(-n, n - 1), min_size=length, max_size=length)))
            key.append(positions[:, None] if kind == "column" else positions)
        else:
            key.append(draw(st.slices(n)))
    return lambda x: x[tuple(key)]


def combine(draw: Draw, shape: Shape, a: int, k: int) -> Operation:
    kept = shape[draw(st.integers(0, len(shape))) :]
    other = tuple(n if draw(st.booleans()) else 1 for n in kept)
    constant = numbers((2, *other) if draw(st.booleans()) and len(other) == len(shape) else other, k + 5)
    return draw(
        st.sampled_from([lambda x: constant * x, lambda x: x - constant, lambda x: constant - k * x / 2, lambda x: -x])
    )


def combine_with_itself(draw: Draw, shape: Shape, a: int, k: int) -> Operation:
    return (lambda x: x[:1] - k * x + 1.5) if shape else (lambda x: x + x)


def reshape(draw: Draw, shape: Shape, a: int, k: int) -> Operation:
    size = prod(shape)
    targets: list[Shape] = [(-1,) if size else (0,)]
    for n in (n for n in range(1, 13) if size % n == 0):
        targets += [(n, size // n), (size // n, 1, n)]
        targets += [(n, m, size // n // m) for m in (2, 3, 4) if size // n % m == 0]
    target = draw(st.sampled_from(targets))
    return lambda x: x.reshape(target)


def sums(draw: Draw, shape: Shape, a: int, k: int) -> Operation:
    axes = draw(st.sampled_from([None, a, tuple(range(len(shape)))[: 2 + k]]))
    name, keep = "sum" if 0 in shape or k > 1 else "mean", draw(st.booleans())
    return either(
        lambda x: getattr(np.asarray(x), name)(axis=axes, keepdims=keep), lambda x: getattr(x, name)(axes, keep)
    )


def along_an_axis(draw: Draw, shape: Shape, a: int, k: int) -> Operation:
    return either(
        *draw(
            st.sampled_from(
                [
                    (lambda x: np.cumsum(x, a), lambda x: x.cumsum(a)),
                    (lambda x: np.diff(x, axis=a), lambda x: x.diff(a)),
                    (lambda x: np.roll(x, k, a), lambda x: x.roll(k, a)),
                    (lambda x: np.flip(x, a), lambda x: x.flip(a)),
                    (lambda x: np.flip(x), lambda x: x.flip()),
                    (lambda x: np.concatenate([x, -x, x], a), lambda x: concat([x, -x, x], a)),
                    (lambda x: np.repeat(x, 2, a), lambda x: x.repeat_interleave(2, a)),
                    (lambda x: np.expand_dims(x, a), lambda x: x.unsqueeze(a)),
                    (lambda x: np.moveaxis(x, a, 0), lambda x: x.movedim(a, 0)),
                    (lambda x: np.tile(x, 2), lambda x: x.tile(2)),
                    (np.squeeze, lambda x: x.squeeze()),
                    (lambda x: np.broadcast_to(x, (2, *x.shape)), lambda x: x.expand(2, *x.shape)),
                    (lambda x: np.einsum("...i->i...", x), lambda x: affinet.einsum("...i->i...", x)),
                    (lambda x: np.einsum("...i->...", x), lambda x: affinet.einsum("...i->...", x)),
                ]
            )
        )
    )


def stacked(draw: Draw, shape: Shape, a: int, k: int) -> Operation:
    b = draw(st.integers(-len(shape) - 1, len(shape)))
    return either(lambda x: np.stack([x, -x, 0 * x + 2], b), lambda x: stack([x, -x, 0 * x + 2], b))


def product(draw: Draw, shape: Shape, a: int, k: int) -> Operation:
    right, rows = numbers((shape[-1], 3), k + 5), shape[max(len(shape) - 2, 0)]
    left = numbers((3, rows), k + 5)
    stack_of_left = numbers((*shape[:-2], 2, rows), k + 5)
    summed = numbers((shape[-1],), k + 5)
    return draw(
        st.sampled_from(
            [
                lambda x: np.einsum("...i,ik->k...", x, right),
                lambda x: np.einsum("...i,i", x, summed),
                either(lambda x: np.dot(x, right), lambda x: x.dot(right)),
                lambda x: x @ right,
                lambda x: x @ right[:, 0],
                lambda x: left @ x,
                lambda x: left[0] @ x,
                lambda x: stack_of_left @ x,
                either(lambda x: left @ x, lambda x: scipy.sparse.csr_array(left) @ x),
            ]
        )
    )


def permute(draw: Draw, shape: Shape, a: int, k: int) -> Operation:
    order = draw(st.permutations(range(len(shape))))
    return either(lambda x: np.transpose(x, order), lambda x: x.permute(*order))


def of_matrices(draw: Draw, shape: Shape, a: int, k: int) -> Operation:
    b = draw(st.integers(0, len(shape) - 1).filter(lambda b: b != a % len(shape)))
    return either(
        *draw(
            st.sampled_from(
                [
                    (lambda x: np.diagonal(x, k, a, b), lambda x: x.diagonal(k, a, b)),
                    (lambda x: np.tril(x, k), lambda x: x.tril(k)),
                    (lambda x: np.triu(x, k), lambda x: x.triu(k)),
                    (lambda x: np.trace(x, axis1=-2, axis2=-1), lambda x: x.trace()),
                    (lambda x: np.trace(x, k, a, b), lambda x: x.trace(k, a, b)),
                    (lambda x: x.ravel("F"), lambda x: x.ravel("F")),
                    (lambda x: np.swapaxes(x, a, b), lambda x: x.transpose(a, b)),
                    (lambda x: x.T, lambda x: x.T),
                    (lambda x: np.rot90(x, k, (a, b)), lambda x: x.rot90(k, (a, b))),
                ]
            )
        )
    )


@st.composite
def operations(draw: Any, shape: Shape) -> tuple[str, Operation]:
    kinds = [basic_index, combine, combine_with_itself, reshape, stacked]
    if shape:
        kinds += [mask_index, sums, along_an_axis, product, permute]
    if shape and 0 not in shape:
        kinds += [fancy_index, mixed_index, mixed_index]
    if len(shape) > 1:
        kinds += [of_matrices, of_matrices]
    kind = draw(st.sampled_from(kinds))
    axis = draw(st.integers(-len(shape), len(shape) - 1)) if shape else 0
    return kind.__name__, kind(draw, shape, axis, draw(st.integers(-3, 3)))


def assert_in_normal_form(expression: Expression) -> None:
    for term in expression.terms:
        assert len(term.start) == expression.ndim
        assert all(variable.size > 1 for variable in term.variables), "a variable of size one is folded away"
        for axis, start in enumerate(term.start):
            assert start is not None or not term.variables_on(axis), "no variable moves along a broadcast axis"
        for factor in term.factors:
            assert factor.values.shape == tuple(term.variables[k].size for k in factor.variables)


@given(st.data())
@settings(max_examples=200)
def test_a_chain_of_operations_is_compared_as_numpy_compares(data: Any) -> None:
    shape = data.draw(st.sampled_from(START_SHAPES))
    value: Any = numbers(shape, 7) / 4
    expression: Any = weight(Parameter("x", shape))
    weights = value
    for _ in range(data.draw(st.integers(0, 3))):
        _, operation = data.draw(operations(np.shape(value)))
        try:
            after = np.asarray(operation(value))
        except ValueError:  # index arrays that NumPy cannot broadcast
            continue
        if after.size <= MOST_ENTRIES and after.ndim <= MOST_AXES:
            expression, value = operation(expression), after
    sense = data.draw(st.sampled_from(["<=", ">="]))
    bound = numbers(value.shape[data.draw(st.integers(0, value.ndim)) :], data.draw(st.integers(0, 99))) / 4
    missing = np.inf if sense == "<=" else -np.inf
    bound = np.where(numbers(bound.shape, data.draw(st.integers(0, 99))) > 2, missing, bound)
    rule = {"<=": lambda x, y: x <= y, ">=": lambda x, y: x >= y}[sense](expression, bound)
    found = violations(evaluate(rule.expression, {"x": weights}), rule.sense)
    excess = value - bound if sense == "<=" else bound - value
    assert rule.shape == found.shape == value.shape
    np.testing.assert_allclose(found, np.maximum(excess, 0), rtol=0, atol=1e-12 * (1 + np.abs(value).max(initial=0)))


@given(st.data())
@settings(max_examples=400)
def test_a_chain_of_operations_means_what_numpy_means(data: Any) -> None:
    shape = data.draw(st.sampled_from(START_SHAPES))
    weights = numbers(shape, 7) / 3
    expression: Any = weight(Parameter("x", shape))
    value: Any = weights
    for _ in range(data.draw(st.integers(1, 6))):
        name, operation = data.draw(operations(np.shape(value)))
        try:
            after = np.asarray(operation(value))
        except ValueError:  # index arrays that NumPy cannot broadcast
            continue
        if after.size > MOST_ENTRIES or after.ndim > MOST_AXES:
            continue
        expression, value = operation(expression), after
        assert expression.shape == value.shape, name
        scale = 1 + np.abs(value).max(initial=0)
        truth = evaluate(expression, {"x": weights})
        np.testing.assert_allclose(truth, value, rtol=0, atol=1e-12 * scale, err_msg=name)
        assert_in_normal_form(expression)
    assert str(expression)
