"""How far rounding may turn what a base leaves of a vector: measured by equations that are off by a known share."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet import families
from affinet.blocks.bases import AnyBase
from affinet.blocks.commuting import Commuting
from affinet.blocks.dense import Dense
from affinet.blocks.mirror import Mirror
from affinet.blocks.slices import Slices
from affinet.language.calculus.terms import Floats
from affinet.planning.factors.panels import single_cell
from affinet.system.system import System
from affinet.system.tolerance import Tolerance
from tests.limits import blocks_within

N, SHARE = 24, 1e-9
W = affinet.weights({"s": (N, N)})
DICE = np.random.default_rng(0)


def equations(apart: float) -> Floats:
    """Three equations that are the same but for a share `apart`."""
    return np.ones((3, N)) + apart * np.random.default_rng(1).standard_normal((3, N))


def nudged(matrix: Floats) -> Floats:
    return matrix * (1.0 + SHARE * DICE.standard_normal(matrix.shape))


def base_of(kind: type[AnyBase], matrix: Floats) -> AnyBase:
    rules = {
        Slices: [matrix @ W.s == 0],
        Dense: [matrix @ W.s[:, 0] == 0],
        Commuting: [matrix @ W.s == 0, W.s @ matrix.T == 0],
        Mirror: [families.symmetric(W.s), matrix @ W.s == 0],
    }[kind]
    (base,) = blocks_within(System.of(rules), one_by_one=0, large_basis=0)
    base = single_cell(base, 0) if kind is Dense and isinstance(base, Slices) else base
    assert isinstance(base, Commuting) and base.mirror is not None if kind is Mirror else isinstance(base, kind)
    return base


@pytest.mark.parametrize("apart", [1e-2, 1e-4])
@pytest.mark.parametrize("kind", [Slices, Dense, Commuting, Mirror])
def test_equations_that_are_off_by_so_much_move_no_further(kind: type[AnyBase], apart: float) -> None:
    matrix = equations(apart)
    base = base_of(kind, matrix)
    vectors = DICE.standard_normal((5, base.size))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    moved = [base_of(kind, nudged(matrix)).projected(vectors, affine=False) for _ in range(5)]
    off = np.max([np.linalg.norm(one - base.projected(vectors, affine=False), axis=1) for one in moved], axis=0)
    told = base.unsure(vectors, Tolerance(epsilon=SHARE))
    assert (off <= told).all()
    assert (told <= 1e3 * off).all()


def test_a_mirror_and_equations_that_are_far_apart_leave_nothing_open() -> None:
    (mirror,) = blocks_within(System.of(families.symmetric(W.s)), one_by_one=0)
    assert isinstance(mirror, Mirror)
    vectors = DICE.standard_normal((2, N * N))
    assert mirror.unsure(vectors, Tolerance()).tolist() == [0.0, 0.0]
    assert base_of(Slices, equations(10.0)).unsure(vectors, Tolerance()).tolist() == [0.0, 0.0]
