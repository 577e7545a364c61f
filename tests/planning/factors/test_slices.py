"""Slices know which places are pinned and which are copies, and say so exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from affinet.blocks.offsets import Nest
from affinet.blocks.regular import RowBatch
from affinet.language.calculus.terms import Parameter
from affinet.planning.contradiction import Contradiction
from affinet.planning.factors.slice_factors import factor_slices
from affinet.system.tolerance import Tolerance
from tests.kernels.bounds import of_cell


def batch(matrix: list[list[float]], rhs: list[list[float]], cells: int = 3) -> RowBatch:
    array = np.array(matrix)
    n = array.shape[1]
    owner = np.arange(len(array))[None]
    outer, inner = Nest(((cells, n),)), Nest(((n, 1),))
    return RowBatch(Parameter("a", (cells, n)), 0, outer, inner, array, np.array(rhs), owner)


def test_pinned_places_carry_the_value_of_their_cell() -> None:
    slices = factor_slices(batch([[0, 4, 0, 0], [1, 1, 1, 1]], [[4, 1], [8, 1], [2, 1]]), Tolerance())
    assert slices.pinned.tolist() == [1]
    assert slices.values.tolist() == [[1], [2], [0.5]]
    assert (slices.rank, slices.size, slices.rules) == (6, 12, (0, 1))


def test_values_are_the_quotient_to_the_bit() -> None:
    third = factor_slices(batch([[3.0, 0], [0, 7.0]], [[0.1, 0.3]]), Tolerance())
    assert third.values.tolist() == [[0.1 / 3.0, 0.3 / 7.0]]


def test_chains_of_copies_lead_to_one_representative() -> None:
    slices = factor_slices(batch([[1, -1, 0, 0, 0], [0, 2, 2, 0, 0], [0, 0, 1, -1, 0]], [[0, 0, 0]]), Tolerance())
    assert sorted(slices.copies.tolist()) == [[1, 0, 1], [2, 0, -1], [3, 0, -1]]


@pytest.mark.parametrize(
    ("matrix", "rhs"),
    [([[1, -2, 0]], [[0]]), ([[1, -1, 0]], [[1]]), ([[1, 1, 1]], [[0]])],
    ids=["a ratio", "a shift", "three places"],
)
def test_what_is_no_copy(matrix: list[list[float]], rhs: list[list[float]]) -> None:
    slices = factor_slices(batch(matrix, rhs), Tolerance())
    assert len(slices.copies) == len(slices.pinned) == 0


def test_what_equals_a_pinned_place_is_pinned_too_and_no_copy() -> None:
    slices = factor_slices(batch([[1, -1, 0], [0, 1, 0], [1, 1, 1]], [[0, 2, 9]]), Tolerance())
    assert slices.pinned.tolist() == [0, 1, 2]
    # Each equation to `of_cell` spacings of its size, and the condition number of the three is below 5.
    np.testing.assert_allclose(slices.values, [[2, 2, 5]], rtol=5 * of_cell(3, 3) * 2.0**-52)
    assert not len(slices.copies)


def test_one_row_of_equal_coefficients_is_one_number() -> None:
    slices = factor_slices(batch([[-2.0, -2.0, -2.0, -2.0]], [[4.0]]), Tolerance())
    np.testing.assert_allclose(np.abs(slices.basis), 0.5)
    x = np.full(4, -0.5)
    np.testing.assert_allclose(slices.basis @ x, slices.target[0])


def test_cells_that_cannot_hold_name_their_rules() -> None:
    with pytest.raises(Contradiction) as found:
        factor_slices(batch([[1, 1, 1], [2, 2, 2]], [[1, 2], [1, 3], [1, 2]]), Tolerance())
    assert found.value.rules == (0, 1)


def test_pins_and_copies_are_exact_in_single_precision() -> None:
    from affinet.kernels.torch.slices_kernels import SlicesKernel

    matrix = [[1, -1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 3, 0], [1, 2, 3, 4, 5]]
    weights = {"a": torch.randn(3, 5)}
    kernel = SlicesKernel(factor_slices(batch(matrix, [[0, 0, 0.7, 1]]), Tolerance()), weights["a"])
    kernel.write(weights, kernel.land(kernel.read(weights), None)[0])
    a = weights["a"]
    assert torch.equal(a[:, 0], a[:, 1])
    assert torch.equal(a[:, 1], -a[:, 2])
    assert (a[:, 3] == torch.tensor(0.7 / 3)).all()
    np.testing.assert_allclose(a.double().numpy() @ np.array(matrix[3]), 1.0, rtol=1e-5)


def test_a_pair_that_is_no_copy_hides_none_behind_it() -> None:
    slices = factor_slices(batch([[1, -2, 0, 0, 0], [0, 0, 1, -1, 0]], [[0, 0]]), Tolerance())
    assert slices.copies.tolist() == [[3, 2, 1]]
