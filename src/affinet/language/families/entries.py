"""Rules about single entries: fixed at a value, equal to each other, adding up to a total."""

from __future__ import annotations

import itertools
from typing import Any

from affinet.errors import RuleError, ShapeError
from affinet.language.constants import read_constant, right_hand_side
from affinet.language.expression import Constraint, Dims, Expression, stack
from affinet.language.families.saying import checked, said


def fix(w: Expression, where: Any = None, value: Any = 0) -> Constraint:
    """`w[where] == value`; `where` is a mask or any index, None means everywhere."""
    w = checked("fix", w)
    constant = right_hand_side(value)
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
