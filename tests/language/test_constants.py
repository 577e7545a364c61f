"""Constants on either side of an expression."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from affinet.language.constraint import Constraint
from affinet.language.evaluation import evaluate
from affinet.language.expression import Expression
from tests.language.drawn import (
    VALUES,
    W,
)


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
