"""Boxes read and write exactly their entries, through flips, tables and any memory order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from affinet.blocks.offsets import Nest, Offsets, Table
from affinet.blocks.places import Part
from affinet.kernels.torch.access import Box, Gathered, cells_box
from affinet.language.calculus.terms import Parameter

CPU = torch.device("cpu")
DIMS = st.sampled_from([((3, 20), (2, -6)), ((5, -1),), ((2, 30), (3, -7), (2, 1)), ((4, 9),), ()])
SETS = st.sampled_from(
    [Nest(()), Nest(((3, 1),)), Nest(((2, 12), (2, 4))), Table(np.array([0, 1, 3])), Table(np.array([6, 0, 2]))]
)
OUTERS = st.sampled_from([Nest(((2, 30),)), Nest(()), Table(np.array([0, 30, 40])), Nest(((3, 4),))])


def positions(offset: int, dims: tuple[tuple[int, int], ...]) -> np.ndarray:
    return (offset + Nest(dims).table()).reshape([size for size, _ in dims])


@given(DIMS, st.sampled_from([torch.float64, torch.float32, torch.bfloat16]), st.booleans())
def test_a_box_reads_its_entries_and_writes_no_others(
    dims: tuple[tuple[int, int], ...], dtype: torch.dtype, turned: bool
) -> None:
    tensor = torch.arange(96.0).to(dtype).view(8, 12)
    if turned:
        tensor = tensor.T.contiguous().T
    box = Box("p", 30, dims)
    where = positions(30, dims)
    values = box.read(tensor)
    assert values.tolist() == where.astype(float).tolist()
    box.write(tensor, values * -1)
    wanted = torch.arange(96.0)
    wanted[where.ravel()] *= -1
    assert torch.equal(tensor.float(), wanted.view(8, 12))


@given(OUTERS, SETS)
def test_cells_are_read_cell_by_cell(outer: Offsets, inner: Offsets) -> None:
    sums = (outer.table()[:, None] + inner.table()).ravel()
    found = cells_box("p", 2, outer, inner, CPU)
    if found is None or len(np.unique(sums)) < len(sums):
        return
    box, cells = found
    tensor = torch.arange(96.0)
    values = box.read(tensor)
    assert values.reshape(outer.size, -1).tolist() == (2 + sums).reshape(outer.size, -1).astype(float).tolist()
    assert int(np.prod(values.shape[:cells])) == outer.size
    box.write(tensor, torch.zeros_like(values))
    assert np.flatnonzero(tensor.numpy() == 0).tolist() == sorted({0, *(2 + sums).tolist()})


def test_two_tables_are_gathered_instead() -> None:
    assert cells_box("p", 0, Table(np.array([0, 30, 40])), Table(np.array([0, 1, 3])), CPU) is None


@pytest.mark.parametrize("turned", [False, True])
def test_gathered_entries_go_back_where_they_came_from(turned: bool) -> None:
    parts = (Part(Parameter("a", (3, 4)), np.array([7, 0, 5])), Part(Parameter("b", (4,)), np.array([2])))
    tensors = {"a": torch.arange(12.0).view(3, 4), "b": torch.arange(4.0)}
    if turned:
        tensors["a"] = tensors["a"].T.contiguous().T
    access = Gathered(parts, CPU, np.array([3, 1, 0, 2]))
    values = access.read(tensors)
    assert values.tolist() == [2, 0, 7, 5]
    assert access.read({"a": None, "b": tensors["b"]}).tolist() == [2, 0, 0, 0]
    access.write(tensors, values + 100)
    assert tensors["a"].flatten().tolist() == [100, 1, 2, 3, 4, 105, 6, 107, 8, 9, 10, 11]
    assert tensors["b"].tolist() == [0, 1, 102, 3]
    access.write({"a": None, "b": tensors["b"]}, values)
    assert tensors["b"].tolist() == [0, 1, 2, 3]
