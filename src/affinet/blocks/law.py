"""The laws of blocks: how the entries of a block are projected, once for every array library and for shards.

The kinds of linear equations implement `Projection`, and `Linear` makes it a law. Its verbs are generators. Numbers
that have to be added up over all holders of a block are *yielded* as a `Sum`, and the total is sent back. Where one
process holds the entire block, the total is the number that was yielded (`run_alone`); holders of shards run in
lockstep and add the numbers that all of them yield. A total is shared by all holders and must not be written to.

The kinds with inequalities implement `ConvexSet`, and `NormalMap` makes it a law, which learns from step to step.
Nonlinear equations implement `CurvedCells`, and `TangentMap` makes it a law. The verbs of both (`set_law.py`) run where
one process holds the entire block.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from affinet.blocks.mixed_map import MixedMap
from affinet.blocks.namespace import Array, Namespace
from affinet.blocks.normal_map import NormalMap
from affinet.blocks.tangent_map import TangentMap

Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class Sum:
    """Numbers to be added up over all holders of the block: one array of the same shape from each of them."""

    numbers: Array


@dataclass(frozen=True, eq=False)
class Swap:
    """Numbers for other holders of the block, who give theirs: the latter are sent back."""

    numbers: Array


Rounds = Generator[Sum | Swap, Array, Made]
"""A running verb: it yields the numbers to be added up, is sent the total, and returns its result in the end.

Parts of blocks that only some holders share (`kernels/torch/shards`) yield a `Swap` instead.
"""


def run_alone(rounds: Rounds[Made]) -> Made:
    """Run a verb where one process holds the entire block, so that each yielded number is the total already."""
    try:
        request = next(rounds)
        while True:
            request = rounds.send(request.numbers)
    except StopIteration as stop:
        result: Made = stop.value
        return result


class Projection(Protocol):
    """The projections of one block of linear equations, on its entries as an array of `shape`.

    Verbs may write to their argument `x`, and return an array of its shape and dtype. Axes over several vectors may
    come before the axes of `shape`.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """The entries in the order of the block's places, as the axes that the law works along."""

    @property
    def wide(self) -> bool:
        """Whether entries are read in float64 where the library has it, and rounded once when they are written back."""

    def nearest(self, xp: Namespace, x: Array) -> Rounds[Array]:
        """The nearest point that satisfies the block. Law: projecting twice is projecting once, to rounding."""

    def tangent(self, xp: Namespace, x: Array, *, floor: float = 0.0) -> Rounds[Array]:
        """`P x`; with a floor, zero where `|P x| < floor · (|x| + rms x)` in its own component, which is rounding."""

    def nearest_in_metric(self, xp: Namespace, x: Array, metric: Array) -> Rounds[Array]:
        """The feasible point nearest in `Σ metric_i dx_i²`, metric positive and of the shape of x."""


class BaseProjection(Projection, Protocol):
    """The projections of a block that can be the base of other equations."""

    def noise(self, xp: Namespace, x: Array) -> Array:
        """The size that rounding of `P x` is relative to, per entry; the same for entries that are made equal."""


Projected = TypeVar("Projected", bound=Projection, covariant=True)


@dataclass(frozen=True, eq=False)
class Linear(Generic[Projected]):
    """The law of linear equations: the same projections at every point and at every step.

    What the tangent removes from a gradient is `Aᵀν`; the multiplier of each equation as the user wrote it follows from
    it and the rules (`analysis/multipliers.py`).
    """

    projection: Projected

    @property
    def shape(self) -> tuple[int, ...]:
        return self.projection.shape

    @property
    def wide(self) -> bool:
        return self.projection.wide


Law = Linear[Any] | NormalMap[Any] | TangentMap[Any] | MixedMap
"""The law of a block: a projection for linear equations, and a sandwich around each step for convex and curved sets."""


def is_curved(law: Law) -> bool:
    """Whether the law is one of nonlinear rules, whose nearest points may not be found."""
    return isinstance(law, TangentMap | MixedMap)


def silenced(xp: Namespace, projected: Array, noise: Array) -> Array:
    """`projected` with zeros where its size is below that of the noise."""
    return xp.where(abs(projected) < noise, xp.array(0.0, projected), projected)


def trailing(x: Array, count: int, axes: tuple[int, ...]) -> tuple[int, ...]:
    """Axes of the last `count` axes of `x`, as they are counted in `x`."""
    return tuple(x.ndim - count + axis for axis in axes)


def mean_square(xp: Namespace, x: Array, axes: tuple[int, ...], count: int) -> Rounds[Array]:
    """The mean of the squares of `count` numbers over all holders, along axes that remain with length one."""
    total = yield Sum(xp.sum(x * x, axes))
    return total * (1.0 / max(1, count))


def ravelled(values: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Numbers that broadcast to a box, flattened to one per entry; a single number for all entries stays single."""
    return values.ravel() if values.size == 1 else np.broadcast_to(values, sizes).ravel()
