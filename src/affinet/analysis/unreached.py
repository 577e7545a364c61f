"""The error for nonlinear rules to which no way was found from given weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite

import numpy as np
from scipy.optimize import least_squares

from affinet.blocks.block import Block
from affinet.errors import InfeasibleError
from affinet.language.calculus.terms import Floats, Integers
from affinet.language.evaluation import evaluate
from affinet.language.expression import Expression
from affinet.planning.curved.linearizing import linearized
from affinet.planning.curved.lowering import squared_length
from affinet.system.system import System

SEARCHED = 2**18
"""Derivatives of the equations up to which the least violation is searched for, to show where it is."""
SHOWN = 4
"""Entries of that point that are shown."""


def unreached(
    system: System, blocks: Sequence[Block], violation: Mapping[str, float], weights: Mapping[str, np.ndarray]
) -> InfeasibleError:
    """The error for the rules of these blocks, with the largest violation (rule name → number) at the weights."""
    numbers = sorted({number for block in blocks for number in block.rules})
    rules = [(system.rule(number).name, system.rule(number).text) for number in numbers]
    valueless = next((name for name, _ in rules if not isfinite(violation[name])), None)
    if valueless is not None:
        return InfeasibleError.not_found(
            rules,
            f'At the weights "{valueless}" has no finite value: a logarithm or root of a negative number, a division '
            f"by zero, or a number that is too large. Nothing was changed.",
        )
    worst = max((name for name, _ in rules), key=lambda name: violation[name])
    columns = np.unique(np.concatenate([b.entries.columns(np.arange(b.size), system.layout) for b in blocks]))
    return InfeasibleError.not_found(
        rules,
        f'The weights violate "{worst}" by {violation[worst]:.3g}, and from there the violation cannot be made '
        f"smaller: the gradients of the rules vanish on the way or depend on each other."
        f"{_least_violation(_with_squares(system, numbers), columns, weights)} Nothing was changed. "
        f"affinet.lagrange(model, optimizer, rules, feasible_start=False) trains towards rules from any weights.",
    )


def _with_squares(system: System, numbers: Sequence[int]) -> System:
    """The numbered rules, those that bound lengths as nonlinear inequalities."""
    part = system.only(numbers)
    balls = [
        replace(rule, expression=Expression(squared_length(rule)), norm=None, radius=0.0)
        for rule in part.rules
        if rule.norm is not None
    ]
    affine = tuple(rule for rule in part.rules if rule.norm is None)
    return replace(part, rules=affine, curved=(*part.curved, *balls))


def _least_violation(system: System, columns: Integers, weights: Mapping[str, np.ndarray]) -> str:
    """Where the sum of the squared violations is least near the weights, in words; empty where it is not computed.

    Source: the trust-region method of SciPy's `least_squares` (Branch, Coleman, Li, SIAM J. Sci. Comput. 21, 1999).
    """
    layout = system.layout
    start = np.concatenate([np.asarray(weights[p.name], np.float64).ravel() for p in layout.parameters])
    equations = sum(rule.equations for rule in system.every)

    def at(x: Floats) -> dict[str, np.ndarray]:
        moved = start.copy()
        moved[columns] = x
        return {p.name: moved[first : first + p.size].reshape(p.shape) for p, first in places}

    def values(x: Floats) -> Floats:
        return np.concatenate([evaluate(rule.expression, at(x)).ravel() for rule in system.every])

    def beyond(x: Floats) -> Floats:
        return np.where(signs == 0.0, values(x), np.maximum(signs * values(x), 0.0))

    def slopes(x: Floats) -> Floats:
        lines = linearized(system, at(x))
        dense: Floats = lines.rows(range(len(lines.rules))).matrix(layout.size).toarray()[:, columns]
        counts = np.where(signs == 0.0, 1.0, signs * (signs * values(x) > 0.0))
        return np.asarray(counts[:, None] * dense)

    signs = np.concatenate([np.zeros(0), *(np.full(rule.equations, rule.sign) for rule in system.every)])
    places = list(zip(layout.parameters, layout.starts, strict=True))
    with np.errstate(all="ignore"):
        if equations * layout.size > SEARCHED:
            return ""
        try:
            end = least_squares(beyond, start[columns], slopes, xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=100)
        except ValueError:  # the search came to where a function has no value
            return ""
    entries = [f"{layout.describe(int(column))} = {x:.3g}" for column, x in zip(columns, end.x, strict=True)]
    more = f" and {len(entries) - SHOWN:,} more" if len(entries) > SHOWN else ""
    return (
        f" The least violation near them is {np.abs(end.fun).max():.3g}, with a gradient of "
        f"{np.linalg.norm(end.grad):.2g}, at {', '.join(entries[:SHOWN])}{more}."
    )
