"""Rules whose coefficients are often exactly zero, and the matrix that NumPy gives the same operations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from hypothesis import strategies as st

import affinet
from affinet.language.expression import Expression

Operation = Callable[[Any], Any]
"""Means the same on an expression as on an array, and keeps zero zero."""

SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "x": ((4, 5), (6,), (3, 3), (2, 3, 4), (1,), (5, 5)),
    "y": ((3, 3), (4,), (2, 2)),
}


@dataclass(frozen=True)
class Sparse:
    """Rules over weights of the given shapes, and `matrix @ w == rhs`, w all weights laid end to end."""

    shapes: dict[str, tuple[int, ...]]
    rules: tuple[affinet.Constraint, ...]
    matrix: np.ndarray
    rhs: np.ndarray
    counts: tuple[int, ...]
    """How many rows of the matrix each rule has."""


@st.composite
def sparse_rules(draw: st.DrawFn) -> Sparse:
    """One to three expressions made of one to four operations each: whole, or entry by entry, some tied to a weight.

    The right-hand sides are what the expressions are at one point, so that the rules hold together.
    """
    shapes = {name: draw(st.sampled_from(shapes)) for name, shapes in SHAPES.items()}
    numbers = np.random.default_rng(draw(st.integers(0, 10_000)))
    point = {name: numbers.integers(-3, 4, shape).astype(float) for name, shape in shapes.items()}
    symbols = affinet.weights(shapes)
    rules: list[affinet.Constraint] = []
    blocks: list[np.ndarray] = []
    flat = np.concatenate([values.ravel() for values in point.values()])
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(["x", "x", "y"]))
        steps = _chain(draw, shapes[name], numbers)
        expression, rows = _applied(steps, symbols[name]), _rows(steps, name, shapes)
        if not expression.size:
            continue
        value = (rows @ flat).reshape(expression.shape)
        places = list(np.ndindex(expression.shape))
        how = draw(st.sampled_from(["whole", "entries", "tied"]))
        if how == "whole":
            rules.append(expression == value)
            blocks.append(rows)
            continue
        for place in draw(st.lists(st.sampled_from(places), min_size=1, max_size=6, unique=True)):
            row = rows[np.ravel_multi_index(place, expression.shape)] if place else rows[0]
            other = np.zeros_like(row)
            right: Any = float(value[place])
            if how == "tied":
                other[-1] = 1.0
                right = symbols.y.flatten()[-1] + float(value[place] - point["y"].flat[-1])
            rules.append(expression[place] == right)
            blocks.append((row - other)[None])
    matrix = np.concatenate([np.zeros((0, len(flat))), *blocks])
    return Sparse(shapes, tuple(rules), matrix, matrix @ flat, tuple(len(block) for block in blocks))


def _chain(draw: st.DrawFn, shape: tuple[int, ...], numbers: np.random.Generator) -> list[Operation]:
    steps: list[Operation] = []
    for _ in range(draw(st.integers(1, 4))):
        step = _operation(draw, shape, numbers)
        after = np.shape(step(np.zeros(shape)))
        if 0 not in after:
            steps.append(step)
            shape = after
    return steps


def _operation(draw: st.DrawFn, shape: tuple[int, ...], numbers: np.random.Generator) -> Operation:
    mask = _mostly_zeros(shape, numbers)
    free: list[Operation] = [
        lambda v: mask * v,
        lambda v: v - mask * v,
        lambda v: 0 * v,
        lambda v: v - v,
        lambda v: v + v,
        lambda v: 3 * v - 2 * v - v + mask * v,
        lambda v: 1e-200 * v * 1e-200 + v,
    ]
    if shape:
        axis, places = draw(st.integers(0, len(shape) - 1)), numbers.integers(0, shape[0], 3)
        key = tuple(
            draw(st.one_of(st.integers(0, n - 1), st.just(slice(draw(st.integers(0, n - 1)), None)))) for n in shape
        )
        right = _mostly_zeros((shape[-1], draw(st.integers(1, 3))), numbers)
        free += [
            lambda v: v[key],
            lambda v: v[key],
            lambda v: v[places],
            lambda v: v @ right,
            lambda v: v.sum(axis),
            lambda v: _either(v, lambda e: e.diff(axis), lambda a: np.diff(a, axis=axis)),
            lambda v: _either(v, lambda e: e.roll(1, axis) - e, lambda a: np.roll(a, 1, axis) - a),
            lambda v: _either(v, lambda e: e.flip(axis) - e, lambda a: np.flip(a, axis) - a),
            lambda v: v.cumsum(axis) - v,
        ]
    if len(shape) > 1:
        k = draw(st.integers(-1, 1))
        free += [
            lambda v: _either(v, lambda e: e.triu(k), lambda a: np.triu(a, k)),
            lambda v: _either(v, lambda e: e.tril(k), lambda a: np.tril(a, k)),
        ]
    if len(shape) == 2 and shape[0] == shape[1]:
        free += [lambda v: v - v.T, lambda v: v + v.T]
    return draw(st.sampled_from(free))


def _mostly_zeros(shape: tuple[int, ...], numbers: np.random.Generator) -> np.ndarray:
    return np.asarray(numbers.choice([0.0, 0.0, 1.0, 1.0, -1.0, 2.0], size=shape))


def _either(v: Any, on_expression: Operation, on_array: Operation) -> Any:
    return on_expression(v) if isinstance(v, Expression) else on_array(v)


def _applied(steps: list[Operation], value: Any) -> Any:
    for step in steps:
        value = step(value)
    return value


def _rows(steps: list[Operation], name: str, shapes: dict[str, tuple[int, ...]]) -> np.ndarray:
    """The matrix of a chain of operations on one weight: what it makes of each unit vector."""
    own = np.stack([np.ravel(_applied(steps, unit.reshape(shapes[name]))) for unit in np.eye(prod(shapes[name]))], 1)
    return np.hstack([own if each == name else np.zeros((len(own), prod(shape))) for each, shape in shapes.items()])
