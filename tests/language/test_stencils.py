"""Turns and flips of kernels, and stencils that differentiate polynomials exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.errors import RuleError, ShapeError
from affinet.language.evaluation import evaluate
from tests.language.counting import free


@pytest.mark.parametrize(("size", "turns", "mirrored"), [(3, 3, 3), (5, 7, 6), (7, 13, 10), (2, 1, 1), (4, 4, 3)])
def test_quarter_turns_leave_as_many_numbers_free_as_there_are_orbits(size: int, turns: int, mirrored: int) -> None:
    w = affinet.weights({"w": (size, size)})["w"]
    assert free(families.rotations(w), w) == turns
    assert free(families.rotations(w, flips=True), w) == mirrored


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (4, 4), (1, 3)])
def test_half_turns_of_any_size(shape: tuple[int, int]) -> None:
    w = affinet.weights({"w": shape})["w"]
    kernel = np.random.default_rng(0).standard_normal(shape)
    kernel += kernel[::-1, ::-1]
    assert np.abs(evaluate(families.rotations(w, order=2).expression, {"w": kernel})).max() == 0
    assert free(families.rotations(w, order=2), w) == (w.size + 1) // 2
    tall, wide = ((n + 1) // 2 for n in shape)
    assert free(families.rotations(w, order=2, flips=True), w) == tall * wide


@pytest.mark.parametrize("channels", [(2, 3), (200, 200)])  # the second is read from its terms
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_turned_kernels_are_equal_to_the_bit(channels: tuple[int, int], dtype: torch.dtype) -> None:
    w = affinet.weights({"w": (*channels, 3, 3)})["w"]
    plan = affinet.plan(families.rotations(w, flips=True))
    assert w.size - int(str(plan.rank)) == 3 * channels[0] * channels[1]
    kernel = torch.randn(*channels, 3, 3).to(dtype)
    turned = plan.projector({"w": kernel}).project({"w": kernel})["w"]
    assert torch.equal(turned, turned.rot90(1, (-2, -1)))
    assert torch.equal(turned, turned.flip(-1))
    np.testing.assert_allclose(turned[..., 1, 1].double(), kernel[..., 1, 1].double())


def test_what_does_not_turn() -> None:
    w, b = affinet.weights({"w": (2, 3, 4)})["w"], affinet.weights({"b": (3,)})["b"]
    with pytest.raises(ShapeError, match="rotations of order 4 is about square matrices"):
        families.rotations(w)
    with pytest.raises(ShapeError, match="rotations is about matrices"):
        families.rotations(b, order=2)
    with pytest.raises(RuleError, match=r"order=4 \(quarter turns\) or order=2 \(half turns\); got 3"):
        families.rotations(w, order=3)
    assert families.rotations(w, order=2, flips=True).text == "rotations(w, order=2, flips=True)"


def test_the_moments_of_a_known_stencil() -> None:
    w = affinet.weights({"w": (5,)})["w"]
    rule = families.moments(w, np.arange(-2, 3), derivative=2, order=5)
    known = np.array([-1, 16, -30, 16, -1]) / 12  # Fornberg 1988, table 1
    assert np.abs(evaluate(rule.expression, {"w": known})).max() < 1e-15
    assert rule.rows == 5
    assert rule.text == "moments(w, offsets=[-2, -1, 0, 1, 2], derivative=2, order=5)"
    plan = affinet.plan(families.moments(w, np.arange(-2, 3), derivative=2, order=4))
    found = plan.projector({"w": torch.zeros(5, dtype=torch.float64)}).project({"w": torch.from_numpy(known)})
    np.testing.assert_allclose(found["w"].numpy(), known, atol=1e-15)


@pytest.mark.parametrize("derivative", [0, 1, 2, 3])
def test_a_stencil_differentiates_polynomials_below_its_order(derivative: int) -> None:
    draw, order = np.random.default_rng(derivative), derivative + 2
    offsets = 0.1 * np.array([-3.0, -2, -0.5, 0, 1, 2.5, 3])
    w = affinet.weights({"w": (4, 7)})["w"]
    plan = affinet.plan(families.moments(w, offsets, derivative=derivative, order=order))
    assert plan.rank == 4 * order
    random = {"w": torch.from_numpy(draw.standard_normal((4, 7)))}
    stencils = plan.projector(random).project(random)["w"].numpy()
    polynomial = np.polynomial.Polynomial(draw.standard_normal(order))
    at = 0.7
    np.testing.assert_allclose(stencils @ polynomial(at + offsets), polynomial.deriv(derivative)(at), rtol=1e-9)
    beyond = np.polynomial.Polynomial.basis(order)
    assert np.abs(stencils @ beyond(offsets) - beyond.deriv(derivative)(0.0)).min() > 1e-9


def test_a_stencil_of_two_axes() -> None:
    x, y = np.array([-1.0, 0, 1]), np.array([-2.0, -1, 0, 1])
    w = affinet.weights({"w": (2, 3, 4)})["w"]
    rule = families.moments(w, [x, y], derivative=(1, 1), order=3)
    assert (rule.shape, free(rule, w)) == ((2, 6), 24 - 12)
    mixed = np.zeros((2, 3, 4))
    mixed[:, [0, 0, 2, 2], [1, 3, 1, 3]] = np.array([1, -1, -1, 1]) / 4  # the usual stencil for ∂²/∂x∂y
    assert np.abs(evaluate(rule.expression, {"w": mixed})).max() < 1e-15
    assert rule.text == "moments(w, offsets=[[-1, 0, 1], [-2, -1, 0, 1]], derivative=(1, 1), order=3)"


def test_offsets_keep_the_precision_that_they_were_said_in() -> None:
    w = affinet.weights({"w": (3,)})["w"]
    assert families.moments(w, np.ones(3, np.float32), derivative=0, order=1).expression.epsilon == 2.0**-23


def test_what_is_no_stencil() -> None:
    w = affinet.weights({"w": (2, 3)})["w"]
    with pytest.raises(RuleError, match=r"order must be an integer above 1, the order of the derivative; got 1"):
        families.moments(w, [0, 1, 2], derivative=1, order=1)
    with pytest.raises(ShapeError, match=r"\(w\) has shape \(2, 3\), and the offsets have \(2,\)"):
        families.moments(w, [0, 1], derivative=1, order=2)
    with pytest.raises(ShapeError, match=r"one array for each of its 3 axes"):
        families.moments(w, [[0], [0, 1], [0, 1, 2]], derivative=(0, 0, 1), order=2)
    with pytest.raises(RuleError, match="derivative must be an integer that is at least 0, or one per axis; got -1"):
        families.moments(w, [0, 1, 2], derivative=-1, order=2)
