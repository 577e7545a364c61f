"""Merge several loop variables of a term into one: strided where their steps allow, else with tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from affinet.language.calculus.restricting import visit
from affinet.language.calculus.terms import Factor, Term, Variable
from affinet.language.forecast import forecast


def fuse(term: Term, variables: Sequence[int]) -> Term:
    """Replace `variables` by one variable with tables, the last, that runs over their box (the first one slowest).

    Errors: `TooLargeError` before tables beyond the memory limit are made.
    """
    if len(variables) == 1 and variables[0] == len(term.variables) - 1:
        return term
    sizes = [term.variables[k].size for k in variables]
    forecast("the tables of this expression", prod(sizes), item_bytes=8 * (1 + len(sizes)))
    grid = np.unravel_index(np.arange(prod(sizes)), sizes)
    return visit(term, dict(zip(variables, grid, strict=True)))


def collapse(term: Term, axis: int) -> Term:
    """Merge variables that continue each other along `axis`(as the axes of a flattened tensor do) into strided ones."""
    while (pair := _continuing_pair(term, axis)) is not None:
        outer, inner = pair
        merged = replace(term.variables[inner], size=term.variables[inner].size * term.variables[outer].size)
        variables = [merged if k == inner else v for k, v in enumerate(term.variables) if k != outer]
        factors = tuple(Factor(tuple(k - (k > outer) for k in f.variables), f.values) for f in term.factors)
        term = replace(term, variables=tuple(variables), factors=factors)
    return term


def _continuing_pair(term: Term, axis: int) -> tuple[int, int] | None:
    """Two variables on `axis`, outer and inner, of which the outer one steps over the whole range of the inner one."""
    unweighted = [k for k in term.variables_on(axis) if not any(k in factor.variables for factor in term.factors)]
    on_one_axis = [k for k in unweighted if len(term.variables[k].outputs) == 1]
    for outer in on_one_axis:
        for inner in on_one_axis:
            if outer != inner and _continues(term.variables[outer], term.variables[inner]):
                return outer, inner
    return None


def _continues(outer: Variable, inner: Variable) -> bool:
    for outer_map, inner_map in ((outer.source, inner.source), (outer.outputs[0][1], inner.outputs[0][1])):
        if not isinstance(outer_map, int) or not isinstance(inner_map, int) or outer_map != inner_map * inner.size:
            return False
    return True
