"""Keep results that follow from shapes and coefficients alone, so that planning with other right-hand sides skips them.

Right-hand sides enter the blocks linearly, and everything that takes long is decided without them: patterns, orders of
elimination, components, ranks, factors. Planning asks for each such result by `from_coefficients`. While a planning
is recorded, arguments and results are kept in the order in which they were asked for; the next planning compares the
arguments at the same place, and takes the result where they are the same. What it does with right-hand sides it does
as always, so that its blocks are those of planning anew, bit for bit, and so are its refusals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np
from scipy import sparse

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


MOST_KEPT = 2**31
"""Bytes of arguments and results that a record keeps; what is asked for later is worked out anew. Of equations one by
one it is about 200 bytes a coefficient (measured)."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Arguments, the result, and the bytes of both that nothing asked for before holds."""

    arguments: tuple[Any, ...]
    result: Any
    size: int


@dataclass(frozen=True, eq=False)
class Record:
    """Arguments and results of one planning, by function, in the order in which they were asked for."""

    results: Mapping[Callable[..., Any], list[Asked | None]] = field(default_factory=dict)


class _Recording:
    """A planning that is recorded: the record of the planning before, and that which is being written."""

    def __init__(self, before: Record) -> None:
        self._before = before.results
        self._written: dict[Callable[..., Any], list[Asked | None]] = {}
        self._arrays: set[int] = set()
        self._bytes = 0
        self.record = Record(self._written)

    def result(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        written = self._written.setdefault(function, [])
        earlier = self._before.get(function, ())
        asked = earlier[len(written)] if len(written) < len(earlier) else None
        if asked is None or not same(asked.arguments, arguments):
            token = _recording.set(None)  # nested calls would be missing where the result is looked up
            try:
                result = function(*arguments)
            finally:
                _recording.reset(token)
            asked = Asked(arguments, result, sum(self._fresh(array) for array in _arrays((arguments, result))))
        self._bytes += asked.size
        written.append(asked if self._bytes <= MOST_KEPT else None)
        return asked.result

    def _fresh(self, array: np.ndarray) -> int:
        """The bytes of an array that is not held yet."""
        if id(array) in self._arrays:
            return 0
        self._arrays.add(id(array))
        return array.nbytes


_recording: ContextVar[_Recording | None] = ContextVar("_recording", default=None)


@contextmanager
def recorded(before: Record | None) -> Iterator[Record | None]:
    """Record the planning within, which takes from `before` what coefficients decided; without it nothing is kept.

    Yields the record, which is complete at the end.
    """
    own = None if before is None else _Recording(before)
    token = _recording.set(own)
    try:
        yield None if own is None else own.record
    finally:
        _recording.reset(token)


def from_coefficients(
    function: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs
) -> Result:
    """`function(*arguments)`, or the same result of the planning before where its arguments were the same.

    The function is pure, takes no right-hand side, and nobody writes to its arguments or its result.
    """
    running = _recording.get()
    if running is None:
        return function(*arguments, **named)
    assert not named, "arguments that are compared are given by position"
    found: Result = running.result(function, arguments)
    return found


def _arrays(value: object) -> Iterator[np.ndarray]:
    """The arrays in a value; of a view the array that it is of, which is what is held."""
    if isinstance(value, np.ndarray):
        while isinstance(value.base, np.ndarray):
            value = value.base
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _arrays(part)
    elif isinstance(value, sparse.csr_array):
        yield from (value.data, value.indices, value.indptr)
    elif is_dataclass(value) and not isinstance(value, type):
        for part in fields(value):
            yield from _arrays(getattr(value, part.name))


def same(one: object, other: object) -> bool:
    """Whether two values are equal in every number, arrays in their type and form too."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape == other.shape and one.dtype == other.dtype and _same_numbers(one, other)
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, sparse.csr_array) and isinstance(other, sparse.csr_array):
        return one.shape == other.shape and all(
            same(getattr(one, part), getattr(other, part)) for part in ("data", "indices", "indptr")
        )
    if is_dataclass(one) and not isinstance(one, type):
        return all(same(getattr(one, part.name), getattr(other, part.name)) for part in fields(one))
    return bool(one == other)


def _same_numbers(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether arrays of one form are equal; the same memory is, and arrays that repeat are compared once."""
    at = one.__array_interface__["data"][0] == other.__array_interface__["data"][0]
    if at and one.strides == other.strides:
        return True
    if one.strides == other.strides and 0 in one.strides:
        held = tuple(slice(0, 1) if step == 0 else slice(None) for step in one.strides)
        one, other = one[held], other[held]
    return bool(np.array_equal(one, other))


__all__ = ["Record", "from_coefficients", "recorded", "same"]
