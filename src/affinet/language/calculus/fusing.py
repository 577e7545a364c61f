"""Several loop variables of a term made one: strided where their steps allow, with tables as the last resort."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from affinet.language.calculus.restricting import visit
from affinet.language.calculus.terms import Factor, Term, Variable
from affinet.language.forecast import forecast


def fuse(term: Term, variables: Sequence[int]) -> Term:
    """One variable, the last, that runs over the box of `variables` (the first one slowest), with tables.

    Errors: `TooLargeError` before tables are made that no machine should hold.
    """
    if len(variables) == 1 and variables[0] == len(term.variables) - 1:
        return term
    sizes = [term.variables[k].size for k in variables]
    forecast("the tables of this expression", prod(sizes), item_bytes=8 * (1 + len(sizes)))
    grid = np.unravel_index(np.arange(prod(sizes)), sizes)
    return visit(term, dict(zip(variables, grid, strict=True)))


def collapse(term: Term, axis: int) -> Term:
    """Variables that continue each other along `axis` (as the axes of a flattened tensor do) become one, strided."""
    while (pair := _continued(term, axis)) is not None:
        outer, inner = pair
        merged = replace(term.variables[inner], size=term.variables[inner].size * term.variables[outer].size)
        variables = [merged if k == inner else v for k, v in enumerate(term.variables) if k != outer]
        factors = tuple(Factor(tuple(k - (k > outer) for k in f.variables), f.values) for f in term.factors)
        term = replace(term, variables=tuple(variables), factors=factors)
    return term


def _continued(term: Term, axis: int) -> tuple[int, int] | None:
    free = [k for k in term.variables_on(axis) if not any(k in factor.variables for factor in term.factors)]
    plain = [k for k in free if len(term.variables[k].outputs) == 1]
    for outer in plain:
        for inner in plain:
            if outer != inner and _continues(term.variables[outer], term.variables[inner]):
                return outer, inner
    return None


def _continues(outer: Variable, inner: Variable) -> bool:
    for far, near in ((outer.source, inner.source), (outer.outputs[0][1], inner.outputs[0][1])):
        if not isinstance(far, int) or not isinstance(near, int) or far != near * inner.size:
            return False
    return True
