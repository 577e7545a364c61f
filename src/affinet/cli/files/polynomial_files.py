"""Read systems of polynomials from files: tables with a row per monomial, and MATLAB's arrays of structs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from affinet.cli.files.matrix_files import (
    check_readable,
    choose_variable,
    read_lines_of_numbers,
    read_matrix,
    refusing_malformed,
)
from affinet.cli.words import counted, listed
from affinet.errors import DataError
from affinet.language.calculus.terms import Floats
from affinet.system.matlab import read_structs
from affinet.system.unfolding import refusal_of_size

EQUATION = -1
"""The type of an equation in SparsePOP's format; 1 is an inequality."""


def read_polynomials(path: Path, variable: str | None = None) -> Any:
    """The table of `families.polynomial` in `path`: a matrix, or in `.mat` files an array of structs or of cells.

    Lines of a `.csv` file may be of different lengths: short monomials are filled up with zeros.

    Each struct is a polynomial with `supports`, the power of each entry (monomials, entries), and `coef`, a number for
    each monomial. Source of the format: SparsePOP (Waki, Kim, Kojima, Muramatsu, Sugimoto, ACM TOMS 35, 2008).
    Raises DataError as `read_matrix` does, and where the fields do not fit.
    """
    if path.suffix.lower() == ".csv" and variable is None:
        return _table_of_lines(path)
    if path.suffix.lower() == ".mat":
        check_readable(path)
        with refusing_malformed(path):
            structs = read_structs(path, partial(choose_variable, path, variable))
        if structs is not None:
            return _table(path, structs)
    matrix = read_matrix(path, variable)
    return matrix.toarray() if scipy.sparse.issparse(matrix) else matrix


def _table(path: Path, structs: Sequence[Mapping[str, Any]]) -> Floats:
    """A row per monomial: equation, coefficient, and pairs of an entry and its power, filled up with zeros."""
    if not structs:
        raise DataError(f"{path} holds an empty array of polynomials; write one struct per equation.")
    rows: list[list[float]] = []
    for number, fields in enumerate(structs):
        powers, coefficients = _monomials(path, number, fields)
        for exponents, coefficient in zip(powers, coefficients, strict=True):
            factors = np.flatnonzero(exponents)
            rows.append([number, coefficient, *np.column_stack([factors, exponents[factors]]).ravel()])
    return _filled(path, rows)


def _table_of_lines(path: Path) -> Floats:
    """A row per line, with a pair of numbers for each factor."""
    rows = read_lines_of_numbers(path)
    for number, values in rows:
        if len(values) % 2:
            raise DataError(
                f"{path}, line {number:,}: it has {counted(len(values), 'number')}. A monomial has an even number of "
                f"them: its equation, its coefficient, and pairs of an entry and its power."
            )
    return _filled(path, [values for _, values in rows])


def _filled(path: Path, rows: Sequence[Sequence[float] | Floats]) -> Floats:
    """Rows of different lengths as a table, filled up with zeros. Raises DataError where it takes too much memory."""
    width = max(map(len, rows), default=2)
    if reason := refusal_of_size(path.stat().st_size, width * len(rows), 8):
        raise DataError(
            f"{path} holds polynomials whose table has {reason}. Write the longest monomials as a rule of their own."
        )
    table = np.zeros((len(rows), width))
    for row, numbers in zip(table, rows, strict=True):
        row[: len(numbers)] = numbers
    return table


def _monomials(path: Path, number: int, fields: Mapping[str, Any]) -> tuple[Floats, Floats]:
    """Powers (monomials, entries) and coefficients (monomials) of one polynomial."""
    where = f"{path}, polynomial {number + 1:,}"
    if missing := [name for name in ("supports", "coef") if name not in fields]:
        raise DataError(
            f"{where} has no numbers in {listed(missing)}; it has: {listed(list(fields)) or 'none'}. A polynomial has "
            f"supports, the power of each entry in each monomial, and coef, the coefficient of each monomial."
        )
    if "typeCone" in fields and not np.all(np.asarray(fields["typeCone"]) == EQUATION):
        raise DataError(f"{where} has typeCone = {fields['typeCone']!s:.20}, an inequality; equations have -1.")
    powers, coefficients = (_dense(fields[name]) for name in ("supports", "coef"))
    if powers.ndim != 2 or coefficients.size != len(powers):
        raise DataError(
            f"{where} has supports of shape {powers.shape} and {coefficients.size:,} numbers in coef; there must be a "
            f"row of supports for each coefficient."
        )
    if not (np.isfinite(powers).all() and np.isfinite(coefficients).all()):
        raise DataError(f"{where} has NaN or infinite numbers; all must be finite.")
    return powers, coefficients.ravel()


def _dense(values: Any) -> Floats:
    return np.asarray(values.toarray() if scipy.sparse.issparse(values) else values, np.float64)
