"""Measures the violation of each rule by NumPy arrays, without expanding large rules into sparse rows."""

from __future__ import annotations

from functools import cached_property
from math import prod

import numpy as np
from numpy.lib.stride_tricks import as_strided

from affinet.blocks.term_places import aligned, source, target
from affinet.kernels.arrays.array_entries import Flat
from affinet.language.calculus.terms import Floats, Term
from affinet.language.evaluation import evaluate, violations
from affinet.language.expression import Expression
from affinet.system.rows import Rows
from affinet.system.system import Rule, System

PIECE = 2**17
"""Numbers computed at a time: a megabyte of float64 stays in the cache."""


class ArrayGaps:
    """Largest violation of every rule in float64: from the terms of large rules and balls, from the rows of others."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._from_terms = {
            number
            for number, rule in enumerate(system.rules)
            if rule.norm is not None or (rule.nonzeros > system.limits.one_by_one and _without_zeros(rule.expression))
        }

    def __call__(self, flat: Flat) -> dict[str, float]:
        """Rule name → largest absolute violation; zero for a rule without equations, nan where a weight is nan."""
        largest = self._of_equations(flat)
        for number in self._from_terms:
            rule = self._system.rules[number]
            if rule.bounds_weight:
                largest[number] = _bound_gap(rule, flat[rule.expression.terms[0].parameter.name])
                continue
            gaps = violations(_value(rule.expression, flat), rule.sense, rule.norm, rule.radius)
            largest[number] = gaps.max(initial=0.0)
        for number in self._system.curved_rules:
            rule = self._system.rule(number)
            shaped = {p.name: flat[p.name].reshape(p.shape) for p in self._system.layout.parameters}
            with np.errstate(all="ignore"):
                largest[number] = violations(evaluate(rule.expression, shaped), rule.sense).max(initial=0.0)
        names = (rule.name for rule in self._system.every)
        return dict(zip(names, (largest + 0.0).tolist(), strict=True))  # -0.0 + 0.0 is 0.0

    def _of_equations(self, flat: Flat) -> Floats:
        rows, largest = self._rows, np.zeros(len(self._system.every))
        entries = np.zeros(len(rows.columns))
        for parameter, places, positions in self._system.layout.split(rows.columns):
            entries[places] = flat[parameter.name][positions]
        gaps = np.bincount(rows.row_of_each(), rows.values * entries, rows.count) - rows.rhs
        sign = self._signs[rows.rule]
        with np.errstate(invalid="ignore"):  # of weights that are not finite
            gaps = np.where(sign == 0.0, np.abs(gaps), np.maximum(sign * gaps, 0.0))
            np.maximum.at(largest, rows.rule, gaps)
        return largest

    @cached_property
    def _signs(self) -> Floats:
        """The sign of a violation of each rule; 0 where both are."""
        return np.array([rule.sign for rule in self._system.rules])

    @cached_property
    def _rows(self) -> Rows:
        return self._system.rows([k for k in range(len(self._system.rules)) if k not in self._from_terms])


@np.errstate(invalid="ignore")  # of weights that are not finite
def _bound_gap(rule: Rule, entries: np.ndarray) -> float:
    """The violation of a rule that bounds all of a weight by one number: that of its largest or smallest entry."""
    extreme = float(entries.max() if rule.sign > 0.0 else entries.min())
    return float(np.maximum(rule.sign * (extreme + rule.expression.constant), 0.0))


def _without_zeros(expression: Expression) -> bool:
    """Whether no coefficient is zero, so that a weight that is not finite makes the violation not finite."""
    return all(bool(np.all(factor.values != 0.0)) for term in expression.terms for factor in term.factors)


def _value(expression: Expression, flat: Flat) -> Floats:
    """The value of an expression."""
    value = np.array(np.broadcast_to(expression.constant, expression.shape), np.float64, order="C")
    for term in expression.terms:
        _add(term, value, flat[term.parameter.name])
    return value


def _add(term: Term, value: Floats, flat: np.ndarray) -> None:
    """Add a term to `value`, which has the expression's shape."""
    shape = tuple(1 if start is None else n for start, n in zip(term.start, value.shape, strict=True))
    covers_all, added = value.shape == shape, _reduced(term, flat)
    sums = value if covers_all else np.zeros(shape)
    places = target(term, shape)
    if isinstance(places, tuple):
        offset, steps, flips = places
        strides = tuple(step * sums.itemsize for step in steps)
        box = as_strided(sums.reshape(-1)[offset:], added.shape, strides)
        box += np.flip(added, flips) if flips else added
    else:
        np.add.at(sums.reshape(-1), places, added.reshape(-1))
    if not covers_all:
        value += sums


def _reduced(term: Term, flat: np.ndarray) -> Floats:
    """Entries times coefficients, summed over loops without an output axis; a piece of the first loop at a time."""
    sizes = tuple(variable.size for variable in term.variables)
    coefficients = [aligned(factor.variables, factor.values, sizes) for factor in term.factors]
    entries = _entries(term, flat, sizes)
    if not sizes:
        return np.asarray(entries.astype(np.float64) * term.scalar * prod(float(c) for c in coefficients))
    summed = tuple(k for k, variable in enumerate(term.variables) if not variable.outputs)
    rows, pieces = max(1, PIECE // max(1, prod(sizes[1:]))), []
    for first in range(0, sizes[0], rows):
        piece = entries[first : first + rows].astype(np.float64) * term.scalar
        for values in coefficients:
            piece *= values[first : first + rows] if len(values) > 1 else values
        pieces.append(piece.sum(axis=summed) if summed else piece)
    return np.asarray(np.sum(pieces, axis=0) if 0 in summed else np.concatenate(pieces))


def _entries(term: Term, flat: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """The entries that the loops read, in the shape of the loops."""
    places = source(term)
    if not isinstance(places, tuple):
        return np.asarray(flat[places].reshape(sizes))
    offset, steps, flips = places
    view = as_strided(flat[offset:], sizes, tuple(step * flat.itemsize for step in steps))
    return np.flip(view, flips) if flips else view
