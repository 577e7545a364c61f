"""Singular values where divide and conquer does not converge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from affinet.system import lapack
from tests.rounding import SPACING


def _did_not_converge(*_: Any, **__: Any) -> Any:
    raise np.linalg.LinAlgError("SVD did not converge")


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 3, 5), (2, 2, 5, 3)])
@pytest.mark.parametrize("full", [True, False])
def test_qr_iteration_finds_singular_values_where_divide_and_conquer_does_not(
    shape: tuple[int, ...], full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of OpenBLAS for Sandy Bridge, and a bordered symmetric matrix whose values are many equal and many tiny."""
    matrix = np.random.default_rng(0).standard_normal(shape)
    expected = lapack.svd(matrix, full_matrices=full)
    monkeypatch.setattr(np.linalg, "svd", _did_not_converge)
    found = lapack.svd(matrix, full_matrices=full)
    assert [part.shape for part in found] == [part.shape for part in expected]
    u, s, vt = found
    least = min(shape[-2:])
    again = (u[..., :least] * s[..., None, :]) @ vt[..., :least, :]
    # Backward error: a modest multiple of the spacing, the size and the norm (Golub & Van Loan, 4th ed., 8.6).
    bound = SPACING * max(shape[-2:]) ** 2 * s.max()
    assert np.abs(again - matrix).max() <= bound
    assert np.abs(lapack.singular_values(matrix) - s).max() <= bound
    assert np.abs(expected[1] - s).max() <= 2 * bound
