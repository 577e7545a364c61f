"""Restore expressions from the tables of a file; a term that reaches outside its parameter or its shape is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from affinet.language.affine import MOST_AXES, Affine, Values
from affinet.language.calculus.marked import Marked
from affinet.language.calculus.terms import Factor, Floats, Map, Parameter, Source, Term, Variable, spanned_bytes
from affinet.language.expression import Expression
from affinet.language.wording import Word
from affinet.system.malformed import LARGEST, MOST, Malformed, fields, integer, integers, items, number, shown, text
from affinet.system.stored.packing import Restored
from affinet.system.stored.storing import UNBOUNDED

Reach = tuple[int, int]


@dataclass(frozen=True, eq=False)
class _Loop:
    """A variable with its reach: among the entries, and on each axis of the rule on which it moves."""

    variable: Variable
    entries: Reach
    places: dict[int, Reach]


def restored_parameter(value: object, where: str) -> Parameter:
    """A parameter of a file. Raises Malformed."""
    table = fields(value, where, ("name", "shape"))
    return Parameter(text(table["name"], f"name of {where}"), _shape(table["shape"], where))


def restored_expression(
    value: object, where: str, parameters: Sequence[Parameter], arrays: Restored, infinite: float | None = None
) -> Expression:
    """The expression that `stored_expression` wrote as a table. Raises Malformed.

    `infinite` is the infinity that its constant may hold, where the rule is an inequality.
    """
    table = fields(value, where, ("shape", "says", "terms", "constant", "epsilon"))
    shape = _shape(table["shape"], where)
    terms = [
        _TermReader(f"term {k} of {where}", shape, parameters, arrays)(term)
        for k, term in enumerate(items(table["terms"], f"terms of {where}"))
    ]
    constant = restored_values(table["constant"], f"constant of {where}", shape, arrays, infinite)
    if 0 in shape and (terms or constant != 0.0):
        raise Malformed(f"{where} has no equations, since its shape is {shape}, but has terms or a constant")
    epsilon = number(table["epsilon"], f"epsilon of {where}", 2.0**-52, 1.0)
    return Expression(Affine(shape, tuple(terms), constant, epsilon, Word(text(table["says"], where))))


def restored_values(
    value: object, where: str, shape: tuple[int, ...], arrays: Restored, infinite: float | None = None
) -> Values:
    """A number, or an array with an axis of the same length or of length one per axis of `shape`. Raises Malformed.

    All are finite, except that they may be `infinite`.
    """
    if not isinstance(value, dict):
        return infinite if infinite is not None and value == UNBOUNDED else number(value, where)
    values = _floats(value, where, arrays, ("float64", "float32"), infinite)
    if len(values.shape) != len(shape) or any(
        n not in (1, length) for n, length in zip(values.shape, shape, strict=True)
    ):
        raise Malformed(f"{where} has shape {values.shape}, which is not that of {shape}")
    if spanned_bytes(values) < values.nbytes:
        raise Malformed(f"{where} repeats its numbers")
    return values


def _shape(value: object, where: str) -> tuple[int, ...]:
    shape = integers(value, f"shape of {where}")
    if len(shape) > MOST_AXES or prod(max(n, 1) for n in shape) > MOST:
        raise Malformed(f"{where} has {len(shape)} axes, or more entries than 64 bits can count")
    return shape


def restored_radius(
    value: object, where: str, shape: tuple[int, ...], arrays: Restored, *, zero: bool = False
) -> Values:
    """The radius of a ball: as `restored_values`, and positive, or with `zero` not negative. Raises Malformed."""
    radius = restored_values(value, where, shape, arrays)
    least = radius if isinstance(radius, float) else arrays.reach(arrays.number(value, where))[0]
    if (least < 0.0 if zero else least <= 0.0) and 0 not in shape:
        raise Malformed(f"{where} is not positive")
    return radius


def _floats(
    value: object,
    where: str,
    arrays: Restored,
    dtypes: tuple[str, ...] = ("float64",),
    infinite: float | None = None,
) -> Floats:
    place = arrays.number(value, where)
    values = arrays.arrays[place]
    if values.dtype.name not in dtypes:
        raise Malformed(f"{where} is an array of {values.dtype}, not of float64")
    if arrays.infinite[place]:
        least, most = arrays.reach(place)
        if any(math.isinf(end) and end != infinite for end in (least, most)):
            raise Malformed(f"{where} has infinite numbers where a rule has none")
    return values


class _TermReader:
    """Reads the terms of an expression of shape `shape`, one at a time."""

    def __init__(self, where: str, shape: tuple[int, ...], parameters: Sequence[Parameter], arrays: Restored) -> None:
        self._where, self._shape, self._parameters, self._arrays = where, shape, parameters, arrays

    def __call__(self, value: object) -> Term:
        where = self._where
        table = fields(value, where, ("parameter", "scalar"), ("offset", "start", "variables", "factors"))
        parameter = self._parameters[integer(table["parameter"], f"parameter of {where}", 0, len(self._parameters) - 1)]
        offset = integer(table.get("offset", 0), f"offset of {where}")
        start = tuple(
            None if place is None else integer(place, f"start of {where}")
            for place in items(table.get("start", []), f"start of {where}")
        )
        loops = [self._loop(loop) for loop in items(table.get("variables", []), f"variables of {where}")]
        variables = tuple(loop.variable for loop in loops)
        factors = [self._factor(factor, variables) for factor in items(table.get("factors", []), f"factors of {where}")]
        scalar = number(table["scalar"], f"scalar of {where}")
        if scalar == 0.0 or abs(scalar) * prod(largest for _, largest in factors) > LARGEST:
            raise Malformed(f"{where} is multiplied by zero, or by numbers beyond {LARGEST:g}")
        self._check_size(start, variables)
        self._check_entries(parameter, offset, loops)
        self._check_places(start, loops)
        return Term(parameter, offset, variables, scalar, tuple(factor for factor, _ in factors), start)

    def _loop(self, value: object) -> _Loop:
        where = f"a variable of {self._where}"
        table = fields(value, where, ("size", "source", "outputs"))
        size = integer(table["size"], f"size of {where}", 2)
        source, entries = self._source(table["source"], size)
        outputs, places = [], {}
        for pair in items(table["outputs"], f"outputs of {where}"):
            if not isinstance(pair, list) or len(pair) != 2:
                raise Malformed(f"an output of {where} is {shown(pair)}, not a pair of an axis and a step")
            axis = integer(pair[0], f"axis of {where}", 0, len(self._shape) - 1)
            if axis in places:
                raise Malformed(f"{where} moves twice along axis {axis}")
            positions, places[axis] = self._map(pair[1], size)
            if type(positions) is int and positions == 0:
                raise Malformed(f"{where} moves by nothing along axis {axis}")
            outputs.append((axis, positions))
        if not outputs and type(source) is int and source == 0:
            raise Malformed(f"{where} does not move")
        return _Loop(Variable(size, source, tuple(outputs)), entries, places)

    def _source(self, value: object, size: int) -> tuple[Source, Reach]:
        """Where a loop reads: a step, a table, or a mask with one True per point of the loop."""
        if not isinstance(value, dict) or "mask" not in value:
            return self._map(value, size)
        where = f"a mask of {self._where}"
        table = fields(value, where, ("mask", "places", "step"))
        places, step = (
            integer(table["places"], f"places of {where}", 1),
            integer(table["step"], f"step of {where}", -MOST),
        )
        number = integer(table["mask"], f"view of {where}", 0, len(self._arrays.arrays) - 1)
        if self._arrays.marked(number, places) != size or step == 0 or abs(step) * places > MOST:
            raise Malformed(f"{where} does not have the {size} places of its loop, or has a step of {step}")
        marked = Marked(self._arrays.arrays[number], places, size, step)
        return marked, marked.bounds()

    def _map(self, value: object, size: int) -> tuple[Map, Reach]:
        """A step or a table, and the lowest and the highest position that it reaches."""
        where = f"a step of {self._where}"
        if not isinstance(value, dict):
            step = integer(value, where, -MOST)
            return step, (min(0, step * (size - 1)), max(0, step * (size - 1)))
        place = self._arrays.number(value, where)
        positions = self._arrays.arrays[place]
        if positions.dtype.kind != "i" or positions.shape != (size,) or not positions.flags.c_contiguous:
            raise Malformed(f"{where} is not a table of {size} integers")
        low, high = self._arrays.reach(place)
        return positions, (int(low), int(high))

    def _factor(self, value: object, variables: Sequence[Variable]) -> tuple[Factor, float]:
        """A factor and a bound on the magnitudes of its numbers."""
        where = f"a factor of {self._where}"
        table = fields(value, where, ("variables", "view"))
        numbers = integers(table["variables"], f"variables of {where}", 0, len(variables) - 1)
        place = {"view": table["view"]}
        values = _floats(place, where, self._arrays)
        if len(set(numbers)) < len(numbers) or values.shape != tuple(variables[k].size for k in numbers) or not numbers:
            raise Malformed(f"{where} has shape {values.shape}, which is not that of its variables")
        return Factor(numbers, values), self._arrays.largest[self._arrays.number(place, where)]

    def _check_size(self, start: Sequence[int | None], variables: Sequence[Variable]) -> None:
        if len(start) != len(self._shape):
            raise Malformed(f"{self._where} starts on {len(start)} axes, and its rule has {len(self._shape)}")
        if len(variables) + sum(place is None for place in start) > MOST_AXES:
            raise Malformed(f"{self._where} has more than {MOST_AXES} loops")
        if prod(variable.size for variable in variables) > MOST:
            raise Malformed(f"{self._where} has more pairs than 64 bits can count")

    def _check_entries(self, parameter: Parameter, offset: int, loops: Sequence[_Loop]) -> None:
        low, high = (offset + sum(loop.entries[end] for loop in loops) for end in (0, 1))
        if low < 0 or high >= parameter.size:
            raise Malformed(
                f"{self._where} reads entries {low} to {high} of {parameter.name!r:.60}, which has {parameter.size}"
            )

    def _check_places(self, start: Sequence[int | None], loops: Sequence[_Loop]) -> None:
        for axis, (place, size) in enumerate(zip(start, self._shape, strict=True)):
            moves = [loop.places[axis] for loop in loops if axis in loop.places]
            if place is None and moves:
                raise Malformed(f"{self._where} moves along axis {axis}, on which it is declared constant")
            low, high = ((place or 0) + sum(move[end] for move in moves) for end in (0, 1))
            if low < 0 or high >= size:
                raise Malformed(f"{self._where} writes places {low} to {high} of axis {axis}, which has {size}")
