"""Class means over complete weights: the bits of the class means over a flat row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import affinet
from affinet.blocks.law import run_alone
from affinet.blocks.namespace import NumPy
from affinet.blocks.tied_layers import Layers, separated
from affinet.blocks.ties import Averages, Ties

XP = NumPy()
SCALE = np.random.default_rng(1).uniform(0.5, 1.0, (4, 4))
ALIGNED: dict[str, Callable[[Any], list[Any]]] = {
    "equal": lambda w: [w.a == w.b, w.b == w.c],
    "scaled and shifted": lambda w: [w.a == 2.0 * w.b, w.b == -3.0 * w.c + 1.0],
    "one by one": lambda w: [w.a == SCALE * w.b + SCALE, w.c == SCALE.T * w.b],
    "transposed": lambda w: [w.a == w.b.T, w.c == -0.5 * w.b + SCALE],
    "vectors": lambda w: [w.x == w.y, w.y == 0.25 * w.z],
    "opposite": lambda w: [w.a == -w.b, w.b == -w.c],
}
APART: dict[str, Callable[[Any], list[Any]]] = {
    "flipped": lambda w: [w.a == w.b.flip(0), w.b == w.c],
    "of other shapes": lambda w: [w.a.flatten() == w.v, w.a == w.b],
    "partly": lambda w: [w.a[:2] == w.b[:2], w.b[:2] == w.c[:2]],
}


def ties(rules: Callable[[Any], list[Any]]) -> Ties:
    """The block of the rules, which is the only one."""
    shapes = {**dict.fromkeys("abcd", (4, 4)), **dict.fromkeys("xyz", (3,)), "v": (16,)}
    (block,) = affinet.plan(rules(affinet.weights(shapes))).blocks
    assert isinstance(block, Ties)
    return block


@pytest.mark.parametrize("name", ALIGNED)
def test_layers_have_the_bits_of_the_flat_means(name: str) -> None:
    block = ties(ALIGNED[name])
    ((parts, layers),) = separated(block.parts, block.classes)
    assert isinstance(layers, Layers)
    assert parts == block.parts
    flat = block.law().projection
    random = np.random.default_rng(0)
    x, metric = random.uniform(0.5, 2.0, (2, block.size))
    shaped = x.reshape(layers.shape), metric.reshape(layers.shape)
    pairs = [
        (layers.nearest(XP, shaped[0].copy()), flat.nearest(XP, x.copy())),
        (layers.tangent(XP, shaped[0].copy()), flat.tangent(XP, x.copy())),
        (layers.tangent(XP, shaped[0].copy(), floor=0.3), flat.tangent(XP, x.copy(), floor=0.3)),
        (layers.nearest_in_metric(XP, *shaped), flat.nearest_in_metric(XP, x, metric)),
    ]
    for ours, theirs in pairs:
        np.testing.assert_array_equal(run_alone(ours).reshape(-1), run_alone(theirs))


@pytest.mark.parametrize("name", APART)
def test_ties_whose_entries_would_move_stay_in_one_row(name: str) -> None:
    block = ties(APART[name])
    ((parts, averages),) = separated(block.parts, block.classes)
    assert isinstance(averages, Averages)
    assert (parts, averages.shape) == (block.parts, (block.size,))


def test_other_ties_are_separated_from_complete_weights() -> None:
    block = ties(
        lambda w: [w.a == w.b, w.b == w.c, w.x == w.y, w.y == w.z, w.d[0, 0] == w.d[1, 1], w.d[1, 1] == w.v[3]]
    )
    pieces = separated(block.parts, block.classes)
    assert [[part.parameter.name for part in parts] for parts, _ in pieces] == [
        ["a", "b", "c"],
        ["x", "y", "z"],
        ["d", "v"],
    ]
    assert [piece.shape for _, piece in pieces] == [(3, 4, 4), (3, 3), (3,)]
    assert sum(int(np.prod(piece.shape)) for _, piece in pieces) == block.size
