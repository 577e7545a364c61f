"""The convex set over tied entries: an inner set over one number per class, with all ties as equations.

The numbers are `ẑ = √D z`, D = Σ scale² of the class, so that distances among them are those among the entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Generic

import numpy as np

from affinet.blocks.classes import Classes, Means
from affinet.blocks.convex import ConvexSet, Face
from affinet.blocks.law import run_alone
from affinet.blocks.namespace import Array, Namespace, NumPy
from affinet.language.calculus.terms import Floats, Integers


@dataclass(frozen=True, eq=False)
class ReducedSet(Generic[Face]):
    """The entries of `classes` whose numbers ẑ, class after class in the shape of the inner set, are in that set."""

    classes: Classes
    inner: ConvexSet[Face]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.classes.class_of),)

    def norm(self, xp: Namespace, x: Array) -> Array:
        squares = xp.segment_sum(x * x, self.classes.class_of, self.classes.count)
        norms = self.inner.norm(xp, xp.reshape(squares**0.5, self.inner.shape))
        return xp.take(xp.reshape(xp.broadcast(norms, self.inner.shape), (self.classes.count,)), self.classes.class_of)

    def only(self, cells: Integers) -> None:
        """None: entries are in the order of the parameters, and not cell after cell."""

    def count(self) -> int:
        return max(1, round(self.inner.count() * len(self.classes.class_of) / self.classes.count))

    @property
    def rounds_tangents(self) -> bool:
        return True

    def bounds(self) -> tuple[Floats, Floats]:
        """Of tied entries that have opposite signs, one has the bounds of the other with the sides exchanged."""
        sides = [np.broadcast_to(side, self.inner.shape) for side in self.inner.bounds()]
        first, second = (self._expanded(NumPy(), side, affine=True) for side in sides)
        return np.minimum(first, second), np.maximum(first, second)

    def choose(self, xp: Namespace, condition: Array, first: Face, second: Face) -> Face:
        return self.inner.choose(xp, self._of_cells(xp, condition), first, second)

    def nearest(
        self, xp: Namespace, x: Array, metric: Array | None = None, guess: Face | None = None
    ) -> tuple[Array, Face]:
        if metric is None:
            point, face = self.inner.nearest(xp, self._reduced(xp, x, affine=True), None, guess)
        else:
            z, weight = run_alone(self._means.reduced_in_metric(xp, x, metric))
            weight = xp.reshape(weight / xp.array(self.classes.weight, x), self.inner.shape)
            point, face = self.inner.nearest(xp, self._rooted(xp, z), weight, guess)
        return self._expanded(xp, point, affine=True), face

    def marks(self, xp: Namespace, face: Face) -> tuple[Array, ...]:
        return self.inner.marks(xp, face)

    def clipped(self, xp: Namespace, x: Array) -> Array:
        """Entries of a class that is not between its bounds get the bits of one number, the others keep theirs."""
        numbers = self._reduced(xp, x, affine=True)
        inside = self.inner.clipped(xp, numbers)
        moved = xp.take(xp.reshape(inside != numbers, (self.classes.count,)), self.classes.class_of)
        return xp.where(moved, self._expanded(xp, inside, affine=True), x)

    def satisfies(self, xp: Namespace, x: Array, u: float) -> Array:
        numbers = self._reduced(xp, x, affine=True)
        tied = self._expanded(xp, numbers, affine=True)
        differs = abs(x - tied) > u * (abs(x) + abs(tied) + abs(xp.array(self.classes.shift, x)))
        torn = self.norm(xp, xp.where(differs, xp.array(1.0, x), xp.array(0.0, x))) > 0.0
        satisfied = xp.broadcast(self.inner.satisfies(xp, numbers, u), self.inner.shape)
        return ~torn & xp.take(xp.reshape(satisfied, (self.classes.count,)), self.classes.class_of)

    def onto(self, xp: Namespace, x: Array, face: Face) -> Array:
        return self._expanded(xp, self.inner.onto(xp, self._reduced(xp, x, affine=True), face), affine=True)

    def tangent_part(self, xp: Namespace, x: Array, face: Face) -> Array:
        return self._expanded(xp, self.inner.tangent_part(xp, self._reduced(xp, x, affine=False), face), affine=False)

    def land(self, xp: Namespace, z: Array, y: Array, tau: Array, face: Face, u: float) -> tuple[Array, Array, Face]:
        numbers, pull = self._reduced(xp, z, affine=True), self._reduced(xp, y, affine=False)
        point, normal, face = self.inner.land(xp, numbers, pull, self._of_cells(xp, tau), face, u)
        moved = self._expanded(xp, pull - normal, affine=False)
        return self._expanded(xp, point, affine=True), y - moved, face

    def normal(self, xp: Namespace, w: Array, v: Array, face: Face | None, u: float) -> tuple[Array, Face]:
        numbers, pull = self._reduced(xp, w, affine=True), self._reduced(xp, v, affine=False)
        normal, face = self.inner.normal(xp, numbers, pull, face, u)
        return v - self._expanded(xp, pull - normal, affine=False), face

    def _reduced(self, xp: Namespace, x: Array, *, affine: bool) -> Array:
        """ẑ of the nearest tied entries, in the shape of the inner set."""
        z, _ = run_alone(self._means.reduced(xp, x, affine=affine))
        return self._rooted(xp, z)

    def _rooted(self, xp: Namespace, z: Array) -> Array:
        return xp.reshape(z * xp.array(self._root, z), self.inner.shape)

    def _expanded(self, xp: Namespace, x: Array, *, affine: bool) -> Array:
        """Every entry from ẑ; equal and opposite entries get the same bits."""
        z = xp.reshape(x, (self.classes.count,)) / xp.array(self._root, x)
        return self._means.expanded(xp, z, affine=affine)

    def _of_cells(self, xp: Namespace, numbers: Array) -> Array:
        """Numbers of cells from an array like `norm`, in the shape of the inner norm."""
        return xp.reshape(xp.take(numbers, self._first_entries), self._cells)

    @cached_property
    def _cells(self) -> tuple[int, ...]:
        """The shape of the inner norm."""
        shape: tuple[int, ...] = self.inner.norm(NumPy(), np.zeros(self.inner.shape)).shape
        return shape

    @cached_property
    def _first_entries(self) -> Integers:
        """One entry of each cell."""
        entries = self.classes.representative.reshape(self.inner.shape)
        return entries[tuple(slice(0, size) for size in self._cells)].ravel()

    @cached_property
    def _means(self) -> Means:
        return Means(self.classes)

    @cached_property
    def _root(self) -> Floats:
        """`√D` of each class."""
        return np.sqrt(self.classes.weight)
