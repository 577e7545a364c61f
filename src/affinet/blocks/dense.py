"""A block of many small components: groups of equations on classes of tied entries, each with a dense basis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse

from affinet.blocks.classes import Classes, Means
from affinet.blocks.copies import renumber
from affinet.blocks.entry_sets import Mask
from affinet.blocks.gram import squared
from affinet.blocks.interval import Interval
from affinet.blocks.law import Linear, Rounds, silenced
from affinet.blocks.namespace import Array, Namespace
from affinet.blocks.nearest import project_cells
from affinet.blocks.phrases import solved_groups
from affinet.blocks.places import Listed, Part, entry_counts, no_places
from affinet.blocks.resolution import REGULAR, Resolution
from affinet.blocks.tally import Tally
from affinet.blocks.tied import Tied
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.system import lapack
from affinet.system.tolerance import Tolerance

MOST_NUMBERS = 2**20
"""The most coefficients of components over several weights that are factored to count the rank in each weight."""


@dataclass(frozen=True, eq=False)
class Dense:
    """Many small components of one shape: `basis_k @ y[members_k] == target_k`, y = √D z.

    `members` (k, n) numbers the classes of each component, `basis` (k, r, n) has orthonormal rows (zero rows where a
    component's rank is smaller), `target` is (k, r). `ambiguous` counts the components whose rank was decided close
    to the tolerance. `condition` is the largest condition number of their equations.
    """

    parts: tuple[Part, ...]
    classes: Classes
    members: Integers
    basis: Floats
    target: Floats
    ranks: Integers
    rules: tuple[int, ...]
    ambiguous: int = 0
    condition: float = 1.0

    @property
    def entries(self) -> Listed:
        """The places of its entries."""
        return Listed(self.parts)

    @property
    def size(self) -> int:
        return len(self.classes.class_of)

    @property
    def rank(self) -> int:
        return self.size - self.classes.count + int(self.ranks.sum())

    def sizes(self) -> dict[Parameter, int]:
        return entry_counts(self.entries)

    def freedom(self, place: int) -> float | None:
        """`P_ii = scale² / D · Q_mm`, Q the tangent projector of y = √D z."""
        components, member = np.nonzero(self.members == self.classes.class_of[place])
        if not len(components):
            return self.classes.share(place)
        normal = self.basis[components[0], :, member[0]]
        return self.classes.share(place) * float(1.0 - normal @ normal)

    def value(self, place: int) -> float | None:
        return None

    def mates(self, place: int) -> tuple[Integers, int | None]:
        return self.classes.mates(place)

    def determined(self, most: int) -> tuple[Integers, Floats]:
        return no_places(), np.zeros(0)

    def tied(self, most: int) -> Iterator[Tied]:
        return self.classes.tied(self.rules, most)

    def taken(self) -> dict[Parameter, Interval]:
        """The rank, for one parameter; for several, minus the rank over the classes of the other parameters."""
        if len({part.parameter for part in self.parts}) == 1:
            return {self.parts[0].parameter: Interval.of(self.rank)}
        taken_by_classes = self.classes.taken(self.parts)
        numbers = np.repeat(np.arange(len(self.parts)), [part.size for part in self.parts])
        counts = {}
        for number, part in enumerate(self.parts):
            inside = np.zeros(self.classes.count, bool)
            inside[self.classes.class_of[numbers == number]] = True
            low, high = self._taken_from(inside[self.members])
            counts[part.parameter] = Interval(
                taken_by_classes[part.parameter] + low, taken_by_classes[part.parameter] + high
            )
        return counts

    def _taken_from(self, inside: Mask) -> tuple[int, int]:
        """Bounds on the independent equations that follow for the classes marked by `inside` (k, n) alone."""
        touching = inside.any(axis=1)
        most = int(self.ranks[touching].sum())
        if int(touching.sum()) * self.basis[0].size > MOST_NUMBERS:
            return 0, most
        outside = np.where(inside[touching][:, None, :], 0.0, self.basis[touching])
        count = most - int((lapack.singular_values(outside) > 1e-9).sum())
        return count, count

    def fixed(self) -> dict[Parameter, int]:
        full = self.ranks == self.members.shape[1]
        if not full.any():
            return {}
        known = np.zeros(self.classes.count, bool)
        known[self.members[full].ravel()] = True
        counts, first = Counter[Parameter](), 0
        for part in self.parts:
            counts[part.parameter] += int(known[self.classes.class_of[first : first + part.size]].sum())
            first += part.size
        return dict(counts)

    def resolution(self) -> Resolution:
        k, r, _ = self.basis.shape
        linked = not self.classes.plain
        return replace(REGULAR, irregular=True, linked=linked, uncertain=r > 1, groups=(int(k), int(r)))

    def condition_of_extra(self) -> float:
        return 1.0

    def solves_in_metric(self) -> int | None:
        return 0

    def tally(self) -> Tally:
        return Tally(equations=Interval.of(self.rank), among=self.size)

    def describe(self) -> str:
        k, r, _ = self.basis.shape
        return solved_groups(k, r)

    def bytes_a_step(self) -> int:
        return self.classes.bytes_a_step() + 2 * int(self.basis.nbytes)

    def renumbered(self, numbers: Mapping[int, int]) -> Dense:
        return replace(self, rules=renumber(self.rules, numbers))

    def homogeneous(self) -> Dense:
        return replace(self, target=np.zeros(self.target.shape))

    def projected(self, vectors: Floats, *, affine: bool) -> Floats:
        """Of a base, which is one component of entries without ties."""
        return project_cells(vectors, self.basis[0], self.target if affine else None)

    def gram(self, rows: sparse.csr_array) -> Floats:
        normal = np.asarray(rows @ self.basis[0].T)
        return np.asarray(squared(rows) - normal @ normal.T)

    def unsure(self, vectors: Floats, tolerance: Tolerance) -> Floats:
        basis = self.basis[0]
        return self.condition * tolerance.rank(*basis.shape) * np.asarray(np.linalg.norm(vectors @ basis.T, axis=1))

    def partners(self, place: int) -> list[tuple[int, float]]:
        return []

    def pinned_value(self, place: int) -> float | None:
        return None

    def law(self) -> Linear[Components]:
        """The law over its entries, as one flat row, part after part."""
        return Linear(Components(self, Means(self.classes)))


@dataclass(frozen=True, eq=False)
class Components:
    """The projection of small components: class means, then `y − Qᵀ(Q y − target)` in every component, and back.

    Each component belongs to one holder: the only sums over shards are those of the class means.
    """

    block: Dense
    means: Means

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.block.classes.class_of),)

    @property
    def wide(self) -> bool:
        """Whether entries are tied; otherwise rows of the bases are orthonormal in the dtype of the entries."""
        return not self.means.identical

    def nearest(self, xp: Namespace, x: Array) -> Rounds[Array]:
        z, _ = yield from self.means.reduced(xp, x, affine=True)
        return self.means.expanded(xp, self._moved(xp, z, affine=True), affine=True)

    def tangent(self, xp: Namespace, x: Array, *, floor: float = 0.0) -> Rounds[Array]:
        z, sizes = yield from self.means.reduced(xp, x, affine=False, squares=floor > 0.0)
        y = self.means.expanded(xp, self._moved(xp, z, affine=False), affine=False)
        if not floor or sizes is None:
            return y
        sizes = self._members(xp, sizes)
        rms = (xp.sum(sizes * sizes, (sizes.ndim - 1,)) * (1.0 / self.block.members.shape[1])) ** 0.5
        return silenced(xp, y, self.means.spread(xp, self._classes(xp, (rms + sizes) * floor)))

    def nearest_in_metric(self, xp: Namespace, x: Array, metric: Array) -> Rounds[Array]:
        """Law: `y − D⁻¹Qᵀ (Q D⁻¹ Qᵀ)⁻¹ (Q y − target)` in every component, with D the metric of the classes."""
        z, weight = yield from self.means.reduced_in_metric(xp, x, metric)
        y = self._members(xp, z * xp.array(self._root, x))
        ease = self._members(xp, xp.array(self.block.classes.weight, x) / weight)
        k, n = self.block.members.shape
        basis = xp.array(self.block.basis, x)
        eased = basis * xp.reshape(ease, (k, 1, n))
        # A component of smaller rank has rows of zeros, which must not make its system singular.
        empty = np.abs(self.block.basis).max(axis=2, initial=0.0) == 0.0
        system = xp.matmul(eased, xp.permute(basis, (0, 2, 1))) + xp.array(empty[:, None] * np.eye(empty.shape[1]), x)
        solved = xp.solve(system, self._products(xp, y) - xp.array(self.block.target, x))
        y = y - xp.reshape(xp.matmul(xp.reshape(solved, (k, 1, basis.shape[1])), eased), (k, n))
        return self.means.expanded(xp, self._classes(xp, y) / xp.array(self._root, x), affine=True)

    def noise(self, xp: Namespace, x: Array) -> Array:
        return abs(x)

    def _moved(self, xp: Namespace, z: Array, *, affine: bool) -> Array:
        """The numbers of the classes after the projection."""
        root = None if self.means.identical else xp.array(self._root, z)
        y = self._members(xp, z if root is None else z * root)
        gap = self._products(xp, y)
        if affine:
            gap = gap - xp.array(self.block.target, z)
        y = self._classes(xp, y - self._transposed(xp, gap))
        return y if root is None else y / root

    def _products(self, xp: Namespace, y: Array) -> Array:
        """`Q y` (…, components, equations)."""
        basis, lead = self.block.basis, tuple(y.shape[:-2])
        k, r, n = basis.shape
        if k == 1:
            product = xp.matmul(xp.reshape(y, (*lead, n)), xp.permute(xp.array(basis[0], y), (1, 0)))
        else:
            transposed = xp.permute(xp.array(basis, y), (0, 2, 1))
            product = xp.matmul(xp.reshape(y, (*lead, k, 1, n)), transposed)
        return xp.reshape(product, (*lead, k, r))

    def _transposed(self, xp: Namespace, gap: Array) -> Array:
        """`Qᵀ gap` (…, components, entries)."""
        basis, lead = self.block.basis, tuple(gap.shape[:-2])
        k, r, n = basis.shape
        if k == 1:
            across = xp.matmul(xp.reshape(gap, (*lead, r)), xp.array(basis[0], gap))
        else:
            across = xp.matmul(xp.reshape(gap, (*lead, k, 1, r)), xp.array(basis, gap))
        return xp.reshape(across, (*lead, k, n))

    def _members(self, xp: Namespace, z: Array) -> Array:
        """Numbers of classes as (…, components, entries)."""
        return xp.take(z, self.block.members)

    def _classes(self, xp: Namespace, y: Array) -> Array:
        """The numbers of components (…, components, entries), reordered by class; every class occurs once."""
        return xp.take(xp.reshape(y, (*y.shape[:-2], self.block.members.size)), self._order)

    @cached_property
    def _order(self) -> Integers:
        """The index of each class among the members."""
        return np.argsort(self.block.members.ravel())

    @cached_property
    def _root(self) -> Floats:
        """`√D` of each class."""
        return np.sqrt(self.block.classes.weight)
