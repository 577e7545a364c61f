"""The value of an expression, and expressions with some weights known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from affinet.errors import ConstantError, ShapeError, UnknownWeightError
from affinet.language.evaluation import evaluate
from affinet.language.substitution import substitute
from affinet.language.weights import weights

w = weights({"a": (3, 4), "b": (4,)})
VALUES = {"a": np.arange(12.0).reshape(3, 4), "b": np.arange(4.0)}


def test_values_may_be_lists_tensors_and_not_finite() -> None:
    assert evaluate(w.b.sum(), {"b": [1, 2, 3, 4]}) == 10
    assert evaluate(w.b.sum(), {"b": torch.ones(4)}) == 4
    assert np.isnan(evaluate(w.b.sum(), {"b": np.full(4, np.nan)}))


def test_missing_and_misshapen_values() -> None:
    with pytest.raises(UnknownWeightError, match="no weight named 'a'"):
        evaluate(w.a + w.b, {"b": VALUES["b"]})
    with pytest.raises(ShapeError, match=r"the value for b has shape \(3,\), and the weight has shape \(4,\)"):
        evaluate(w.b, {"b": np.ones(3)})
    with pytest.raises(ShapeError, match="the value for b"):
        substitute(w.b, {"b": np.ones(3)})
    with pytest.raises(ConstantError, match="NaN"):
        substitute(w.b, {"b": np.full(4, np.nan)})


def test_substitution_keeps_the_value_and_drops_the_weights() -> None:
    expression = 2 * w.a - w.b + w.a.sum(0)
    for names in (["a"], ["b"], ["a", "b"], [], ["unrelated"]):
        known = {name: VALUES.get(name, np.ones(1)) for name in names}
        left = substitute(expression, known)
        assert not {term.parameter.name for term in left.terms} & set(names)
        np.testing.assert_allclose(evaluate(left, VALUES), evaluate(expression, VALUES))
        assert str(left) == str(expression)
        assert left.shape == expression.shape


def test_substitution_takes_in_the_dtype_of_the_values() -> None:
    assert substitute(w.a + w.b, {"b": VALUES["b"].astype(np.float32)}).epsilon == 2.0**-23
    assert substitute(w.a + w.b, {"b": torch.ones(4, dtype=torch.bfloat16)}).epsilon == 2.0**-7
    assert substitute(w.a + w.b, {"b": torch.ones(4, dtype=torch.float64)}).epsilon == 2.0**-52


def test_a_broadcast_weight_becomes_a_constant_that_is_not_expanded() -> None:
    big = weights({"rows": (4000, 1), "all": (4000, 5000)})
    left = substitute(big["all"] - big.rows, {"rows": np.ones((4000, 1))})
    assert np.size(left.constant) <= 4000
