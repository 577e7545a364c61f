"""Frozen weights that cancel leave the size of what cancelled behind: rounding is relative to that."""

from __future__ import annotations

import numpy as np

import affinet
from affinet.system.layout import Layout
from affinet.system.rows import concatenate
from affinet.system.system import System

W = affinet.weights({"b": (2, 3), "a": (4,)})


def test_known_weights_leave_their_size_behind() -> None:
    system = System.of(W.a.sum() + W.b[0, 0] - W.b[0, 1] == 1)
    left = system.with_constants({"b": np.full((2, 3), 7.0)}, 1e-7)
    assert left.layout == Layout((W.a.terms[0].parameter,))
    rows = left.rows([0])
    assert rows.rhs.tolist() == [1.0]
    assert rows.magnitude.tolist() == [15.0]
    assert left.tolerance.frozen == 1e-7
    assert system.with_constants({"other": np.zeros(1)}, 1e-7).tolerance.frozen == 0.0


def test_sizes_follow_the_rows() -> None:
    system = System.of([W.b[0, 0] - W.b[0, 1] == W.a[0], W.a.diff() == [1, 2, 3]])
    rows = system.with_constants({"b": np.full((2, 3), 7.0)}, 1e-7).rows([0, 1])
    assert rows.magnitude.tolist() == [14.0, 1.0, 2.0, 3.0]
    assert rows.select(np.array([3, 0])).magnitude.tolist() == [3.0, 14.0]
    assert concatenate([rows.select(np.array([0])), rows.select(np.array([2]))]).magnitude.tolist() == [14.0, 2.0]
