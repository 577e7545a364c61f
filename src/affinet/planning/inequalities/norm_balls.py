"""Make balls of the rules that bound a norm of weights that no other rule reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from affinet.blocks.ball import Ball
from affinet.blocks.offsets import Nest
from affinet.blocks.places import Listed, Part, Places, Stepped
from affinet.errors import RuleError
from affinet.language.calculus.terms import Integers, Term, lower
from affinet.language.forecast import forecast
from affinet.language.sense import Spectrum
from affinet.planning.reading.term_patterns import read_view
from affinet.system.rows import PAIR_BYTES
from affinet.system.system import Rule, System, coefficients


def make_balls(system: System, numbers: Sequence[int]) -> list[Ball]:
    """One block per rule. Raises RuleError where other rules read its weights, or where it is not of single weights."""
    balls = []
    for number in numbers:
        rule = system.rules[number]
        entries = entries_of(rule)
        if entries is None:
            raise RuleError(
                f'rule "{rule.name}" bounds a norm of an expression that is not an array of different weights. Give '
                f"weights, or slices of them that differ, one by one."
            )
        other = read_by(system, number, entries, others_about(system, number))
        if other is not None:
            raise RuleError(
                f'the rules "{rule.name}" and "{other}" are about the same weights, and a weight whose sum of '
                f"magnitudes or spectrum is bounded can be in no other rule. Bound other weights, leave one of the "
                f"rules out, or train towards them with affinet.lagrange(model, optimizer, rules): linf_ball and "
                f"l2_ball go with any rule, for weights that are not negative sum_at_most is the l1 ball, and spd goes "
                f"with equations."
            )
        balls.append(_made(rule, entries, number))
    return balls


def _made(rule: Rule, entries: Places, number: int) -> Ball:
    shape, (term,) = rule.expression.shape, rule.expression.terms
    assert rule.norm is not None
    cells, width = int(np.prod(shape[:-1], dtype=int)), shape[-1]
    radius = np.reshape(np.broadcast_to(rule.radius, shape[:-1]), (cells, 1)) / abs(term.scalar)
    radius = radius[:1] if (radius == radius[:1]).all() else radius
    return Ball(entries, cells, width, rule.norm, np.asarray(radius, np.float64), (number,))


def entries_of(rule: Rule) -> Places | None:
    """The weights whose norm is bounded, vector after vector; None where the rule reads no array of different ones."""
    expression = rule.expression
    term = expression.terms[0] if len(expression.terms) == 1 else None
    if term is None or term.factors or np.any(expression.constant) or not expression.shape:
        return None
    if isinstance(rule.norm, Spectrum) and rule.norm.kind == "negative" and term.scalar < 0.0:
        return None
    return _places(rule, term, expression.shape)


def _places(rule: Rule, term: Term, shape: tuple[int, ...]) -> Places | None:
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
        return None
    return Listed((Part(term.parameter, positions),))


def read_by(system: System, number: int, entries: Places, rules: Iterable[tuple[Rule, Integers]]) -> str | None:
    """The name of the first of the rules, which read these columns, that reads an entry of a ball; None without one."""
    parameter = system.rules[number].expression.terms[0].parameter
    start = system.layout.start(parameter)
    for rule, columns in rules:
        inside = columns[(columns >= start) & (columns < start + parameter.size)]
        if (entries.find(inside, system.layout) >= 0).any():
            return rule.name
    return None


def others_about(system: System, number: int) -> Iterator[tuple[Rule, Integers]]:
    """The other affine rules about the weight of a rule that reads one, and the columns that they read."""
    parameter = system.rules[number].expression.terms[0].parameter
    for other, rule in enumerate(system.rules):
        if other == number or all(term.parameter != parameter for term in rule.expression.terms):
            continue
        shape, terms = rule.expression.shape, rule.expression.terms
        rows = coefficients(system.layout, (other,), (shape,), (terms,), system.tolerance.cancellation)
        yield rule, np.unique(rows.columns)
