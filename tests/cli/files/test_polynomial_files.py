"""Systems of polynomials from files: tables of monomials, and MATLAB's structs and cells of structs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse

import affinet
from affinet.cli.files.polynomial_files import read_polynomials
from affinet.errors import DataError

CIRCLE = {"typeCone": -1, "dimVar": 3, "supports": [[2, 0, 0], [0, 2, 0], [0, 0, 0]], "coef": [[1.0], [1.0], [-5.0]]}
PRODUCT = {"typeCone": -1, "dimVar": 3, "supports": [[1, 1, 0], [0, 0, 3]], "coef": [[1.0], [-2.0]]}
"""x² + y² == 5 and x y == 2 z³, in SparsePOP's fields."""


def struct_array(*polynomials: dict[str, Any]) -> np.ndarray[Any, Any]:
    array = np.empty((1, len(polynomials)), dtype=[(name, object) for name in polynomials[0]])
    for place, polynomial in enumerate(polynomials):
        array[0, place] = tuple(np.array(value) for value in polynomial.values())
    return array


def cells(*polynomials: dict[str, Any]) -> np.ndarray[Any, Any]:
    array = np.empty((1, len(polynomials)), dtype=object)
    array[0, :] = polynomials
    return array


@pytest.mark.parametrize("form", [struct_array, cells])
@pytest.mark.parametrize("compressed", [False, True])
def test_structs_of_matlab_become_the_polynomials_that_they_say(
    tmp_path: Path, form: Callable[..., Any], compressed: bool
) -> None:
    path = tmp_path / "system.mat"
    scipy.io.savemat(path, {"system": form(CIRCLE, PRODUCT), "other": np.eye(2)}, do_compression=compressed)
    table = read_polynomials(path, "system")
    w = affinet.weights({"p": (3,)})
    plan = affinet.plan(affinet.families.polynomial([w.p], table))
    assert (plan.rows, plan.rank) == (2, 2)
    projector = plan.projector({"p": np.array([1.1, 1.9, 1.05])})
    x, y, z = projector.project({"p": np.array([1.1, 1.9, 1.05])})["p"]
    # The smallest unit of float64 at 5 is 9e-16; returns stop at 8 u of the terms and of the derivatives times weights.
    assert x * x + y * y == pytest.approx(5.0, abs=1e-13)
    assert x * y == pytest.approx(2.0 * z**3, abs=1e-13)


def test_lines_of_a_csv_file_may_differ_in_length(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("0, 1, 0, 2  # x squared\n\n0, -1\n1, 2, 0, 1, 1, 3\n1, -0.5\n")
    expected = [[0, 1, 0, 2, 0, 0], [0, -1, 0, 0, 0, 0], [1, 2, 0, 1, 1, 3], [1, -0.5, 0, 0, 0, 0]]
    np.testing.assert_array_equal(read_polynomials(path), expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,1,0,2\n0,1,3\n", "line 2: it has 3 numbers. A monomial has an even number"),
        ("0,1,0,2\n0,x\n", "line 2: 'x' is not a number"),
        ("0,1,0,2\n0,nan\n", "holds 1 NaN or infinite of 2 numbers"),
        ("0,1,,2\n", "line 1: '' is not a number"),
    ],
)
def test_malformed_lines_of_polynomials_are_told(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_polynomials(path)
    assert message in str(caught.value)


def test_one_struct_and_sparse_supports_are_read(tmp_path: Path) -> None:
    path = tmp_path / "one.mat"
    scipy.io.savemat(path, {"p": {"supports": scipy.sparse.csc_array(np.diag([2.0, 3.0])), "coef": [1.0, -4.0]}})
    np.testing.assert_array_equal(read_polynomials(path), [[0, 1, 0, 2], [0, -4, 1, 3]])


def test_tables_are_read_from_all_formats_of_matrices(tmp_path: Path) -> None:
    table = np.array([[0, 1.0, 0, 2], [0, -1.0, 0, 0]])
    np.save(tmp_path / "t.npy", table)
    np.savetxt(tmp_path / "t.csv", table, delimiter=",")
    scipy.io.savemat(tmp_path / "t.mat", {"t": table})
    scipy.io.mmwrite(tmp_path / "t.mtx", scipy.sparse.coo_array(table))
    for name in ("t.npy", "t.csv", "t.mat", "t.mtx"):
        np.testing.assert_array_equal(read_polynomials(tmp_path / name), table)


@pytest.mark.parametrize(
    ("polynomials", "message"),
    [
        ((CIRCLE, {**PRODUCT, "typeCone": 1}), "polynomial 2 has typeCone = .*1.*, an inequality"),
        ((CIRCLE, {**PRODUCT, "coef": [1.0]}), r"supports of shape \(2, 3\) and 1 numbers in coef"),
        ((CIRCLE, {**PRODUCT, "coef": [1.0, np.nan]}), "polynomial 2 has NaN or infinite numbers"),
        ((CIRCLE, {**PRODUCT, "supports": "x*y"}), "polynomial 2 has no numbers in supports"),
    ],
)
def test_fields_that_do_not_fit_are_named(
    tmp_path: Path, polynomials: tuple[dict[str, Any], ...], message: str
) -> None:
    path = tmp_path / "system.mat"
    scipy.io.savemat(path, {"system": struct_array(*polynomials)})
    with pytest.raises(DataError, match=message):
        read_polynomials(path)


def test_an_empty_array_of_structs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "system.mat"
    scipy.io.savemat(path, {"system": struct_array(CIRCLE)[:, :0]})
    with pytest.raises(DataError, match="an empty array of polynomials"):
        read_polynomials(path)


def test_a_few_long_monomials_among_many_short_ones_do_not_fill_the_memory(tmp_path: Path) -> None:
    """A table has a row for each monomial, as wide as the longest: two structs of 1 MB would become 12 GB."""
    path = tmp_path / "system.mat"
    short = {"supports": np.ones((30_000, 1), np.uint8), "coef": np.ones((30_000, 1), np.uint8)}
    long = {"supports": np.ones((1, 25_000), np.uint8), "coef": np.ones((1, 1), np.uint8)}
    scipy.io.savemat(path, {"system": struct_array(short, long)})
    with pytest.raises(DataError, match="polynomials whose table has 1,500,110,002 numbers"):
        read_polynomials(path)
