"""Operations of arrays under the names of NumPy and of torch, whole families of them, against arrays and tensors."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

import affinet
from affinet.errors import ShapeError
from affinet.language.evaluation import evaluate

SHAPES = {"w": (3, 4), "v": (4,), "k": (2, 3, 4), "q": (3, 3), "o": (1, 3, 1), "s": ()}
WEIGHTS: Any = affinet.weights(SHAPES)
DRAW = np.random.default_rng(0)
VALUES = {name: DRAW.integers(-4, 5, shape).astype(float) for name, shape in SHAPES.items()}
RIGHT, LEFT = DRAW.integers(-3, 4, (4, 5)).astype(float), DRAW.integers(-3, 4, (2, 3)).astype(float)
FOUR, THREE = DRAW.integers(-3, 4, 4).astype(float), DRAW.integers(-3, 4, 3).astype(float)
STACK = DRAW.integers(-3, 4, (2, 4, 3)).astype(float)
TENSORS = SimpleNamespace(**{name: torch.from_numpy(values) for name, values in VALUES.items()})
ARRAYS = SimpleNamespace(**VALUES)
T_RIGHT, T_LEFT, T_FOUR = torch.from_numpy(RIGHT), torch.from_numpy(LEFT), torch.from_numpy(FOUR)

Operation = Callable[[Any], Any]

NUMPY: tuple[Operation, ...] = (
    lambda x: np.einsum("ij->i", x.w),
    lambda x: np.einsum("ij->ji", x.w),
    lambda x: np.einsum("ji", x.w),
    lambda x: np.einsum("ii->i", x.q),
    lambda x: np.einsum("ii", x.q),
    lambda x: np.einsum("ij,jk->ik", x.w, RIGHT),
    lambda x: np.einsum("ij,jk", x.w, RIGHT, optimize=True),
    lambda x: np.einsum("ai,ij->aj", LEFT, x.w),
    lambda x: np.einsum("ai,ij,jk->ak", LEFT, x.w, RIGHT),
    lambda x: np.einsum("ij,j->ij", x.w, FOUR),
    lambda x: np.einsum("ij,k->kij", x.w, FOUR),
    lambda x: np.einsum("...j,j->...", x.k, FOUR),
    lambda x: np.einsum("a...,ab->b...", x.k, LEFT),
    lambda x: np.einsum("...,...->...", x.w, FOUR),
    lambda x: np.einsum("ij,kj->k", x.w, RIGHT.T),
    lambda x: np.einsum("ii,i->i", x.q, THREE),
    lambda x: np.einsum("ij,ij->ij", x.w, 2 * np.ones((3, 1))),
    lambda x: np.einsum(",ij->ij", 2.0, x.w),
    lambda x: np.einsum("i,j->ij", x.v + 1, THREE),
    lambda x: np.dot(x.w, RIGHT),
    lambda x: np.dot(LEFT, x.w),
    lambda x: np.dot(x.v, FOUR),
    lambda x: np.dot(x.k, STACK),
    lambda x: np.dot(LEFT, x.k),
    lambda x: np.dot(2.0, x.w),
    lambda x: x.w.dot(RIGHT),
    lambda x: x.v.dot(FOUR),
    lambda x: np.matmul(x.w, RIGHT),
    lambda x: np.matmul(LEFT, x.k),
    lambda x: np.inner(x.w, FOUR),
    lambda x: np.inner(FOUR, x.k),
    lambda x: np.inner(x.w, 3.0),
    lambda x: np.outer(x.v, THREE),
    lambda x: np.outer(THREE, x.w),
    lambda x: np.add(x.w, FOUR),
    lambda x: np.subtract(FOUR, x.w),
    lambda x: np.multiply(FOUR, x.w),
    lambda x: np.divide(x.w, 2.0),
    lambda x: np.negative(x.w),
    lambda x: np.positive(x.w),
    lambda x: np.float64(2) * x.w - np.int64(3),
    lambda x: LEFT @ x.w @ RIGHT,
    lambda x: np.rot90(x.w),
    lambda x: np.rot90(x.w, 2),
    lambda x: np.rot90(x.k, k=3, axes=(2, 0)),
    lambda x: np.rot90(x.k, -4, (1, 2)),
    lambda x: np.moveaxis(x.k, 0, -1),
    lambda x: np.moveaxis(x.k, [0, 2], [1, 0]),
    lambda x: np.squeeze(x.o),
    lambda x: np.squeeze(x.o, axis=(0, 2)),
    lambda x: np.expand_dims(x.w, 1),
    lambda x: np.expand_dims(x.s, axis=0),
    lambda x: np.broadcast_to(x.v, (3, 4)),
    lambda x: np.broadcast_to(x.o, (2, 3, 0)),
    lambda x: np.repeat(x.w, 2, axis=0),
    lambda x: np.repeat(x.w, 3),
    lambda x: np.repeat(x.w, [1, 0, 2, 1], axis=1),
    lambda x: np.tile(x.w, 2),
    lambda x: np.tile(x.w, (2, 1, 3)),
    lambda x: np.tile(x.v, (2, 0)),
    lambda x: np.swapaxes(x.k, 0, 2),
    lambda x: np.ravel(x.w),
    lambda x: np.cumsum(x.w),
    lambda x: np.cumsum(x.w, axis=0),
    lambda x: np.diff(x.w, axis=0),
    lambda x: np.roll(x.w, shift=1, axis=0),
    lambda x: np.roll(x.w, (1, 2), axis=(0, 1)),
    lambda x: np.flip(x.w, axis=(0, 1)),
    lambda x: np.transpose(x.k, axes=(2, 0, 1)),
    lambda x: np.reshape(x.w, (4, 3)),
)
TORCH: tuple[Operation, ...] = (
    lambda x: torch.flip(x.w, dims=(0,)),
    lambda x: torch.flip(x.w, [0, 1]),
    lambda x: x.w.flip(dims=[1]),
    lambda x: x.w.flip(0, 1),
    lambda x: x.w.roll(shifts=1, dims=0),
    lambda x: torch.roll(x.w, shifts=(1, 2), dims=(0, 1)),
    lambda x: torch.roll(x.w, 1),
    lambda x: torch.einsum("ij->i", x.w),
    lambda x: torch.einsum("ij,jk->ik", x.w, T_RIGHT),
    lambda x: torch.einsum("ij,jk->ik", [x.w, T_RIGHT]),
    lambda x: x.w.repeat(2, 3),
    lambda x: x.v.repeat(2, 1, 3),
    lambda x: x.v.unsqueeze(0),
    lambda x: x.v.unsqueeze(-1),
    lambda x: torch.unsqueeze(x.w, dim=1),
    lambda x: x.o.squeeze(),
    lambda x: torch.squeeze(x.o, 0),
    lambda x: torch.rot90(x.w, 1, [0, 1]),
    lambda x: torch.rot90(x.k, k=1, dims=[0, 2]),
    lambda x: x.v.expand(3, 4),
    lambda x: x.o.expand(2, -1, 5),
    lambda x: x.v.expand(3, -1),
    lambda x: torch.movedim(x.k, 0, 2),
    lambda x: x.k.movedim((0, 1), (1, 2)),
    lambda x: torch.matmul(x.w, T_RIGHT),
    lambda x: torch.matmul(T_LEFT, x.w),
    lambda x: torch.mm(T_LEFT, x.w),
    lambda x: torch.mv(x.w, T_FOUR),
    lambda x: torch.dot(x.v, T_FOUR),
    lambda x: T_FOUR.dot(x.v),
    lambda x: torch.outer(x.v, T_FOUR),
    lambda x: torch.tile(x.w, (2,)),
    lambda x: torch.repeat_interleave(x.w, 2, dim=1),
    lambda x: torch.broadcast_to(x.v, (2, 4)),
    lambda x: torch.add(x.w, T_FOUR),
    lambda x: torch.mul(T_FOUR, x.w),
    lambda x: torch.sub(T_FOUR, x.w),
    lambda x: torch.div(x.w, 2),
    lambda x: torch.neg(x.w),
    lambda x: T_FOUR * x.w - T_FOUR,
    lambda x: T_LEFT @ x.w,
    lambda x: torch.cumsum(x.w, dim=0),
    lambda x: torch.diff(x.w, dim=0),
    lambda x: torch.permute(x.k, (2, 0, 1)),
    lambda x: torch.permute(x.k, dims=(2, 0, 1)),
    lambda x: torch.transpose(x.w, dim0=0, dim1=1),
    lambda x: torch.swapaxes(x.k, 0, 1),
    lambda x: torch.reshape(x.w, shape=(4, 3)),
)


def same(operation: Operation, values: Any) -> None:
    said, truth = operation(WEIGHTS), np.asarray(operation(values))
    assert said.shape == truth.shape
    np.testing.assert_allclose(evaluate(said, VALUES), truth, rtol=0, atol=1e-12)
    assert str(said)


def source(operation: Operation) -> str:
    return inspect.getsource(operation).strip().removeprefix("lambda x: ").rstrip(",")


@pytest.mark.parametrize("operation", NUMPY, ids=source)
def test_as_numpy_has_it(operation: Operation) -> None:
    same(operation, ARRAYS)


@pytest.mark.parametrize("operation", TORCH, ids=source)
def test_as_torch_has_it(operation: Operation) -> None:
    same(operation, TENSORS)


def test_sparse_matrices_on_both_sides() -> None:
    for said, truth in (
        (sparse.csr_array(LEFT) @ WEIGHTS.w, LEFT @ VALUES["w"]),
        (WEIGHTS.w.dot(sparse.csr_array(RIGHT)), VALUES["w"] @ RIGHT),
        (WEIGHTS.w @ sparse.coo_array(RIGHT), VALUES["w"] @ RIGHT),
    ):
        np.testing.assert_allclose(evaluate(said, VALUES), truth, rtol=0, atol=1e-12)


def test_a_sum_of_a_large_matrix_holds_what_the_matrix_does() -> None:
    """einsum of n × n with a constant n × m is a matrix product, and repeating an expression costs no numbers."""
    from tests.language.drawn import bytes_in, parameter

    large, narrow = parameter("large", 1000, 1000), np.ones((1000, 3)) + np.eye(1000, 3)
    assert bytes_in(affinet.einsum("ij,jk->ik", large, narrow)) < 2 * narrow.nbytes + 2000
    assert bytes_in(large.expand(50, -1, -1)) + bytes_in(large.repeat(4, 5)) < 5000


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "no text": (lambda: affinet.einsum(WEIGHTS.w, [0, 1]), "takes its subscripts first"),
    "too few operands": (lambda: affinet.einsum("ij,j->i", WEIGHTS.w), "for 2 operands; got 1"),
    "too many letters": (lambda: affinet.einsum("ijk->i", WEIGHTS.w), r"'ijk' names 3 axes, but w has shape \(3, 4\)"),
    "too few letters": (lambda: affinet.einsum("i->i", WEIGHTS.w), "'i' names 1 axes"),
    "no letters": (lambda: affinet.einsum("i1->i", WEIGHTS.w), "may hold only letters"),
    "an unknown letter": (lambda: affinet.einsum("ij->k", WEIGHTS.w), "or a letter that no operand has"),
    "a letter twice": (lambda: affinet.einsum("ij->ii", WEIGHTS.w), "has a letter twice"),
    "two sizes": (lambda: affinet.einsum("ij,j->i", WEIGHTS.w, [1, 2, 3]), "axes named j in .* sizes 4 and 3"),
    "a diagonal of two sizes": (lambda: affinet.einsum("ii->i", WEIGHTS.w), "axes named i in .* sizes 3 and 4"),
    "a squeeze": (lambda: WEIGHTS.w.squeeze(0), "axis 0 has size 3: only axes of size one can be removed"),
    "a new axis": (lambda: WEIGHTS.w.unsqueeze(3), "must be from -3 to 2; got 3"),
    "an expansion": (lambda: WEIGHTS.w.expand(4, 3), "Only axes of size one can be repeated"),
    "a smaller expansion": (lambda: WEIGHTS.w.expand(4), "Only axes of size one can be repeated"),
    "a repetition": (lambda: WEIGHTS.w.repeat(2), "for each of its 2 axes"),
    "negative counts": (lambda: WEIGHTS.v.repeat_interleave(-1), "takes an integer or a list of integers, 0 or more"),
    "counts of another length": (lambda: WEIGHTS.v.repeat_interleave([1, 2], 0), "has 2 counts, and axis 0 has size 4"),
    "a turn about one axis": (lambda: WEIGHTS.w.rot90(1, (0,)), "a rotation needs two different axes"),
    "a move to nowhere": (
        lambda: WEIGHTS.k.movedim((0, 1), 2),
        r"the numbers of axes \(2\) and of places \(1\) must be equal",
    ),
}


@pytest.mark.parametrize(("said", "message"), WRONG.values(), ids=list(WRONG))
def test_what_does_not_fit(said: Callable[[], Any], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        said()


@pytest.mark.parametrize(
    "text",
    [
        'einsum("ij,j->i", w, [1, 2, 3, 4]) == 0',
        "w.dot([1, 2, 3, 4]) == 0",
        "w.rot90(3, [0, 1]) == q.squeeze()[0, 0]",
        "k.movedim(0, 2) == 0",
        "v.unsqueeze(0).expand(3, -1) == w",
        "v.repeat(2, 3) == 0",
        "v.tile(2) == 0",
        "v.repeat_interleave([1, 0, 2, 1], dim=0) == 0",
        "w.flip(dims=0) == w.roll(shifts=1, dims=1)",
        "w.cumsum(axis=1)[:, -1] == w.sum(axis=1)",
        "o.squeeze(0) == 1",
    ],
)
def test_the_same_as_text_and_back(text: str) -> None:
    rule = affinet.parse(text, WEIGHTS)
    again = affinet.parse(rule.text, WEIGHTS)
    np.testing.assert_array_equal(evaluate(rule.expression, VALUES), evaluate(again.expression, VALUES))
    assert rule.shape == again.shape


def test_subscripts_in_text_are_text() -> None:
    with pytest.raises(affinet.ParseError, match="einsum takes its subscripts first, in quotes"):
        affinet.parse("einsum(w, [1]) == 0", WEIGHTS)
    with pytest.raises(affinet.ParseError, match="is not a number: text is allowed only as a name in brackets"):
        affinet.parse('w.dot("ij") == 0', WEIGHTS)
