"""Keep results that follow from shapes and coefficients alone, so that planning with other right-hand sides skips them.

Right-hand sides enter the blocks linearly, and everything that takes long is decided without them: patterns, orders of
elimination, components, ranks, factors. Planning requests each such result by `from_coefficients`. While a planning is
recorded, arguments and results are stored in the order of the requests. The next planning compares the arguments of
each request with those at the same place, and reuses the result where they are equal. All work on right-hand sides is
done as always, so that blocks and refusals are those of a new planning, bit for bit.
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
"""Bytes of arguments and results that a record stores; later requests are computed anew. Equations read one by one take
about 200 bytes per coefficient (measured)."""


@dataclass(frozen=True, eq=False)
class Answer:
    """Arguments, the result, and the bytes of both that are not part of an earlier answer."""

    arguments: tuple[Any, ...]
    result: Any
    size: int


@dataclass(frozen=True, eq=False)
class Record:
    """Arguments and results of one planning, by function, in the order of the requests."""

    results: Mapping[Callable[..., Any], list[Answer | None]] = field(default_factory=dict)


class _Recording:
    """The state of a recorded planning: the record of the planning before, and the record being written."""

    def __init__(self, before: Record) -> None:
        self._before = before.results
        self._written: dict[Callable[..., Any], list[Answer | None]] = {}
        self._arrays: set[int] = set()
        self._bytes = 0
        self.record = Record(self._written)

    def result(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        written = self._written.setdefault(function, [])
        answers_before = self._before.get(function, ())
        answer = answers_before[len(written)] if len(written) < len(answers_before) else None
        if answer is None or not same(answer.arguments, arguments):
            token = _current_recording.set(None)  # a reused result makes no nested requests, so none are recorded
            try:
                result = function(*arguments)
            finally:
                _current_recording.reset(token)
            answer = Answer(arguments, result, sum(self._new_bytes(array) for array in _arrays((arguments, result))))
        self._bytes += answer.size
        written.append(answer if self._bytes <= MOST_KEPT else None)
        return answer.result

    def _new_bytes(self, array: np.ndarray) -> int:
        """The bytes of an array, 0 if it is stored already."""
        if id(array) in self._arrays:
            return 0
        self._arrays.add(id(array))
        return array.nbytes


_current_recording: ContextVar[_Recording | None] = ContextVar("_recording", default=None)


@contextmanager
def recorded(before: Record | None) -> Iterator[Record | None]:
    """Record the planning in this context, which reuses results of `before`; without `before` nothing is recorded.

    Yields the record, which is complete when the context ends.
    """
    recording = None if before is None else _Recording(before)
    token = _current_recording.set(recording)
    try:
        yield None if recording is None else recording.record
    finally:
        _current_recording.reset(token)


def from_coefficients(
    function: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs
) -> Result:
    """`function(*arguments)`, or the result of the planning before if its arguments were equal.

    The function must be pure and take no right-hand sides; its arguments and its result must not be written to.
    """
    running = _current_recording.get()
    if running is None:
        return function(*arguments, **named)
    assert not named, "arguments that are compared are given by position"
    result: Result = running.result(function, arguments)
    return result


def _arrays(value: object) -> Iterator[np.ndarray]:
    """The arrays in a value; for a view the array that owns its memory."""
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


def same(first: object, second: object) -> bool:
    """Whether two values are equal in every number, and arrays also in type and shape."""
    if first is second:
        return True
    if type(first) is not type(second):
        return False
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return first.shape == second.shape and first.dtype == second.dtype and _same_numbers(first, second)
    if isinstance(first, tuple | list) and isinstance(second, tuple | list):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, sparse.csr_array) and isinstance(second, sparse.csr_array):
        return first.shape == second.shape and all(
            same(getattr(first, part), getattr(second, part)) for part in ("data", "indices", "indptr")
        )
    if is_dataclass(first) and not isinstance(first, type):
        return all(same(getattr(first, part.name), getattr(second, part.name)) for part in fields(first))
    return bool(first == second)


def _same_numbers(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether arrays of equal shape are equal. The same memory is equal, and repeated entries are compared once."""
    same_start = first.__array_interface__["data"][0] == second.__array_interface__["data"][0]
    if same_start and first.strides == second.strides:
        return True
    if first.strides == second.strides and 0 in first.strides:
        distinct = tuple(slice(0, 1) if step == 0 else slice(None) for step in first.strides)
        first, second = first[distinct], second[distinct]
    return bool(np.array_equal(first, second))


__all__ = ["Record", "from_coefficients", "recorded", "same"]
