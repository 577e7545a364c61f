"""Make balls of the rules that bound a norm; a weight in a ball is in no other rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from affinet.blocks.ball import Ball
from affinet.blocks.offsets import Nest
from affinet.blocks.places import Listed, Part, Places, Stepped
from affinet.errors import RuleError
from affinet.language.calculus.terms import Term, lower
from affinet.language.forecast import forecast
from affinet.planning.reading.term_patterns import read_view
from affinet.system.rows import PAIR_BYTES
from affinet.system.system import Rule, System


def make_balls(system: System, numbers: Sequence[int]) -> list[Ball]:
    """One block per rule. Raises RuleError where other rules read its weights, or where it is not of single weights."""
    balls = [_make_ball(system.rules[number], number) for number in numbers]
    for number, ball in zip(numbers, balls, strict=True):
        _check_alone(system, number, ball, dict(zip(numbers, balls, strict=True)))
    return balls


def _make_ball(rule: Rule, number: int) -> Ball:
    expression = rule.expression
    shape = expression.shape
    term = expression.terms[0] if len(expression.terms) == 1 else None
    if rule.norm is None or term is None or term.factors or np.any(expression.constant) or not shape:
        raise RuleError(
            f'rule "{rule.name}" bounds the norm of an expression that is not an array of different weights. Give '
            f"weights, or slices of them, one by one."
        )
    cells, width = int(np.prod(shape[:-1], dtype=int)), shape[-1]
    radius = np.reshape(np.broadcast_to(rule.radius, shape[:-1]), (cells, 1)) / abs(term.scalar)
    radius = radius[:1] if (radius == radius[:1]).all() else radius
    return Ball(_places(rule, term, shape), cells, width, rule.norm, np.asarray(radius, np.float64), (number,))


def _places(rule: Rule, term: Term, shape: tuple[int, ...]) -> Places:
    axes = [axis for axis, n in enumerate(shape) if n > 1]
    view = read_view(term, axes)
    if view is not None and all(step > 0 for _, step in view.dims):
        inner = 1 if axes[-1:] == [len(shape) - 1] else 0
        dims = view.dims[: len(view.dims) - inner], view.dims[len(view.dims) - inner :]
        return Stepped(term.parameter, view.offset, Nest(dims[0]), Nest(dims[1]))
    forecast(f'the entries of rule "{rule.name}"', int(np.prod(shape)), item_bytes=PAIR_BYTES)
    rows, positions, _ = lower(term, shape)
    positions = positions[np.argsort(rows, kind="stable")]
    if len(positions) != np.prod(shape) or len(np.unique(positions)) != len(positions):
        raise RuleError(
            f'rule "{rule.name}" bounds the norm of an expression that reads a weight several times. Give weights, or '
            f"slices of them, that differ."
        )
    return Listed((Part(term.parameter, positions),))


def _check_alone(system: System, number: int, ball: Ball, balls: Mapping[int, Ball]) -> None:
    parameter = system.rules[number].expression.terms[0].parameter
    start = system.layout.start(parameter)
    for other, rule in enumerate(system.rules):
        if other == number or all(term.parameter != parameter for term in rule.expression.terms):
            continue
        if other in balls:
            columns = balls[other].entries.columns(np.arange(balls[other].size), system.layout)
        else:
            columns = np.unique(system.rows([other]).columns)
        inside = columns[(columns >= start) & (columns < start + parameter.size)]
        if (ball.entries.find(inside, system.layout) >= 0).any():
            raise RuleError(
                f'the rules "{system.rules[number].name}" and "{rule.name}" are about the same weights, and a weight '
                f"whose norm is bounded can be in no other rule. Bound other weights, or leave one of the rules out: "
                f"linf_ball goes with any rule, and for weights that are not negative sum_at_most is the l1 ball."
            )
