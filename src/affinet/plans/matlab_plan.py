"""Write the rules of a plan to a MATLAB file as matrices and bounds, and read rules from such a file.

A w = b,  G w <= h,  lb <= w <= ub        A, G sparse; b, h, lb, ub columns
weights(k).name, .shape, .first, .last    weight k is w(first:last), counted from 1
rules(k).name, .A, .G                     the numbers of the rows of A and of G that rule k is made of
column_order                              how the entries of a weight follow each other: row-major or column-major
"""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from scipy import sparse

from affinet._version import __version__
from affinet.analysis.standard_form import StandardForm, other_rules, standard_form
from affinet.errors import AffinetError, DataError, PlanFileError
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.language.constraint import Constraint
from affinet.language.expression import weight
from affinet.language.families.bounds import between
from affinet.language.families.linear import linear
from affinet.language.sense import Sense
from affinet.system.files import plan_path, replace_file, unreadable
from affinet.system.malformed import LARGEST
from affinet.system.matlab import Variable, open_mat
from affinet.system.rows import Rows
from affinet.system.sparse_checks import with_checked_indices
from affinet.system.system import Rule, System

ColumnOrder: TypeAlias = Literal["row-major", "column-major"]
"""How the entries of a weight follow each other in w: as NumPy flattens an array, or as MATLAB's `W(:)` does."""
ORDERS: tuple[ColumnOrder, ...] = get_args(ColumnOrder)

SIDES: tuple[tuple[str, str, Sense], ...] = (("A", "b", "=="), ("G", "h", "<="))
"""Matrices, their right-hand sides, and how the two compare."""

MOST_BYTES = 2**31 - 2**20
"""Most bytes of one variable of a file of version 5, whose lengths have 31 bits; some for its head."""
_WRITTEN = "affinet "
_CORRECT = "Correct the matrices in the file."
_WAY_OUT = "Write it with plan.to_mat(path), or in MATLAB as docs/scipy.md shows."


def write_mat(system: System, path: str | os.PathLike[str], order: ColumnOrder) -> None:
    """Write linear rules to `path`; an existing file is replaced in one step.

    Raises PlanFileError for rules that are not linear, for matrices that such a file cannot hold, and for errors of the
    disk.
    """
    from scipy.io import savemat  # takes some time to import, and most plans are not written to such a file

    path = plan_path(path)
    _check_writable(system, path, order)
    form = standard_form(system)
    parameters, places = system.layout.parameters, _places(system.layout.parameters, order)
    content: dict[str, Any] = {"written_by": f"{_WRITTEN}{__version__}", "column_order": order}
    for names, rows in ((("A", "b"), form.equations), (("G", "h"), form.inequalities)):
        content |= zip(names, (sparse.csc_array(rows.matrix(form.width)[:, places]), _column(rows.rhs)), strict=True)
        _check_size(path, names[0], rows, form.width)
    content |= {"lb": _column(form.lower[places]), "ub": _column(form.upper[places])}
    content["weights"] = _structs([_weight_fields(p, s) for p, s in zip(parameters, system.layout.starts, strict=True)])
    content["rules"] = _structs([_rule_fields(rule, k, form) for k, rule in enumerate(system.rules)])
    try:
        replace_file(path, lambda unfinished: savemat(unfinished, content, appendmat=False))
    except OSError as error:
        raise PlanFileError(path, f"cannot be written: {error.strerror or error}", "Name another place.") from error


def read_mat(path: str | os.PathLike[str]) -> list[Constraint]:
    """The rules in a file of `write_mat`, or in a file of these variables that MATLAB wrote.

    A rule has the name that the file gives it; bounds are rules of their own. Nothing in the file is run, and sizes are
    compared with the file before memory is taken. Raises PlanFileError.
    """
    path = plan_path(path)
    if reason := unreadable(path):
        raise PlanFileError(path, reason, "Name a file of plan.to_mat.")
    try:
        with open_mat(path) as variables:
            return list(_rules(path, variables))
    except PlanFileError:
        raise
    except DataError as error:  # of version 7.3, with its way out
        raise PlanFileError(path, "is not a MATLAB file of version 5 to 7", str(error)) from None
    except AffinetError as error:
        raise PlanFileError(path, f"holds rules that cannot be read: {str(error).rstrip('.')}", _CORRECT) from error
    except (ValueError, IndexError, zlib.error, struct.error, OSError) as error:
        raise PlanFileError(path, f"is not a readable MATLAB file: {error}", _WAY_OUT) from None


def _check_writable(system: System, path: Path, order: str) -> None:
    if order not in ORDERS:
        reason = f"was not written: column_order is {order!r:.60}"
        raise PlanFileError(path, reason, 'Write "row-major", as NumPy does, or "column-major", as MATLAB does.')
    if nonlinear := other_rules(system):
        reason = f'was not written: rule "{nonlinear[0].name}" is not linear, and A w = b, G w <= h cannot say it'
        raise PlanFileError(path, reason, "Keep the plan with plan.save(path), or leave the rule out.")


def _check_size(path: Path, name: str, rows: Rows, width: int) -> None:
    needed = 8 * max(len(rows.values), width)
    if needed > MOST_BYTES:
        reason = f"was not written: {name} takes {needed:,} bytes, and a MATLAB file holds {MOST_BYTES:,} of one matrix"
        raise PlanFileError(path, reason, "Write a plan of fewer rules, or keep it with plan.save(path).")


def _places(parameters: Sequence[Parameter], order: ColumnOrder) -> Integers:
    """For each column of a file, the column of the entry where each weight is flattened row-major."""
    starts = np.cumsum([0, *(p.size for p in parameters)])
    numbers = [start + np.arange(p.size).reshape(p.shape) for start, p in zip(starts, parameters, strict=False)]
    parts = [each.T.ravel() if order == "column-major" else each.ravel() for each in numbers]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _column(values: Floats) -> Floats:
    return values.reshape(-1, 1) + 0.0


def _structs(elements: Sequence[Mapping[str, Any]]) -> np.ndarray[Any, Any]:
    """An array of structs, a column; without elements it has no fields."""
    names = list(elements[0]) if elements else ["name"]
    structs = np.empty((len(elements), 1), [(name, object) for name in names])
    for k, fields in enumerate(elements):
        structs[k, 0] = tuple(fields.values())
    return structs


def _weight_fields(parameter: Parameter, start: int) -> dict[str, Any]:
    shape = np.array(parameter.shape, np.float64).reshape(1, -1)
    return {
        "name": _escaped(parameter.name),
        "shape": shape,
        "first": start + 1.0,
        "last": float(start + parameter.size),
    }


def _rule_fields(rule: Rule, number: int, form: StandardForm) -> dict[str, Any]:
    """The rows of a rule, which follow each other in A or in G, counted from 1."""
    fields: dict[str, Any] = {"name": _escaped(rule.name), "sense": rule.sense}
    for name, rows in (("A", form.equations), ("G", form.inequalities)):
        first, last = np.searchsorted(rows.rule, [number, number + 1])
        fields[name] = np.arange(first + 1.0, last + 1.0).reshape(1, -1)
    return fields


def _escaped(name: str) -> str:
    """The name in ASCII, which is all that SciPy writes; a backslash is doubled."""
    return name.encode("unicode_escape").decode("ascii")


def _rules(path: Path, variables: Mapping[str, Variable]) -> Iterator[Constraint]:
    """The rules of a file. Raises PlanFileError and ValueError."""
    parameters, order = _parameters(path, variables), _order(path, variables)
    width = sum(p.size for p in parameters)
    if not {"A", "G", "lb", "ub"} & variables.keys():
        raise PlanFileError(path, f"holds no rules: it has {_listed(variables)}", "Save A and b, G and h, lb or ub.")
    columns = np.argsort(_places(parameters, order))
    named = _named_rules(variables)
    for matrix_name, side_name, sense in SIDES:
        if matrix_name in variables:
            matrix = _matrix(path, matrix_name, variables, width)[:, columns]
            sides = _vector(path, side_name, variables, matrix.shape[0], infinite=sense != "==")
            for rule in _grouped(path, matrix_name, matrix.shape[0], named):
                yield rule.made(parameters, matrix, sides, sense)
    for rules in _bounds(path, variables, parameters, columns):
        yield from rules


@dataclass(frozen=True)
class _NamedRows:
    """Rows of a matrix, counted from 0, that are one rule."""

    name: str
    sense: str
    rows: Integers

    def made(self, parameters: Sequence[Parameter], A: sparse.csr_array, b: Floats, sense: Sense) -> Constraint:
        """The rule about the weights that its rows read."""
        matrix, sides = A[self.rows], b[self.rows]
        if sense == "<=" and self.sense == ">=":
            matrix, sides, sense = -matrix, -sides, ">="
        starts = np.cumsum([0, *(p.size for p in parameters)])
        used = np.unique(np.searchsorted(starts, matrix.indices, side="right") - 1)
        chosen = [np.arange(starts[k], starts[k + 1]) for k in used]
        symbols = [weight(parameters[k]) for k in used] or [weight(p) for p in parameters]
        rule = linear(symbols, matrix[:, np.concatenate(chosen)] if chosen else matrix, sides, sense=sense)
        return rule.named(self.name) if self.name else rule


def _named_rules(variables: Mapping[str, Variable]) -> list[Mapping[str, Any]]:
    """The structs of `rules`, names as they were before they were escaped."""
    structs = (variables["rules"].read_structs(texts=True) if "rules" in variables else None) or []
    return [{**fields, "name": _unescaped(fields.get("name"), variables)} for fields in structs]


def _grouped(path: Path, name: str, count: int, named: Sequence[Mapping[str, Any]]) -> Iterator[_NamedRows]:
    """The rows of a matrix by rule; those that belong to no named rule are one more rule."""
    free = np.ones(count, bool)
    for number, fields in enumerate(named, 1):
        rows = _field(fields, name)
        if rows is None:
            continue
        numbers = rows.astype(np.int64) - 1
        if not ((rows >= 1) & (rows <= count) & (rows == np.floor(rows))).all() or not free[numbers].all():
            reason = f"holds rules({number}).{name}, which are not rows 1 to {count:,} of {name}, each in one rule"
            raise PlanFileError(path, reason, "Correct the rows, or leave out the variable rules.")
        free[numbers] = False
        if len(numbers):
            yield _NamedRows(str(fields["name"]), str(fields.get("sense", "")), numbers)
    if free.any():
        yield _NamedRows("", "", np.flatnonzero(free))


def _parameters(path: Path, variables: Mapping[str, Variable]) -> list[Parameter]:
    structs = variables["weights"].read_structs(texts=True) if "weights" in variables else None
    if structs is None:
        reason = f"does not say which weights its columns are: it has {_listed(variables)}"
        way_out = "Save a variable weights: weights(k).name is text, weights(k).shape the sizes of weight k."
        raise PlanFileError(path, reason, way_out)
    parameters: list[Parameter] = []
    for number, fields in enumerate(structs, 1):
        name, sizes = _unescaped(fields.get("name"), variables), _field(fields, "shape")
        if sizes is None or not ((sizes >= 0) & (sizes <= 2**40) & (sizes == np.floor(sizes))).all():
            sizes = np.array([np.nan])
        shape = tuple(int(n) for n in sizes) if np.isfinite(sizes).all() else (2**50,)
        if not name or any(parameter.name == name for parameter in parameters) or prod(shape) > 2**48:
            reason = f"holds weights({number}) with name {name!r:.60} and shape {fields.get('shape')!s:.60}"
            raise PlanFileError(path, reason, "Each weight has a name of its own, and whole numbers as its shape.")
        first, stated = 1 + sum(parameter.size for parameter in parameters), _field(fields, "first")
        if stated is not None and not np.array_equal(stated, [first]):
            reason = f"holds weights({number}).first = {stated}, and the weights before it end at {first - 1:,}"
            raise PlanFileError(path, reason, "Weights follow each other without gaps, in the order of weights.")
        parameters.append(Parameter(name, shape))
    return parameters


def _order(path: Path, variables: Mapping[str, Variable]) -> ColumnOrder:
    text = variables["column_order"].read_text() if "column_order" in variables else None
    for order in ORDERS:
        if order == text:
            return order
    reason = "has no variable column_order" if text is None else f"has {text!r:.60} in column_order"
    way_out = (
        "Save column_order = 'column-major' where the entries of a weight follow each other as in W(:), 'row-major' "
        "where as in reshape(W.', [], 1)."
    )
    raise PlanFileError(path, reason, way_out)


def _matrix(path: Path, name: str, variables: Mapping[str, Variable], width: int) -> sparse.csr_array:
    values = variables[name].read()
    matrix = sparse.csr_array(with_checked_indices(values) if sparse.issparse(values) else np.atleast_2d(values))
    if matrix.shape[1] != width:
        reason = f"holds {name} of {matrix.shape[1]:,} columns, and its weights have {width:,} entries"
        raise PlanFileError(path, reason, "Give each entry of the weights a column.")
    matrix = matrix.astype(np.float64)
    if not (np.abs(matrix.data) <= LARGEST).all():
        raise PlanFileError(path, f"holds NaN, infinite or huge numbers in {name}", f"Numbers are at most {LARGEST:g}.")
    return matrix


def _vector(path: Path, name: str, variables: Mapping[str, Variable], count: int, *, infinite: bool) -> Floats:
    """A row or a column of numbers, full or sparse."""
    if name not in variables:
        reason = f"holds no {name}, and {count:,} numbers are needed"
        raise PlanFileError(path, reason, f"It has {_listed(variables)}. Save {name} too.")
    values = variables[name].read()
    numbers = np.asarray(with_checked_indices(values).toarray() if sparse.issparse(values) else values, np.float64)
    if numbers.size != count:
        reason = f"holds {numbers.size:,} numbers in {name}, and {count:,} are needed"
        raise PlanFileError(path, reason, "Give one number per row, or per entry of the weights for bounds.")
    if not (np.abs(numbers) <= (np.inf if infinite else LARGEST)).all():
        kind = "NaN" if infinite else "NaN, infinite or huge numbers"
        raise PlanFileError(path, f"holds {kind} in {name}", f"Numbers are at most {LARGEST:g}.")
    return numbers.reshape(-1)


def _bounds(
    path: Path, variables: Mapping[str, Variable], parameters: Sequence[Parameter], columns: Integers
) -> Iterator[Iterable[Constraint]]:
    """The bounds of each weight that has some."""
    sides = {"lb": np.full(len(columns), -np.inf), "ub": np.full(len(columns), np.inf)}
    for name in sides.keys() & variables.keys():
        sides[name] = _vector(path, name, variables, len(columns), infinite=True)[columns]
    first = 0
    for parameter in parameters:
        lower, upper = (side[first : first + parameter.size] for side in sides.values())
        first += parameter.size
        if np.isfinite(lower).any() or np.isfinite(upper).any():
            yield between(lower.reshape(parameter.shape), weight(parameter), upper.reshape(parameter.shape))


def _field(fields: Mapping[str, Any], name: str) -> Floats | None:
    """The numbers in a field of a struct; None where it holds none."""
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return None
    value = with_checked_indices(value).toarray() if sparse.issparse(value) else value
    return np.asarray(value, np.float64).reshape(-1)


def _unescaped(name: object, variables: Mapping[str, Variable]) -> str:
    """A name as it was before `_escaped`, which affinet alone calls; empty for what is not text."""
    if not isinstance(name, str):
        return ""
    if "written_by" not in variables or not variables["written_by"].read_text().startswith(_WRITTEN):
        return name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a backslash that escapes nothing, which stays one
        return name.encode("ascii").decode("unicode_escape")


def _listed(variables: Mapping[str, Variable]) -> str:
    return ", ".join(sorted(variables)[:20]) or "no variables"
