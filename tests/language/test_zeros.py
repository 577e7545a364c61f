"""Bands and blocks against SciPy and NumPy: which entries are zero, how many stay free."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg

import affinet
from affinet import families
from affinet.errors import ShapeError
from affinet.language.calculus.terms import held_bytes
from affinet.language.evaluation import evaluate
from tests.language.counting import dense, free


@pytest.mark.parametrize("shape", [(5, 5), (4, 7), (6, 3)])
@pytest.mark.parametrize(("lower", "upper"), [(0, 0), (1, 2), (2, 0), (-1, 2), (9, 9), (3, -2)])
def test_a_band(shape: tuple[int, int], lower: int, upper: int) -> None:
    w = affinet.weights({"w": shape})["w"]
    rule = families.banded(w, lower, upper)
    inside = np.subtract.outer(np.arange(shape[0]), np.arange(shape[1]))
    inside = (inside <= lower) & (inside >= -upper)
    assert ((dense(rule, w.size) != 0).any(0) == ~inside.ravel()).all()
    assert free(rule, w) == inside.sum()
    assert rule.text == f"banded(w, lower={lower}, upper={upper})"


def test_a_band_holds_no_number_an_entry() -> None:
    w = affinet.weights({"w": (3, 1000, 2000)})["w"]
    assert sum(held_bytes(term) for term in families.banded(w, 1, 1).expression.terms) < 100_000


@pytest.mark.parametrize(
    ("shape", "blocks", "sizes"),
    [
        ((6, 6), 3, [(2, 2)] * 3),
        ((4, 6), 2, [(2, 3)] * 2),
        ((6, 6), [2, 4], [(2, 2), (4, 4)]),
        ((5, 4), [(2, 3), (3, 1)], [(2, 3), (3, 1)]),
        ((3, 4), [(0, 1), (3, 3)], [(0, 1), (3, 3)]),
        ((3, 4), 1, [(3, 4)]),
    ],
)
def test_blocks(shape: tuple[int, int], blocks: Any, sizes: list[tuple[int, int]]) -> None:
    w = affinet.weights({"w": (2, *shape)})["w"]
    rule = families.block_diagonal(w, blocks)
    inside = scipy.linalg.block_diag(*(np.ones(size) for size in sizes))
    assert rule.rows == 2 * (inside == 0).sum()
    values = {"w": np.random.default_rng(0).standard_normal((2, *shape)) * inside}
    assert np.abs(evaluate(rule.expression, values)).max(initial=0) == 0
    assert free(rule, w) == 2 * inside.sum()


def test_how_blocks_are_said() -> None:
    w = affinet.weights({"w": (6, 6)})["w"]
    assert families.block_diagonal(w, 3).text == "block_diagonal(w, blocks=3)"
    assert families.block_diagonal(w, [2, (4, 4)]).text == "block_diagonal(w, blocks=[2, 4])"
    assert families.block_diagonal(w, [1, 1, 1, 1, 1, 1, 0]).text == "block_diagonal(w, blocks=7 blocks)"
    assert len(families.block_diagonal(affinet.weights({"w": (4096, 4096)})["w"], 32).expression.terms) <= 64


def test_what_is_no_band_and_what_are_no_blocks() -> None:
    w, b = affinet.weights({"w": (6, 4)})["w"], affinet.weights({"b": (6,)})["b"]
    for family in (lambda x: families.banded(x, 1, 1), lambda x: families.block_diagonal(x, 2)):
        with pytest.raises(ShapeError, match=r"is about matrices: \(b\) has shape \(6,\), and needs two axes"):
            family(b)
    with pytest.raises(ShapeError, match="with lower=1 and upper=-2 has no diagonal: lower"):
        families.banded(w, 1, -2)
    with pytest.raises(ShapeError, match=r"the numbers of diagonals; got upper=1\.5"):
        families.banded(w, 1, 1.5)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="are 6 × 4 and cannot be divided into 3 equal blocks"):
        families.block_diagonal(w, 3)
    with pytest.raises(ShapeError, match=r"the blocks \[2, 3\] add up to 5 × 5, and the matrices of \(w\) are 6 × 4"):
        families.block_diagonal(w, [2, 3])
    for wrong in ([], "ab", [1.5], [(1, 2, 3)], [-1, 7], [True]):
        with pytest.raises(ShapeError, match="blocks must be the number of blocks, or a list of their sizes"):
            families.block_diagonal(w, wrong)
