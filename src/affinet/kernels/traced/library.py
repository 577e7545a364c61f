"""The protocol of an array library in which the laws of blocks run as pure functions.

`Namespace` has the operations that laws are written in; a `Library` adds what stands around them: entries of arrays in
their own shapes, dtypes, states, and calls of functions on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from affinet.blocks.namespace import Array, Namespace, NumPy

DType = Any
"""A dtype of the library."""


@dataclass(frozen=True)
class Like:
    """The shape and dtype of an array without its numbers."""

    shape: tuple[int, ...]
    dtype: DType


class Library(Protocol):
    """What the laws of blocks ask of an array library. No method writes to its arguments."""

    @property
    def xp(self) -> Namespace:
        """The operations of laws."""

    def dtype(self, name: str) -> DType:
        """The dtype of this name, or the widest one that the library can compute in."""

    def widest(self, dtypes: Sequence[DType]) -> DType:
        """The dtype of sums of numbers of these dtypes and of float32."""

    def eps(self, dtype: DType) -> float:
        """The distance from 1 to the next number."""

    def cast(self, x: Array, dtype: DType) -> Array:
        """The numbers in another dtype."""

    def at(self, x: Array, positions: np.ndarray) -> Array:
        """The entries of x at distinct row-major positions, in one row."""

    def put(self, x: Array, positions: np.ndarray, values: Array) -> Array:
        """X with a row of values at distinct row-major positions."""

    def slice(self, x: Array, starts: Sequence[int], sizes: Sequence[int]) -> Array:
        """The box of x with these sizes from `starts` on."""

    def with_slice(self, x: Array, starts: Sequence[int], values: Array) -> Array:
        """X with the box `values` from `starts` on."""

    def all(self, condition: Array) -> Array:
        """Whether the condition holds everywhere, as an array without axes."""

    def fused_either(self, condition: Array, first: Callable[[], Array], second: Callable[[], Array]) -> Array:
        """`first()` where the condition, an array without axes, holds, `second()` elsewhere, of operations on entries.

        Both are computed where a compiler fuses them with others and nothing across a condition.
        """

    def map(self, function: Callable[..., Any], *states: Any) -> Any:
        """The state of results for the arrays of states of equal structure."""

    def asks_host(self, verb: Callable[[Namespace, Array], Array], shape: tuple[int, ...]) -> bool:
        """Whether a verb asks for numbers on the host that the library does not have while it traces."""

    def called(self, verb: Callable[..., Any], shapes: Any, *states: Any) -> Any:
        """The result of `verb` for NumPy arrays, computed on the host; `shapes` is the state of its `Like`."""

    def derived_from(self, function: Callable[[Array], Array], smooth: Callable[[Array], Array], x: Array) -> Array:
        """`function(x)`, which has the derivative of the linear map `smooth` where the library differentiates it."""

    def without_derivative(self, function: Callable[..., Any], reason: str, *states: Any) -> Any:
        """`function(*states)`. Raises AttachError with this reason where the library differentiates it."""


def on_host(verb: Callable[..., Any], arrays: Sequence[Any]) -> Any:
    """The result of a verb in NumPy; as for tensors, infinities and NaN propagate without warnings."""
    with np.errstate(all="ignore"):
        return verb(NumPy(), *arrays)
