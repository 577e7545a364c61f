"""Expressions at weights, evaluated by views: against the language's own evaluation, pair by pair."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import affinet
from affinet.kernels.torch import evaluating
from affinet.kernels.torch.evaluating import Value, largest_gap
from affinet.language.evaluation import evaluate
from tests.limits import planned

CPU = torch.device("cpu")
DRAW = np.random.default_rng(0)
SHAPES = {"a": (6, 5), "b": (5, 6), "c": (4, 3, 5), "d": (7,), "s": ()}
W: Any = affinet.weights(SHAPES)
EXPRESSIONS = {
    "entries": W.a + 1,
    "transposed": W.a - 2 * W.b.T,
    "flipped": W.a.flip(0) + W.b.T.flip(1),
    "reversed slices": W.a[::-2] - W.b.T[::2, ::-1],
    "sums": W.a.sum(dim=1) + W.b.sum(dim=0),
    "sums of all": W.a.sum() + W.c.sum() - W.d.sum() + W.s,
    "broadcast": W.a.sum(dim=1, keepdim=True) + W.b.T + W.d[0],
    "a vector along rows": W.c + W.d[:5] * np.arange(1.0, 6),
    "matrices": DRAW.standard_normal((3, 6)) @ W.a @ DRAW.standard_normal((5, 2)) - W.c[:3, :2, 0],
    "coefficients": DRAW.standard_normal((6, 5)) * W.a,
    "flattened": W.a.flatten()[:28].reshape(4, 7).sum(dim=0) + W.d,
    "a table": W.a[np.array([0, 3, 1]), np.array([4, 0, 0])] + W.d[np.array([6, 1, 1])],
    "a table of rows": W.a[np.array([0, 3, 1])].sum(dim=1) - W.c[:3, 0, 0],
    "concatenated": affinet.concat([W.a.flatten(), W.d]) + 3,
    "stacked": affinet.stack([W.a[0], W.b[:, 0], W.c[0, 0]]) - 1,
    "diagonal": affinet.concat([W.a[:5].diagonal(), W.d[:2]]) + W.d,
    "differences": W.d.diff() + W.a[:, 0],
    "rolled": W.d.roll(2) - W.d,
}


@pytest.mark.parametrize("piece", [1, 7, evaluating.PIECE])
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_views_give_what_pairs_give(name: str, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluating, "PIECE", piece)
    expression = EXPRESSIONS[name]
    given = {name: np.asarray(DRAW.standard_normal(shape)) for name, shape in SHAPES.items()}
    found = Value(expression, CPU)({name: torch.as_tensor(values) for name, values in given.items()})
    # Sums of at most 100 numbers of size 1 to 10, in another order.
    np.testing.assert_allclose(found.numpy(), evaluate(expression, given), rtol=0, atol=1e-12)


def test_other_memory_orders_and_dtypes_are_read_as_they_are() -> None:
    values = {"a": torch.randn(5, 6).T, "b": torch.randn(10, 6)[::2]}
    found = Value(EXPRESSIONS["transposed"], CPU)(values)
    assert torch.equal(found, values["a"].double() - 2 * values["b"].T.double())


def test_a_weight_with_coefficient_zero_is_in_no_rule() -> None:
    mask = np.ones((6, 5))
    mask[2, 3] = 0.0
    plan = planned(((mask * W.a).sum(dim=1) == W.b.sum(dim=0)).named("masked"), one_by_one=0)
    weights = {"a": torch.zeros(6, 5), "b": torch.zeros(5, 6)}
    weights["a"][2, 3] = torch.nan
    assert plan.projector(weights).violation(weights) == {"masked": 0.0}
    weights["a"][2, 4] = torch.nan
    assert np.isnan(plan.projector(weights).violation(weights)["masked"])


@pytest.mark.parametrize("shape", [(), (5,), (5, 4, 3)])
def test_the_largest_gap_of_two_tensors(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluating, "PIECE", 13)
    one, other, shift = torch.randn(shape), torch.randn(shape), torch.randn(shape[-1:], dtype=torch.float64)
    wanted = (one.double() - 0.3 * other.double() - shift).abs().max()
    # One rounding of a product of size 1 is fused or not.
    assert float(largest_gap(one, other, 0.3, shift)) == pytest.approx(float(wanted), rel=1e-14)
