"""Shared entries with signs: opposite ties, zeros, and how large patterns are read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.errors import ShapeError
from affinet.language.evaluation import evaluate
from tests.language.counting import free

PATTERN = np.array([[7, -1, 2, 7], [2, 7, 5, 2], [9, 9, -3, 5]])
SIGNS = np.array([[-1, 1, 1, 1], [-1, -1, 0, 1], [1, 0, 0, 1]])


def test_signed_classes_hold_plus_or_minus_one_number() -> None:
    w = affinet.weights({"w": PATTERN.shape})["w"]
    rule = families.share(w, PATTERN, SIGNS)
    numbers = np.random.default_rng(0).standard_normal(10)
    held = np.where(PATTERN < 0, 77.0, numbers[PATTERN] * SIGNS)
    assert np.abs(evaluate(rule.expression, {"w": held})).max() == 0
    # 7 and 2 have three entries each, 5 and 9 one that is not zero; two entries are zero and two are free.
    assert (rule.rows, free(rule, w)) == (2 + 2 + 2, 2 + 2 + 2)
    assert rule.text == "share(w, pattern=array(3, 4), signs=array(3, 4))"


def test_a_negative_mark_leaves_an_entry_free_whatever_its_sign() -> None:
    w = affinet.weights({"w": (3,)})["w"]
    assert families.share(w, [-1, 0, 0], [0, 1, -1]).rows == 1


def test_signs_that_are_all_one_change_nothing() -> None:
    w = affinet.weights({"w": PATTERN.shape})["w"]
    plain, signed = families.share(w, PATTERN), families.share(w, PATTERN, np.ones_like(PATTERN))
    values = {"w": np.random.default_rng(1).standard_normal(PATTERN.shape)}
    np.testing.assert_array_equal(evaluate(plain.expression, values), evaluate(signed.expression, values))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [40, 700])
def test_signed_entries_are_equal_or_opposite_to_the_bit(dtype: torch.dtype, size: int) -> None:
    draw = np.random.default_rng(size)
    pattern, signs = draw.integers(0, 30, (size, size)), draw.integers(-1, 2, (size, size))
    plan = affinet.plan(families.share(affinet.weights({"w": pattern.shape})["w"], pattern, signs))
    w = plan.projector({"w": torch.zeros(pattern.shape, dtype=dtype)}).project({"w": torch.randn(size, size).to(dtype)})
    found = w["w"].double().numpy()
    assert (found[signs == 0] == 0).all()
    for mark in range(30):
        assert len(np.unique((found * signs)[(pattern == mark) & (signs != 0)])) == 1
    assert plan.free == 30


def test_marks_that_lie_far_apart() -> None:
    w = affinet.weights({"w": (4,)})["w"]
    rule = families.share(w, np.array([2**62, 5, 2**62, 5]))
    assert np.abs(evaluate(rule.expression, {"w": np.array([1.0, 2, 1, 2])})).max() == 0
    assert rule.rows == 2


def test_what_is_no_sign() -> None:
    w = affinet.weights({"w": (2,)})["w"]
    with pytest.raises(ShapeError, match=r"the signs for \(w\) must be -1, 0 or 1; got 2"):
        families.share(w, [0, 0], [1, 2])
    with pytest.raises(ShapeError, match=r"the signs for \(w\) hold float64, and need integers: -1, 0 or 1"):
        families.share(w, [0, 0], [1.0, -1.0])
    with pytest.raises(ShapeError, match=r"the signs have shape \(3,\), and \(w\) has shape \(2,\)"):
        families.share(w, [0, 0], [1, 1, 1])
