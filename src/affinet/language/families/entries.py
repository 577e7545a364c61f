"""Rules about single entries: fixed at a value, equal to each other, adding up to a total."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from affinet.errors import RuleError, ShapeError
from affinet.language.constants import read_array, read_constant, word_of
from affinet.language.expression import Constraint, Dims, Expression, stack
from affinet.language.families.saying import checked, said
from affinet.language.terms import Integers


def fix(w: Expression, where: Any = None, value: Any = 0) -> Constraint:
    """`w[where] == value`; `where` is a mask or any index, None means everywhere."""
    w = checked("fix", w)
    constant = read_constant(value)
    chosen = w if where is None else w[where]
    rule = chosen == value
    if rule.shape != chosen.shape:
        raise ShapeError(f"the value of shape {constant.shape} does not fit ({chosen}) of shape {chosen.shape}.")
    return said(rule, "fix", chosen, value=constant.wording)


def tie(*expressions: Expression) -> Constraint:
    """All of them are equal, entry by entry: `a == b`, `b == c`, ….

    Errors: `RuleError` for fewer than two, `ShapeError` where shapes differ.
    """
    tied = [checked("tie", expression) for expression in expressions]
    if len(tied) < 2:
        raise RuleError(
            "tie takes two expressions or more: tie(a, b). To tie the entries of one, write share(w, pattern)."
        )
    for other in tied[1:]:
        if other.shape != tied[0].shape:
            raise ShapeError(
                f"tie takes equal shapes: ({tied[0]}) has {tied[0].shape} and ({other}) has {other.shape}."
            )
    steps = [first - second for first, second in itertools.pairwise(tied)]
    return said((steps[0] if len(steps) == 1 else stack(steps)) == 0, "tie", *tied)


def share(w: Expression, pattern: Any) -> Constraint:
    """Entries with equal numbers in `pattern`, an integer array of the shape of `w`, are equal; negative: left free.

    As many equations as marked entries less the distinct marks: every class is a chain in row-major order.
    """
    w = checked("share", w)
    marks = read_array(pattern)[0]
    if marks.dtype.kind not in "iu":
        raise ShapeError(f"the pattern for ({w}) holds {marks.dtype}, and needs integers: equal ones share a value.")
    if marks.shape != w.shape:
        raise ShapeError(f"the pattern has shape {marks.shape}, and ({w}) has shape {w.shape}. They must be equal.")
    before, after = _chains(marks.reshape(-1))
    flat = w.flatten()
    return said(flat[before] == flat[after], "share", w, pattern=word_of(marks))


def sum_to(w: Expression, total: Any, dim: Dims = None) -> Constraint:
    """`w.sum(dim) == total`."""
    w = checked("sum_to", w)
    options: dict[str, Any] = {} if dim is None else {"dim": dim}
    return said(w.sum(dim) == total, "sum_to", w, total=read_constant(total).wording, **options)


def zero_mean(w: Expression, dim: Dims = None) -> Constraint:
    """The mean over `dim` is zero; without `dim` over the last axis, of kernels (three axes or more) the last two."""
    w = checked("zero_mean", w)
    options: dict[str, Any] = {} if dim is None else {"dim": dim}
    axes = dim if dim is not None else (-2, -1) if w.ndim >= 3 else -1
    return said(w.mean(axes) == 0, "zero_mean", w, **options)


def _chains(marks: Integers) -> tuple[Integers, Integers]:
    """Positions of consecutive entries of each class."""
    order = _by_mark(marks)
    ordered = marks[order]
    linked = np.flatnonzero((ordered[:-1] == ordered[1:]) & (ordered[1:] >= 0))
    return order[linked], order[linked + 1]


def _by_mark(marks: Integers) -> Integers:
    """Positions in the order of their marks, and in row-major order where these are equal.

    Counted, as scipy sorts coordinates, where marks lie close together: a fifth of the time of a sort.
    """
    low, high = (int(marks.min()), int(marks.max())) if marks.size else (0, 0)
    if high - low > 8 * marks.size:
        return np.argsort(marks, kind="stable")
    from scipy import sparse

    places = np.arange(marks.size)
    shape = (high - low + 1, marks.size)
    counted = sparse.csr_array((np.ones(marks.size, bool), (marks - low, places)), shape=shape)
    order: Integers = counted.indices.astype(np.int64)
    return order
