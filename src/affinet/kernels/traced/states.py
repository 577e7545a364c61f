"""States of laws as trees: dataclasses and tuples of arrays, which libraries without trees of their own store flat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from affinet.kernels.traced.library import Like


def map_states(function: Callable[..., Any], *states: Any) -> Any:
    """The state of results for the arrays of states of equal structure; None stays None."""
    first = states[0]
    if first is None:
        return None
    if is_dataclass(first) and not isinstance(first, type | Like):
        parts = {x.name: map_states(function, *(getattr(state, x.name) for state in states)) for x in fields(first)}
        return type(first)(**parts)
    if isinstance(first, tuple):
        made = [map_states(function, *parts) for parts in zip(*states, strict=True)]
        return type(first)(*made) if hasattr(first, "_fields") else tuple(made)
    return function(*states)


def arrays_of(state: Any) -> list[Any]:
    """The arrays of a state, in a fixed order."""
    arrays: list[Any] = []
    map_states(arrays.append, state)
    return arrays


def state_of(like: Any, arrays: Iterator[Any]) -> Any:
    """The state with the structure of `like` and the next of these arrays."""
    return map_states(lambda _: next(arrays), like)
