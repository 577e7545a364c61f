"""Frozen weights that cancel leave the size of what cancelled behind: rounding is relative to that."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn, optim

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


def test_products_of_known_weights_leave_the_sizes_of_their_terms() -> None:
    system = System.of([W.b @ W.b.T == np.eye(2), (W.b * [1.0, -1.0, 2.0]).sum() * W.a[0] == W.a[1]])
    numbers = np.array([[3.0, -4.0, 0.0], [4.0, 3.0, 0.5]])
    known = system.with_constants({"b": numbers}, 1e-7)
    assert not known.curved
    rows = known.rows([0, 1])
    assert rows.rhs.tolist() == [-24.0, 0.0, 0.0, -24.25, 0.0]
    # A product of n known numbers counts n times, once for the rounding of each; the number on the right counts once.
    assert rows.magnitude.tolist() == [51.0, 48.0, 48.0, 51.5, 0.0]


def test_frozen_weights_that_satisfy_nonlinear_rules_to_their_rounding_are_consistent() -> None:
    for seed in range(10):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 2, bias=False))
        with torch.no_grad():
            model[0].weight.copy_(torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0])
        model[0].weight.requires_grad_(False)
        first, second = affinet.weights(model)
        rules = [
            affinet.families.orthogonal(first),
            first.inverse() == first.T,
            first.det() ** 2 == 1,
            (second @ first).sum(dim=1) == 1,
        ]
        with pytest.warns(affinet.NothingTrainedWarning, match="3 rules"):
            affinet.project(model, optim.Adam(model.parameters()), rules).remove()
        with torch.no_grad():
            model[0].weight[0, 0] += 1e-3
        with pytest.raises(affinet.InfeasibleError):
            affinet.project(model, optim.Adam(model.parameters()), rules)
