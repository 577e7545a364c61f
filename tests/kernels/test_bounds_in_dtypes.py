"""Weights can have the numbers that inequalities bound them by, in their dtype; otherwise nothing is attached."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn, optim

import affinet
from affinet import families
from affinet.kernels.bounds_in_dtypes import NumberFormat
from affinet.kernels.torch.rounded_weights import format_of

COARSE = (torch.float16, torch.bfloat16, torch.float32)


def attached(dtype: torch.dtype, rule: Any, start: Any = (0.3, -0.2, 0.5, 0.1)) -> tuple[torch.Tensor, affinet.Handle]:
    """The weights after attaching `rule(w)`, and the handle."""
    model = nn.Module()
    model.w = nn.Parameter(torch.tensor(start, dtype=torch.float64).to(dtype))
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    handle = affinet.project(model, optimizer, rule(affinet.weights(model)["w"]))
    return model.w.detach(), handle


@pytest.mark.parametrize("dtype", COARSE, ids=str)
@given(x=st.floats(-1e60, 1e60) | st.floats(-1e-30, 1e-30) | st.floats(-1e5, 1e5))
def test_the_numbers_next_to_a_number_are_those_of_torch(dtype: torch.dtype, x: float) -> None:
    numbers = format_of(dtype)
    below, above = float(numbers.below(np.array(x))), float(numbers.above(np.array(x)))
    assert below <= x <= above
    finite = torch.tensor([below, above], dtype=torch.float64)
    finite = finite[torch.isfinite(finite)]
    assert torch.equal(finite.to(dtype).double(), finite), "a number of the dtype"
    if np.isfinite(below) and np.isfinite(above):
        after = torch.nextafter(torch.tensor(below, dtype=dtype), torch.tensor(torch.inf, dtype=dtype))
        assert above == (below if below == x else float(after))
    rounded = float(torch.tensor(x, dtype=torch.float64).to(dtype))
    assert bool(numbers.vanishes(np.array(x))) == (x != 0.0 and rounded == 0.0)
    assert bool(numbers.exceeds(np.array(x))) == (abs(rounded) == np.inf)


@pytest.mark.parametrize("dtype", COARSE, ids=str)
def test_bounds_without_a_number_between_them_are_refused(dtype: torch.dtype) -> None:
    one_and_half_a_spacing = 1.0 + torch.finfo(dtype).eps / 2.0
    after = 1.0 + torch.finfo(dtype).eps
    with pytest.raises(affinet.AttachError, match=rf'"low" and "high" ask for .*w\[2\].*are 1 and {after:.9g}'):
        attached(
            dtype,
            lambda w: [
                (w[2] >= one_and_half_a_spacing - 1e-9).named("low"),
                (w[2] <= one_and_half_a_spacing + 1e-9).named("high"),
            ],
        )


@pytest.mark.parametrize("dtype", COARSE, ids=str)
@pytest.mark.parametrize("rule", [
    lambda w: w == 0.1,
    lambda w: affinet.between(0.1, w[0], 0.1),
    lambda w: affinet.between(-0.1, w, 0.1),
    lambda w: [w >= 0.1, w.sum() == 1.3],
    lambda w: affinet.between(1.0, w, 1.0 + 1e-9),
    lambda w: affinet.between(-np.inf, w, 2.0),
    lambda w: [w[0] == -2 * w[1], w[0] == -4 * w[2], affinet.between(0.5, w[0], 0.500000001)],
])  # fmt: skip
def test_bounds_that_are_rounded_are_no_mistake(dtype: torch.dtype, rule: Any) -> None:
    _, handle = attached(dtype, rule)
    assert max(handle.violation().values()) <= 2.0 * torch.finfo(dtype).eps  # sums of four numbers below one


def test_nothing_is_moved_and_nothing_is_attached() -> None:
    model = nn.Linear(3, 2, bias=False).half()
    before, optimizer = model.weight.detach().clone(), optim.Adam(model.parameters())
    with pytest.raises(affinet.AttachError, match=r"weight\[0, 0\] >= 1e-09, which is 0 in torch.float16"):
        affinet.project(model, optimizer, affinet.weights(model)["weight"] >= 1e-9)
    assert torch.equal(model.weight, before)
    affinet.project(model, optimizer, affinet.weights(model)["weight"] >= 6e-8)
    assert (model.weight > 0).all()


@pytest.mark.parametrize(("rule", "words"), [
    (lambda w: [w >= 1e-9, w.sum() == 1], r'"w >= 1e-09" asks for w\[0\] >= 1e-09, which is 0'),
    (lambda w: w <= 1e6, r"w\[0\] <= 1000000.0, and torch.float16 ends at 65504: no weight reaches"),
    (lambda w: w[1:] >= 70000, r"w\[1\] >= 70000.0, and torch.float16 ends at 65504: no weight can be there"),
    (lambda w: [families.monotone(w), affinet.between(-1e6, w, 1)], r"w\[0\] >= -1000000.0.*no weight reaches"),
    (lambda w: [w[:2].sum() + w[2] <= 1, w[1:].sum() >= -1, w >= -1e-9], r">= -1e-09, which is 0"),
    (lambda w: [w[0] == 2 * w[1], w[1] <= 1e6], r"w\[1\] <= 1000000.0"),
    (lambda w: families.linf_ball(w, 1e-9), r">= -1e-09, which is 0"),
    (lambda w: families.l1_ball(w, 1e-9), r"the radius 1e-09 of .*l1_ball.* is 0 in torch.float16"),
    (lambda w: families.l2_ball(w, 200_000), r"no weights reach the radius 200000.0"),
])  # fmt: skip
def test_bounds_out_of_range_are_refused(rule: Any, words: str) -> None:
    with pytest.raises(affinet.AttachError, match=words):
        attached(torch.float16, rule)


def test_several_numbers_reach_a_radius_that_one_does_not() -> None:
    attached(torch.float16, lambda w: families.l2_ball(w, 100_000))  # four of 65,504 have the norm 131,008
    attached(torch.float16, lambda w: families.l1_ball(w, 200_000))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_projector_of_arrays_refuses_them_too(dtype: str) -> None:
    wide = {"w": np.ones(4)}
    small = float(np.finfo(dtype).smallest_subnormal) / 8.0
    projector = affinet.plan(affinet.weights(wide)["w"] >= small).projector(wide)
    assert np.array_equal(projector.project({"w": -np.ones(4)})["w"], np.full(4, small)), "float64 has the number"
    with pytest.raises(affinet.AttachError, match=f"which is 0 in {dtype}"):
        projector.project({"w": -np.ones(4, dtype)})


def test_the_right_hand_side_of_an_equation_beyond_the_dtype_names_the_rule() -> None:
    with pytest.raises(affinet.AttachError, match=r'w\[1\] by the rule "big": a right-hand side is out of its range'):
        attached(torch.float16, lambda w: [(w[1] == 70000).named("big"), w[2:].sum() == 1])


@pytest.mark.parametrize(("dtype", "gap", "lost"), [
    (torch.bfloat16, 1e-9, True),
    (torch.bfloat16, 0.02, False),
    (torch.float32, 1e-9, True),
    (torch.float32, 1e-6, False),
    (torch.float64, 1e-9, False),
])  # fmt: skip
def test_gaps_below_the_rounding_of_weights_are_reported(dtype: torch.dtype, gap: float, lost: bool) -> None:
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        w, _ = attached(dtype, lambda w: families.monotone(w, gap=gap).named("rising"), (1.0, 0.9, 0.8, 1.1))
    assert [warning.category for warning in raised] == [affinet.UnresolvedGapWarning] * lost
    assert bool((w.diff() > 0).all()) is not lost
    if lost:
        assert '"rising" asks in row' in str(raised[0].message)
        assert raised[0].filename == __file__


def test_rules_that_zero_satisfies_have_no_gap_to_lose() -> None:
    attached(torch.bfloat16, lambda w: [w[:2].sum() <= 1e-9, w[2] <= w[3] + 1e-9])


def test_float64_has_every_bound() -> None:
    assert NumberFormat("float64", float(np.finfo(np.float64).eps), 5e-324, float(np.finfo(np.float64).max)).is_complete
    attached(torch.float64, lambda w: affinet.between(0.1, w, np.nextafter(0.1, 1.0) + 1e-12))


def test_new_rules_that_the_dtype_cannot_have_leave_the_old_ones() -> None:
    model = nn.Linear(3, 2).half()
    weight = affinet.weights(model)["weight"]
    optimizer = optim.Adam(model.parameters())
    handle = affinet.project(model, optimizer, (weight >= 0).named("low"))
    before = model.weight.detach().clone()
    with pytest.raises(affinet.AttachError, match=r"which is 0 in torch\.float16"):
        handle.update(weight >= 1e-9)
    assert torch.equal(model.weight, before)
    assert list(handle.violation()) == ["low"]
