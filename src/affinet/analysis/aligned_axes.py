"""Find an axis of each rule of a group along which the rules can be cut, so that no two cuts share an entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from affinet.analysis.lookup.incidence import reach
from affinet.language.calculus.terms import Parameter, Term
from affinet.system.system import Rule

MOST_RULES = 128
"""Most rules of a group that are aligned: each is compared with the weights that the others read."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a rule stands among the slots of a group: position i along `axis` belongs to slot `i + shift`.

    Without an axis the whole rule belongs to slot `shift`.
    """

    axis: int | None
    shift: int
    length: int


@dataclass(frozen=True, slots=True)
class _Span:
    """A range of positions of an axis of a weight, which a term reads at positions from `start` on of its rule."""

    parameter: str
    first: int
    length: int
    start: int


Lanes = dict[str, list[tuple[int, int, int]]]
"""Weight → ranges of positions along its axis, as (first, end, shift): position j of a range is in slot j + shift."""


def align(rules: Sequence[Rule], wanted: int) -> tuple[Position, ...] | None:
    """Positions of affine rules, such that rows of different slots share no entry; None where none are found.

    Of the axes of the largest weight, the first that makes `wanted` slots is taken, else that which makes most.
    """
    if len(rules) > MOST_RULES:
        return None
    parameters = {term.parameter for rule in rules for term in rule.expression.terms}
    largest = max(parameters, key=lambda parameter: (parameter.size, parameter.name), default=None)
    best, most = None, 1
    for axis in range(len(largest.shape) if largest is not None else 0):
        assert largest is not None
        positions = _positions_by_axis(rules, largest, axis) if largest.shape[axis] > 1 else None
        if positions is None:
            continue
        low, high = slots(positions)
        if high - low > most:
            best, most = positions, high - low
        if most >= wanted:
            break
    return best


def slots(positions: Sequence[Position]) -> tuple[int, int]:
    """The first slot, and the end of the last."""
    return min(p.shift for p in positions), max(p.shift + p.length for p in positions)


def _positions_by_axis(rules: Sequence[Rule], parameter: Parameter, axis: int) -> tuple[Position, ...] | None:
    """The positions of rules where one weight is cut along an axis, and all others as this requires."""
    axes = _axes(rules, parameter, axis)
    if axes is None:
        return None
    axes_of_rules, axes_of_weights = axes
    spans = []
    for number, rule in enumerate(rules):
        of_rule = [_span(term, axes_of_rules[number], axes_of_weights) for term in rule.expression.terms]
        if any(span is None for span in of_rule):
            return None
        spans.append([span for span in of_rule if span is not None])
    shifts = _shifts(spans)
    if shifts is None:
        return None
    lengths = (
        1 if axes_of_rules[k] is None else rule.expression.shape[axes_of_rules[k] or 0] for k, rule in enumerate(rules)
    )
    return tuple(Position(axes_of_rules[k], shifts[k], length) for k, length in enumerate(lengths))


def _axes(
    rules: Sequence[Rule], parameter: Parameter, axis: int
) -> tuple[dict[int, int | None], dict[str, int]] | None:
    """The axis of each rule and of each weight that belong to an axis of one weight, by the steps of the terms."""
    of_rules: dict[int, int | None] = {}
    of_weights, pending = {parameter.name: axis}, [parameter]
    while pending:
        reading = pending.pop()
        step = _step(reading, of_weights[reading.name])
        for number, rule in enumerate(rules):
            terms = [term for term in rule.expression.terms if term.parameter == reading]
            if number in of_rules or not terms:
                continue
            of_rules[number] = rule_axis = next(filter(_is_axis, (_axis_with_step(term, step) for term in terms)), None)
            for other in rule.expression.terms if rule_axis is not None else ():
                moving = _moving(other, rule_axis)
                if moving is None or other.parameter.name in of_weights:
                    continue
                other_axis = _axis_of_step(other.parameter, other.variables[moving].source)
                if other_axis is None:
                    return None
                of_weights[other.parameter.name] = other_axis
                pending.append(other.parameter)
    read = {term.parameter.name for rule in rules for term in rule.expression.terms}
    return (of_rules, of_weights) if read == set(of_weights) and len(of_rules) == len(rules) else None


def _step(parameter: Parameter, axis: int) -> int:
    return prod(parameter.shape[axis + 1 :])


def _axis_with_step(term: Term, step: int) -> int | None:
    """The axis of the rule along which a term moves through its weight with this step."""
    for variable in term.variables:
        if isinstance(variable.source, int) and variable.source == step:
            return next((axis for axis, move in variable.outputs if isinstance(move, int) and move == 1), None)
    return None


def _is_axis(axis: int | None) -> bool:
    return axis is not None


def _axis_of_step(parameter: Parameter, step: object) -> int | None:
    axes = (k for k, size in enumerate(parameter.shape) if size > 1 and _step(parameter, k) == step)
    return next(axes, None)


def _moving(term: Term, axis: int | None) -> int | None:
    """The number of the loop that moves along an axis of the rule; None without one."""
    numbers = [] if axis is None else term.variables_on(axis)
    return numbers[0] if numbers else None


def _span(term: Term, axis: int | None, axes: dict[str, int]) -> _Span | None:
    """What a term reads along the axes; None where a row reads several positions of the axis of the weight.

    An entry of a weight is at `high · step · size + position · step + low` with `low < step` and `position < size`.
    """
    parameter, axis_read = term.parameter, axes[term.parameter.name]
    step, size = _step(parameter, axis_read), parameter.shape[axis_read]
    start = 0 if axis is None else term.start[axis]
    moving, length = _moving(term, axis), 1
    if start is None or (axis is not None and len(term.variables_on(axis)) > 1):
        return None
    variables = term.variables
    if moving is not None:
        loop = variables[moving]
        if not isinstance(loop.source, int) or loop.source != step or (axis, 1) not in _integer_moves(loop.outputs):
            return None
        length = loop.size
    staying = (
        v
        for k, v in enumerate(variables)
        if k != moving and not (isinstance(v.source, int) and v.source % (step * size) == 0)
    )
    low, high = reach(Term(parameter, term.offset, tuple(staying), 1.0, (), ()))
    first = low // step % size
    if low // step != high // step or first + length > size:
        return None
    return _Span(parameter.name, first, length, start)


def _integer_moves(outputs: Sequence[tuple[int, object]]) -> list[tuple[int, int]]:
    return [(axis, move) for axis, move in outputs if isinstance(move, int)]


def _shifts(spans: Sequence[Sequence[_Span]]) -> list[int] | None:
    """The shift of each rule, so that each position of a weight is in one slot; None where there are no such shifts.

    A rule that reads what earlier ones have read has the shift that this gives it; others begin at slot 0.
    """
    lanes: Lanes = {}
    shifts: dict[int, int] = {}
    pending = list(range(len(spans)))
    while pending:
        required = {number: _required(spans[number], lanes) for number in pending}
        number = next((k for k in pending if required[k]), pending[0])
        if len(required[number]) > 1:
            return None
        shifts[number] = required[number].pop() if required[number] else 0
        for span in spans[number]:
            if not _add(lanes, span, shifts[number] + span.start - span.first):
                return None
        pending.remove(number)
    return [shifts[number] for number in range(len(spans))]


def _required(spans: Sequence[_Span], lanes: Lanes) -> set[int]:
    """The shifts of a rule that lanes which it reads ask for."""
    return {
        shift - span.start + span.first
        for span in spans
        for low, end, shift in lanes.get(span.parameter, ())
        if span.first < end and low < span.first + span.length
    }


def _add(lanes: Lanes, span: _Span, shift: int) -> bool:
    """Add a lane, joined with those of the same shift that it touches; False where one of another shift overlaps it."""
    low, end, separate = span.first, span.first + span.length, []
    for lane in lanes.get(span.parameter, ()):
        if lane[2] != shift and low < lane[1] and lane[0] < end:
            return False
        if lane[2] == shift and low <= lane[1] and lane[0] <= end:
            low, end = min(low, lane[0]), max(end, lane[1])
        else:
            separate.append(lane)
    lanes[span.parameter] = [*separate, (low, end, shift)]
    return True
