"""`fix` with masks: over all axes, the first ones as NumPy indexes, the last ones as arrays broadcast."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import affinet
from affinet import families
from affinet.errors import ShapeError
from affinet.language.evaluation import evaluate

SHAPES: dict[str, tuple[int, ...]] = {"kernels": (4, 2, 5, 5), "same": (5, 5, 5, 5), "matrix": (6, 4), "bias": (4,)}
W: Any = affinet.weights(SHAPES)
DRAW = np.random.default_rng(0)
CROSS = np.add.outer(np.arange(5), np.arange(5)) % 2 == 0
VALUES = DRAW.standard_normal((5, 5))


def holds_at(rule: Any, weight: str, where: np.ndarray, wanted: np.ndarray) -> None:
    """The rule pins exactly the entries `where`, at `wanted`."""
    shape = SHAPES[weight]
    plan = affinet.plan(rule)
    assert plan.rank == plan.size == np.broadcast_to(where, shape).sum()
    point = np.where(where, wanted, DRAW.standard_normal(shape))
    others = {name: np.zeros(size) for name, size in SHAPES.items()}
    assert np.abs(evaluate(rule.expression, {**others, weight: point})).max(initial=0.0) == 0.0


@pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")
@pytest.mark.parametrize(
    ("weight", "where", "value", "full", "wanted"),
    [
        ("kernels", ~CROSS, 0, ~CROSS, np.zeros(())),
        ("kernels", CROSS, VALUES, CROSS, VALUES),
        ("kernels", CROSS, VALUES[CROSS], CROSS, VALUES),
        ("kernels", CROSS[None, None], VALUES, CROSS, VALUES),
        ("kernels", CROSS.tolist(), 2.5, CROSS, np.full((), 2.5)),
        ("kernels", np.ones((4, 1, 5, 5), bool), VALUES, np.ones((), bool), VALUES),
        ("kernels", np.eye(4, 2) > 0, 1, (np.eye(4, 2) > 0)[:, :, None, None], np.ones(())),
        ("kernels", None, VALUES, np.ones((), bool), VALUES),
        ("same", (..., CROSS), VALUES, CROSS, VALUES),
        ("same", (CROSS, ...), 3, CROSS[:, :, None, None], np.full((), 3.0)),
        ("matrix", np.array([True, False, True, True]), [1, 2, 3, 4], np.array([1, 0, 1, 1]) > 0, np.arange(1.0, 5)),
        (
            "matrix",
            np.array([True, False, True, True, False, False]),
            7,
            np.array([[1], [0], [1], [1], [0], [0]]) > 0,
            7.0 * np.ones(()),
        ),
        ("bias", [True, False, False, True], [5, 6], np.array([1, 0, 0, 1]) > 0, np.array([5.0, 0, 0, 6])),
        ("bias", [0, 3], [5, 6], np.array([1, 0, 0, 1]) > 0, np.array([5.0, 0, 0, 6])),
    ],
    ids=str,
)
def test_masks_and_values(weight: str, where: Any, value: Any, full: np.ndarray, wanted: np.ndarray) -> None:
    holds_at(families.fix(W[weight], where=where, value=value), weight, full, wanted)


def test_a_mask_or_a_value_that_fits_both_ways_is_refused() -> None:
    with pytest.raises(
        ShapeError, match=r"\(5, 5\) fits both the first and the last axes of \(same\).*where=\(\.\.\., mask\)"
    ):
        families.fix(W.same, where=CROSS)
    diagonal = np.eye(5) > 0
    with pytest.raises(ShapeError, match=r"the value of shape \(5, 5\) fits .* and \(same\) of shape \(5, 5, 5, 5\)"):
        families.fix(W.same, where=(..., diagonal), value=VALUES)
    assert families.fix(W.same[..., diagonal], value=VALUES).rows == 125
    assert families.fix(W.same, where=(..., diagonal), value=np.broadcast_to(VALUES, W.same.shape)).rows == 125


def test_masks_and_values_that_fit_nowhere() -> None:
    with pytest.raises(ShapeError, match=r"the mask in .* has shape \(3, 3\)"):
        families.fix(W.kernels, where=np.ones((3, 3), bool))
    with pytest.raises(ShapeError, match=r"the value of shape \(3,\) does not fit"):
        families.fix(W.kernels, where=CROSS, value=[1, 2, 3])
    with pytest.raises(ShapeError, match=r"an index of bias must be .* got True"):
        families.fix(W.bias, where=True)


def test_masks_in_text() -> None:
    rule = affinet.parse("fix(matrix, where=[True, False, True, True], value=2)", W)
    holds_at(rule, "matrix", np.array([True, False, True, True]), np.full((), 2.0))


@pytest.mark.parametrize("kind", [np.int64, np.uint8, list])
def test_a_mask_of_numbers_is_refused_where_entries_are_fixed(kind: Any) -> None:
    """As positions, the identity would fix the first two rows."""
    eye = np.eye(4, dtype=int)
    where = eye.tolist() if kind is list else eye.astype(kind)
    w = affinet.weights({"square": (4, 4), "b": (3,)})
    with pytest.raises(ShapeError, match=r"numbers 0 and 1 in the shape \(4, 4\).*mask\.astype\(bool\)"):
        families.fix(w.square, where=where)
    with pytest.raises(ShapeError, match="numbers 0 and 1"):
        families.fix(w.b, where=[1, 0, 1])
    assert affinet.plan(families.fix(w.square, where=eye.astype(bool))).rank == 4
    assert affinet.plan(families.fix(w.b, where=[0, 1])).rank == 2


def test_a_tensor_of_bytes_is_neither_a_mask_nor_positions() -> None:
    """torch reads it as a mask, NumPy as positions."""
    import torch

    b = affinet.weights({"b": (3,)}).b
    bytes_ = torch.tensor([1, 0, 1], dtype=torch.uint8)
    with pytest.raises(ShapeError, match=r"uint8.*\.bool\(\).*\.long\(\)"):
        b[bytes_]
    assert b[bytes_.bool()].shape == (2,)
    assert b[bytes_.long()].shape == (3,)
