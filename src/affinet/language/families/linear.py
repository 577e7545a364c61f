"""Equations given as numbers: `A w = b`, or the columns that span what the weights may be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from affinet.errors import RuleError, ShapeError
from affinet.language.calculus.terms import Floats, is_identity
from affinet.language.constants import SparseMatrix, read_constant, read_matrix
from affinet.language.expression import Constraint, Expression, concat
from affinet.language.families.saying import said, said_linear
from affinet.language.origin import Linear
from affinet.language.products import from_left
from affinet.language.weight_groups import WeightGroup


def linear(weights: Sequence[Expression], A: Any, b: Any = 0) -> Constraint:
    """`A w = b`; `w` is the listed weights, each flattened row-major, one after the other.

    `A` is dense or sparse, `(rows, entries)`, or `(entries,)` for one equation; `b` is a number or one a row.
    Errors: `ShapeError` where the columns are not as many as the entries, or `b` does not fit the rows.
    """
    listed = _listed(weights)
    matrix = read_matrix(A)
    entries = sum(w.size for w in listed)
    if not 1 <= len(matrix.shape) <= 2 or matrix.shape[-1] != entries:
        turned = " A.T has that: is A transposed?" if len(matrix.shape) == 2 and matrix.shape[0] == entries else ""
        raise ShapeError(
            f"A has shape {matrix.shape}, its last axis must be {entries} long, one column an entry: {_sizes(listed)}."
            f"{turned}"
        )
    rhs = read_constant(b)
    if rhs.shape not in ((), matrix.shape[:-1]):
        raise ShapeError(
            f"b has shape {rhs.shape}, and A of shape {matrix.shape} takes a number or {matrix.shape[:-1]}."
        )
    flat = concat([w.flatten() for w in listed])
    rule = Expression(from_left(matrix, flat.affine)) == b
    names = tuple(_name(w) for w in listed if w.size)  # what has no entries has no columns
    origin = Linear(names, isinstance(matrix, SparseMatrix))
    return said_linear(rule, origin, *listed, A=matrix.wording, b=rhs.wording)


def subspace(weights: Sequence[Expression], basis: Any, offset: Any = 0) -> Constraint:
    """`w = offset + basis @ v` for some `v`: the listed weights lie in the span of the columns of `basis`.

    `basis` is `(entries, directions)`, of any rank; `offset` is a number or one an entry. The equations express
    every entry by `rank` of them, chosen by pivoting, and coefficients within 1e-12 of an integer become it, so that
    ties come out as ties.
    Errors: `ShapeError` where the rows of `basis` or `offset` are not as many as the entries.
    Source: interpolative decomposition by pivoted QR (Golub & Van Loan, 4th ed., 5.4.2).
    """
    listed = _listed(weights)
    spanning, origin = read_constant(basis), read_constant(offset)
    entries = sum(w.size for w in listed)
    if len(spanning.shape) != 2 or spanning.shape[0] != entries:
        raise ShapeError(
            f"the basis has shape {spanning.shape}, and needs {entries} rows, one an entry, and a column a direction: "
            f"{_sizes(listed)}."
        )
    if origin.shape not in ((), (entries,)):
        raise ShapeError(f"the offset has shape {origin.shape}; it is a number or has shape {(entries,)}.")
    matrix = _equations(np.broadcast_to(spanning.values, spanning.shape), spanning.epsilon)
    flat = concat([w.flatten() for w in listed])
    rule = matrix @ (flat - offset) == 0
    rule = said(rule, "subspace", *listed, listed=True, basis=spanning.wording, offset=origin.wording)
    affine = replace(rule.expression.affine, epsilon=max(rule.expression.epsilon, spanning.epsilon))
    return replace(rule, expression=Expression(affine))


def _equations(basis: Floats, epsilon: float) -> Any:
    """A sparse `A` with `A @ basis == 0` and as many independent rows as entries the basis leaves undetermined."""
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
    chosen, rest = order[:rank], order[rank:]
    coefficients = scipy.linalg.solve_triangular(triangle[:rank, :rank], triangle[:rank, rank:]).T
    coefficients = _snapped(coefficients, max(1e-12, 8 * epsilon))
    rows, places = np.nonzero(coefficients)
    values = np.concatenate([np.ones(len(rest)), -coefficients[rows, places]])
    at = np.concatenate([np.arange(len(rest)), rows]), np.concatenate([rest, chosen[places]])
    return scipy.sparse.coo_array((values, at), shape=(len(rest), entries))


def _snapped(coefficients: Floats, tolerance: float) -> Floats:
    whole = np.round(coefficients)
    scale = max(1.0, float(np.abs(coefficients).max(initial=0.0)))
    return np.where(np.abs(coefficients - whole) < tolerance * scale, whole, coefficients)


def _listed(weights: Sequence[Expression]) -> list[Expression]:
    given = [weights] if isinstance(weights, Expression) else list(weights) if isinstance(weights, Iterable) else []
    listed = [w for one in given for w in (one if isinstance(one, WeightGroup) else [one])]
    if not listed or not all(isinstance(w, Expression) for w in listed):
        raise RuleError("the weights of a linear rule are a list of expressions that is not empty, such as [w.a, w.b].")
    return listed


def _name(w: Expression) -> str | None:
    """The name of a weight that is listed as it is; None for parts, rearrangements and sums."""
    whole = len(w.terms) == 1 and is_identity(w.terms[0], w.shape) and not np.any(w.constant)
    return w.terms[0].parameter.name if whole else None


def _sizes(listed: Sequence[Expression]) -> str:
    """`a.weight (6) + a.bias (2) = 8`."""
    return f"{' + '.join(f'{w} ({w.size})' for w in listed)} = {sum(w.size for w in listed)}"
