"""Sparse equations over entries that are tied with a difference: the nearest point, whichever way they are solved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

import affinet
from affinet import families
from affinet.blocks.sparse import Sparse
from affinet.kernels.torch.sparse_kernel import on_device
from affinet.system.system import System
from tests.kernels.test_sparse_kernel import planned, solver, system, weights
from tests.limits import planned as limited
from tests.oracle import oracle


@pytest.mark.parametrize("largest", [0, 2**25], ids=["conjugate gradients", "factor"])
def test_differences_between_tied_entries_are_kept(largest: int) -> None:
    w = affinet.weights({"a": (9, 5), "b": (45,)})
    rules = [families.linear([w.a, w.b], *system()), w.b[1:20:2] - w.b[0:20:2] == 2, w.a[0] + w.a[1] == 0.5]
    plan = limited(rules, dense_rows=10, largest_fill=largest)
    assert any(isinstance(block, Sparse) and np.any(block.classes.shift) for block in plan.blocks)
    given = {"a": torch.randn(9, 5, dtype=torch.float64), "b": torch.randn(45, dtype=torch.float64)}
    found = plan.projector(given).project(given)
    wanted = oracle(System.of(rules)).project({name: x.numpy() for name, x in given.items()})
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name].numpy(), values, rtol=0, atol=1e-9)


def test_what_conjugate_gradients_divide_by_is_the_diagonal_of_their_matrix() -> None:
    plan, given = planned(largest_fill=0), weights()
    kernel = solver(plan, given)
    assert kernel._equations is not None
    rows = kernel._matrix.to_dense()
    ease = torch.rand(rows.shape[1], dtype=torch.float64) + 0.1
    wanted = (rows * ease @ rows.T).diagonal()
    np.testing.assert_allclose((kernel._equations._squares @ ease).numpy(), wanted.numpy(), rtol=1e-13)


def test_places_are_of_the_width_that_mkl_reads_without_a_copy() -> None:
    found = on_device(sparse.csr_array(np.eye(3)), torch.float64, torch.device("cpu"))
    assert (found.crow_indices().dtype, found.col_indices().dtype) == (torch.int32, torch.int32)
    assert torch.equal(found.to_dense(), torch.eye(3, dtype=torch.float64))
