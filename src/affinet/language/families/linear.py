"""Rules given by matrices: `A w = b`, `A w <= b`, or a basis of the subspace that holds the weights."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from affinet.errors import RuleError, ShapeError, counted
from affinet.language.calculus.terms import Floats, is_identity
from affinet.language.constants import SparseMatrix, read_bound, read_constant, read_matrix
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression, concat
from affinet.language.families.naming import named_linear_rule, named_rule
from affinet.language.origin import Linear
from affinet.language.products import from_left
from affinet.language.sense import Sense, unbounded
from affinet.language.weight_groups import WeightGroup
from affinet.language.wording import Word, differing

COMPARED: Mapping[Sense, Callable[[Any, Any], Constraint]] = {
    "==": operator.eq,
    "<=": operator.le,
    ">=": operator.ge,
}


def linear(weights: Sequence[Expression], A: Any, b: Any = 0, *, sense: Sense = "==") -> Constraint:
    """`A w = b`; `w` is the listed weights, each flattened row-major, one after the other.

    `A` is dense or sparse, `(rows, entries)`, or `(entries,)` for one equation; `b` is a number, or one number per row.
    With `sense="<="` the rule is `A w <= b`, with `">="` it is `A w >= b`; a row has no bound where `b` is infinite.
    Errors: `ShapeError` where `A` does not have one column per entry, or `b` does not fit the rows, `RuleError` for
    another sense.
    """
    if sense not in COMPARED:
        raise RuleError(f'the sense of a linear rule is "==", "<=" or ">="; got {sense!r:.60}.')
    parts = _as_list(weights)
    matrix = read_matrix(A)
    entries = sum(w.size for w in parts)
    if not 1 <= len(matrix.shape) <= 2 or matrix.shape[-1] != entries:
        hint = " A.T has that shape: is A transposed?" if len(matrix.shape) == 2 and matrix.shape[0] == entries else ""
        raise ShapeError(
            f"A has shape {matrix.shape}, and needs {counted(entries, 'column')}, one per entry: {_sizes(parts)}.{hint}"
        )
    rhs = read_constant(b) if sense == "==" else read_bound(b, unbounded(sense), Word("A @ w"))
    if rhs.shape not in ((), matrix.shape[:-1]):
        raise ShapeError(
            f"b has shape {rhs.shape}; with A of shape {matrix.shape} it must be a number or have shape "
            f"{matrix.shape[:-1]}."
        )
    flat = concat([w.flatten() for w in parts])
    rule = COMPARED[sense](Expression(from_left(matrix, flat.affine)), b)
    names = tuple(_name(w) for w in parts if w.size)  # a weight without entries has no columns
    origin = Linear(names, isinstance(matrix, SparseMatrix))
    options = differing(sense=(sense, "=="))
    return named_linear_rule(rule, origin, *parts, A=matrix.wording, b=rhs.wording, **options)


def subspace(weights: Sequence[Expression], basis: Any, offset: Any = 0) -> Constraint:
    """`w = offset + basis @ v` for some `v`: the listed weights lie in the span of the columns of `basis`.

    `basis` is `(entries, directions)`, of any rank; `offset` is a number, or one number per entry. The equations
    express every entry by `rank` of the entries, chosen by pivoting. Coefficients within 1e-12 of an integer are
    rounded to it, so that ties come out as ties.
    Errors: `ShapeError` where `basis` or `offset` does not have one row per entry.
    Source: interpolative decomposition by pivoted QR (Golub & Van Loan, 4th ed., 5.4.2).
    """
    parts = _as_list(weights)
    spanning, origin = read_constant(basis), read_constant(offset)
    entries = sum(w.size for w in parts)
    if len(spanning.shape) != 2 or spanning.shape[0] != entries:
        raise ShapeError(
            f"the basis has shape {spanning.shape}, and needs {counted(entries, 'row')}, one per entry, and one column "
            f"per direction: {_sizes(parts)}."
        )
    if origin.shape not in ((), (entries,)):
        raise ShapeError(f"the offset has shape {origin.shape}; it must be a number or have shape {(entries,)}.")
    matrix = _equations(np.broadcast_to(spanning.values, spanning.shape), spanning.epsilon)
    flat = concat([w.flatten() for w in parts])
    rule = matrix @ (flat - offset) == 0
    rule = named_rule(rule, "subspace", *parts, listed=True, basis=spanning.wording, offset=origin.wording)
    affine = replace(rule.expression.affine, epsilon=max(rule.expression.epsilon, spanning.epsilon))
    return replace(rule, expression=Expression(affine))


def _equations(basis: Floats, epsilon: float) -> Any:
    """A sparse `A` with `A @ basis == 0`, whose rows are independent and span all equations that the basis obeys."""
    import scipy.linalg
    import scipy.sparse

    entries = basis.shape[0]
    norms = np.linalg.norm(basis, axis=0)
    columns = basis[:, norms > 0] / norms[norms > 0]
    if columns.shape[1] == 0:
        return scipy.sparse.eye_array(entries, format="coo")
    triangle, order = scipy.linalg.qr(columns.T, mode="r", pivoting=True)
    sizes = np.abs(np.diagonal(triangle))
    rank = int((sizes > max(columns.shape) * epsilon * sizes[0]).sum())
    basic, dependent = order[:rank], order[rank:]
    coefficients = scipy.linalg.solve_triangular(triangle[:rank, :rank], triangle[:rank, rank:]).T
    coefficients = _snap_to_integers(coefficients, max(1e-12, 8 * epsilon))
    rows, basic_indices = np.nonzero(coefficients)
    values = np.concatenate([np.ones(len(dependent)), -coefficients[rows, basic_indices]])
    coordinates = np.concatenate([np.arange(len(dependent)), rows]), np.concatenate([dependent, basic[basic_indices]])
    return scipy.sparse.coo_array((values, coordinates), shape=(len(dependent), entries))


def _snap_to_integers(coefficients: Floats, tolerance: float) -> Floats:
    integers = np.round(coefficients)
    scale = max(1.0, float(np.abs(coefficients).max(initial=0.0)))
    return np.where(np.abs(coefficients - integers) < tolerance * scale, integers, coefficients)


def _as_list(weights: Sequence[Expression]) -> list[Expression]:
    values = [weights] if isinstance(weights, Expression) else list(weights) if isinstance(weights, Iterable) else []
    parts = [w for value in values for w in (value if isinstance(value, WeightGroup) else [value])]
    if not parts or not all(isinstance(w, Expression) for w in parts):
        raise RuleError("the weights of a linear rule must be a list of expressions, not empty, such as [w.a, w.b].")
    return parts


def _name(w: Expression) -> str | None:
    """The name of a weight that is listed in full and in its own order; None for other expressions."""
    in_full = len(w.terms) == 1 and is_identity(w.terms[0], w.shape) and not np.any(w.constant)
    return w.terms[0].parameter.name if in_full else None


def _sizes(parts: Sequence[Expression]) -> str:
    """`a.weight (6) + a.bias (2) = 8`."""
    return f"{' + '.join(f'{w} ({w.size})' for w in parts)} = {sum(w.size for w in parts)}"
