"""Matrices and right-hand sides from files: `matrix` and `rhs` of a job."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.io
import scipy.sparse

from affinet.cli.files.matrix_files import read_matrix, read_vector
from affinet.cli.files.polynomial_files import read_polynomials
from affinet.cli.files.rule_lines import read_sentences
from affinet.errors import DataError
from tests.errors.case import case


@case(DataError, "The path is wrong.", "Check it: it is relative to the job file.")
def a_matrix_that_does_not_exist(folder: Path) -> None:
    read_matrix(folder / "A.npy")


@case(DataError, "A file of another kind.", "Save it in one of those listed.")
def a_matrix_of_another_kind(folder: Path) -> None:
    read_matrix(folder / "A.xlsx")


@case(DataError, "`variable` for a file that holds one array.", "Leave it out.")
def a_variable_of_one_array(folder: Path) -> None:
    read_matrix(folder / "A.npy", "A")


@case(DataError, "More axes than a matrix has.", "Reshape it.")
def a_matrix_of_three_axes(folder: Path) -> None:
    np.save(folder / "A.npy", np.zeros((2, 2, 2)))
    read_matrix(folder / "A.npy")


@case(DataError, "A right-hand side of several rows and columns.", "Save one row or one column.")
def a_right_hand_side_of_two_axes(folder: Path) -> None:
    np.save(folder / "b.npy", np.zeros((2, 2)))
    read_vector(folder / "b.npy")


@case(DataError, "A table with names, or rows of different lengths.", "Write numbers only.")
def a_damaged_matrix(folder: Path) -> None:
    (folder / "A.csv").write_text("1,2\none,two\n")
    read_matrix(folder / "A.csv")


@case(DataError, "A pickled file, or one of another kind.", "Save it with `numpy.save`.")
def a_pickled_matrix(folder: Path) -> None:
    (folder / "A.npy").write_bytes(b"\x80\x04pickled")
    read_matrix(folder / "A.npy")


@case(DataError, "A pickled file, or one of another kind.", "Save it with `numpy.savez`.")
def a_pickled_archive(folder: Path) -> None:
    (folder / "A.npz").write_bytes(b"\x80\x04pickled")
    read_matrix(folder / "A.npz")


@case(DataError, "A MATLAB file of the newest format.", "Save it with '-v7'.")
def a_new_matlab_file(folder: Path) -> None:
    (folder / "A.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(512))
    read_matrix(folder / "A.mat")


@case(DataError, "A misspelt variable.", "Take one of those listed.")
def a_misspelt_variable(folder: Path) -> None:
    scipy.io.savemat(folder / "A.mat", {"A": np.eye(2), "b": np.ones(2)})
    read_matrix(folder / "A.mat", "a")


@case(DataError, "Several arrays in one file.", "Name one.")
def several_matrices(folder: Path) -> None:
    np.savez(folder / "A.npz", A=np.eye(2), b=np.ones(2))
    read_matrix(folder / "A.npz")


@case(DataError, "Complex numbers, text or objects.", "Save real numbers.")
def a_complex_matrix(folder: Path) -> None:
    np.save(folder / "A.npy", np.eye(2) * 1j)
    read_matrix(folder / "A.npy")


@case(DataError, "NaN or infinity in a matrix.", "Clean it first.")
def a_matrix_with_nan(folder: Path) -> None:
    np.save(folder / "A.npy", np.array([[1, np.nan]]))
    read_matrix(folder / "A.npy")


@case(DataError, "The path is that of a folder.", "Name a file.")
def a_folder_as_a_matrix(folder: Path) -> None:
    (folder / "A.npy").mkdir()
    read_matrix(folder / "A.npy")


def sparse(path: Path, *shape: int) -> Path:
    """Two numbers in a sparse matrix of this shape."""
    scipy.sparse.save_npz(path, scipy.sparse.coo_array(([1.0, 2.0], ([0, 0], [0, 1])), shape=shape))
    return path


@case(DataError, "A sparse right-hand side of next to no numbers.", "Write a dense one.")
def a_right_hand_side_that_stores_little(folder: Path) -> None:
    read_vector(sparse(folder / "b.npz", 1, 2**40))


@case(DataError, "A sparse matrix with very many rows, each an equation.", "Leave out those that hold nothing.")
def a_matrix_of_too_many_rows(folder: Path) -> None:
    read_matrix(sparse(folder / "A.npz", 2**40, 2))


@case(DataError, "A sparse matrix whose starts of rows fall.", "Save it anew.", fragment="rows or columns decrease")
def a_sparse_matrix_that_goes_back(folder: Path) -> None:
    parts = {"data": np.ones(2), "indices": np.array([0, 1]), "indptr": np.array([0, 2, 0]), "shape": np.array([2, 3])}
    np.savez(folder / "A.npz", format=np.array("csr"), **parts)
    read_matrix(folder / "A.npz")


def save_polynomials(folder: Path, *polynomials: dict[str, object]) -> Path:
    array = np.array([tuple(each.values()) for each in polynomials], dtype=[(name, object) for name in polynomials[0]])
    scipy.io.savemat(folder / "p.mat", {"p": array})
    return folder / "p.mat"


SQUARE = {"supports": np.array([[2]]), "coef": np.array([[1.0]]), "typeCone": -1}


@case(DataError, "No polynomial in the array.", "Write one struct per equation.")
def an_empty_array_of_polynomials(folder: Path) -> None:
    scipy.io.savemat(folder / "p.mat", {"p": np.empty((1, 0), dtype=[("supports", object), ("coef", object)])})
    read_polynomials(folder / "p.mat")


@case(DataError, "A struct that is not a polynomial.", "Name its fields supports and coef.")
def a_polynomial_without_coefficients(folder: Path) -> None:
    read_polynomials(save_polynomials(folder, {**SQUARE, "coef": "one"}))


@case(DataError, "A polynomial that is an inequality.", "Write inequalities as text.")
def a_polynomial_inequality(folder: Path) -> None:
    read_polynomials(save_polynomials(folder, {**SQUARE, "typeCone": 1}))


@case(DataError, "Another number of coefficients than monomials.", "Give a row of supports for each coefficient.")
def a_polynomial_with_a_coefficient_too_many(folder: Path) -> None:
    read_polynomials(save_polynomials(folder, {**SQUARE, "coef": np.ones((2, 1))}))


@case(DataError, "NaN or infinity in a polynomial.", "Write finite numbers.")
def a_polynomial_with_nan(folder: Path) -> None:
    read_polynomials(save_polynomials(folder, {**SQUARE, "coef": np.array([[np.nan]])}))


@case(DataError, "A few long monomials among very many short ones.", "Write them as rules of their own.")
def polynomials_that_fill_the_memory(folder: Path) -> None:
    short = {**SQUARE, "supports": np.ones((30_000, 1), np.uint8), "coef": np.ones((30_000, 1), np.uint8)}
    read_polynomials(save_polynomials(folder, short, {**SQUARE, "supports": np.ones((1, 25_000), np.uint8)}))


@case(DataError, "A cell of a polynomial that is not a number.", "Correct the line that is named.")
def a_polynomial_with_a_word(folder: Path) -> None:
    (folder / "p.csv").write_text("0,1,0,2\n0,one\n")
    read_polynomials(folder / "p.csv")


@case(DataError, "An entry without its power in a line of a polynomial.", "Write the power, or leave the entry out.")
def a_monomial_without_a_power(folder: Path) -> None:
    (folder / "p.csv").write_text("0,1,0,2\n0,1,3\n")
    read_polynomials(folder / "p.csv")


@case(DataError, "`sentences` names no file.", "Check the path: it is relative to the job file.")
def sentences_that_do_not_exist(folder: Path) -> None:
    read_sentences(folder / "rules.txt")


@case(DataError, "`sentences` names a folder.", "Name a text file with a rule on each line.")
def sentences_in_a_folder(folder: Path) -> None:
    read_sentences(folder)


@case(DataError, "A file of rules in another encoding.", "Save it as UTF-8.")
def sentences_that_are_not_text(folder: Path) -> None:
    (folder / "rules.txt").write_bytes(b"b == 1\xff")
    read_sentences(folder / "rules.txt")
