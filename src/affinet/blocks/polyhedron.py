"""A block of polyhedra: equations, inequalities and bounds on classes of tied entries, in cells of one size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from affinet.blocks.classes import Classes, Means
from affinet.blocks.convex import ConvexSet
from affinet.blocks.copies import renumber
from affinet.blocks.entry_sets import Mask
from affinet.blocks.interval import Interval
from affinet.blocks.normal_map import NormalMap
from affinet.blocks.phrases import many
from affinet.blocks.places import Listed, Part, entry_counts, no_places
from affinet.blocks.polyhedral_set import MOST_SMALL, PolyhedralFace, PolyhedralSet
from affinet.blocks.programs.gram_factor import FILLED, products_of
from affinet.blocks.reduced_set import ReducedSet
from affinet.blocks.resolution import REGULAR, Core, Resolution
from affinet.blocks.tally import Tally
from affinet.blocks.tied import Tied
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.system import lapack
from affinet.system.norms import norms_of_rows
from affinet.system.tolerance import Tolerance

MOST_FACTORED = 2**22
"""Most coefficients of equations whose rank is that of singular values, which take some seconds; otherwise bounds."""


@dataclass(frozen=True, eq=False)
class Polyhedron:
    """Cells of one size: `matrix_k z_k = rhs_k` in the first `equations` rows, `≤` in the others, and bounds.

    z_k are the free numbers of the classes k·n … k·n + n − 1. `matrix` (cells or 1, m, n), or a csr_array (m, n) of one
    cell, `rhs` (cells, m), `lower` and `upper` (cells, n), which may be infinite.
    """

    parts: tuple[Part, ...]
    classes: Classes
    matrix: Any
    rhs: Floats
    equations: int
    lower: Floats
    upper: Floats
    rules: tuple[int, ...]

    @property
    def entries(self) -> Listed:
        """The places of its entries."""
        return Listed(self.parts)

    @property
    def size(self) -> int:
        return len(self.classes.class_of)

    @property
    def rank(self) -> int | Interval:
        low, high = (self.size - self.classes.count + int(self._fixed.sum()) + bound for bound in self._rank_of_rows)
        return low if low == high else Interval(low, high)

    @property
    def ambiguous(self) -> int:
        return 0

    def sizes(self) -> dict[Parameter, int]:
        return entry_counts(self.entries)

    def freedom(self, place: int) -> float | None:
        """`P_ii = scale² / D · Q_mm`, Q the tangent projector of the equations of the cell."""
        cell, node = divmod(int(self.classes.class_of[place]), self.lower.shape[1])
        if self._fixed[cell, node]:
            return 0.0
        if not self.equations:
            return self.classes.share(place)
        if not self._few_numbers:
            return None
        basis = self._equation_factors[2][cell, : self._ranks[cell]]
        return self.classes.share(place) * float(1.0 - basis[:, node] @ basis[:, node])

    def value(self, place: int) -> float | None:
        number = int(self.classes.class_of[place])
        if not self._fixed.ravel()[number]:
            return None
        scale, shift = (float(part[place if len(part) > 1 else 0]) for part in (self.classes.scale, self.classes.shift))
        return scale * float(self.lower.ravel()[number]) + shift

    def mates(self, place: int) -> tuple[Integers, int | None]:
        return self.classes.mates(place)

    def determined(self, most: int) -> tuple[Integers, Floats]:
        """The entries whose bounds are equal."""
        if not self._fixed.any() or self.size > most:
            return no_places(), np.zeros(0)
        numbers = self.classes.class_of
        places = np.flatnonzero(self._fixed.ravel()[numbers])
        scale, shift = (np.broadcast_to(part, numbers.shape) for part in (self.classes.scale, self.classes.shift))
        values: Floats = scale[places] * self.lower.ravel()[numbers[places]] + shift[places]
        return places, values

    def tied(self, most: int) -> Iterator[Tied]:
        return self.classes.tied(self.rules, most)

    def taken(self) -> dict[Parameter, Interval]:
        """The rank, for one parameter; for several, bounds: from their ties alone, up to all equations."""
        sizes = self.sizes()
        if len(sizes) == 1:
            return dict.fromkeys(sizes, Interval.of(self.rank))
        least, most = self.classes.taken(self.parts), Interval.of(self.rank).high
        return {each: Interval(least[each], min(most, count)) for each, count in sizes.items()}

    def fixed(self) -> dict[Parameter, int]:
        if not self._fixed.any():
            return {}
        counts, first, fixed = Counter[Parameter](), 0, self._fixed.ravel()[self.classes.class_of]
        for part in self.parts:
            counts[part.parameter] += int(fixed[first : first + part.size].sum())
            first += part.size
        return dict(counts)

    def resolution(self) -> Resolution:
        cells, m = self.rhs.shape
        linked = not self.classes.plain
        rank = Interval(*self._rank_of_rows)
        core = None if rank.low == rank.high else Core(self.equations, rank)
        return replace(
            REGULAR, irregular=True, linked=linked, uncertain=m > 1, groups=(cells, m), core=core,
            searched=m if self._coupled else 0,
        )  # fmt: skip

    def condition_of_extra(self) -> float:
        return 1.0

    def solves_in_metric(self) -> int | None:
        return 0

    def tally(self) -> Tally:
        return Tally(equations=Interval.of(self.rank), among=self.size)

    def describe(self) -> str:
        cells, m = self.rhs.shape
        bounds = int((np.isfinite(self.lower).sum() + np.isfinite(self.upper).sum()) // cells)
        counts = ((self.equations, "equation", "equations"), (m - self.equations, "inequality", "inequalities"))
        words = [many(count, *phrase) for count, *phrase in (*counts, (bounds, "bound", "bounds")) if count]
        listed = " and ".join(filter(None, [", ".join(words[:-1]), words[-1] if words else ""]))
        return f"{many(cells, 'polyhedron', 'polyhedra, each')} of {listed}, solved by their active constraints"

    def bytes_a_step(self) -> int:
        numbers = self.matrix.data if self._sparse else self.matrix
        return self.classes.bytes_a_step() + 4 * int(numbers.nbytes)

    def renumbered(self, numbers: Mapping[int, int]) -> Polyhedron:
        return replace(self, rules=renumber(self.rules, numbers))

    def law(self) -> NormalMap[PolyhedralFace]:
        """The law over its entries: without ties as cells (cells, n), otherwise as one flat row, part after part."""
        root = np.sqrt(self.classes.weight).reshape(self.lower.shape)
        # Without ties, roots are all one, and bounds keep their bits.
        rows = self._over_roots(root)
        inner = PolyhedralSet(rows, self.rhs, self.equations, self.lower * root, self.upper * root)
        in_order = bool((self.classes.class_of == np.arange(self.size)).all())
        convex: ConvexSet[PolyhedralFace] = inner
        if not (in_order and Means(self.classes).identical):
            convex = ReducedSet(self.classes, inner)
        return NormalMap(convex)

    def _over_roots(self, root: Floats) -> Any:
        """The rows on ẑ = √D z; one copy where all cells have the same rows."""
        if self._sparse:
            return sparse.csr_array(self.matrix.multiply(1.0 / root).tocsr())
        repeated = len(self.matrix) == 1 or self.matrix.strides[0] == 0
        if repeated and bool((root == root[:1]).all()):
            return self.matrix[:1] / root[:1, None]
        return self.matrix / root[:, None]

    @property
    def _sparse(self) -> bool:
        return bool(sparse.issparse(self.matrix))

    @cached_property
    def _coupled(self) -> bool:
        """Whether this is one cell most rows of which share entries with each other."""
        if len(self.lower) > 1 or self.lower.size <= MOST_SMALL:
            return False
        return not self._sparse or products_of(self.matrix) > FILLED * self.rhs.size**2

    @property
    def _few_numbers(self) -> bool:
        """Whether the equations are few enough for singular values."""
        return self.equations * self.lower.size <= MOST_FACTORED

    @cached_property
    def _rank_of_rows(self) -> tuple[int, int]:
        """Bounds on the independent equations over the entries that are not fixed."""
        if self._few_numbers:
            return int(self._ranks.sum()), int(self._ranks.sum())
        return 0, len(self.lower) * min(self.equations, self.lower.shape[1])

    @cached_property
    def _fixed(self) -> Mask:
        """Entries of cells (cells, n) whose bounds are equal."""
        return np.asarray(self.lower == self.upper)

    @cached_property
    def _equation_factors(self) -> tuple[Floats, Floats, Floats]:
        """The singular value decomposition of the equations of each cell, on ẑ = √D z, without fixed entries."""
        root = np.sqrt(self.classes.weight).reshape(self.lower.shape)
        rows = self._over_roots(root)
        rows = rows[: self.equations].toarray()[None] if self._sparse else rows[:, : self.equations]
        norms = norms_of_rows(rows)
        rows = np.where(self._fixed[:, None], 0.0, rows / np.where(norms > 0.0, norms, 1.0)[..., None])
        return lapack.svd(rows, full_matrices=False)

    @cached_property
    def _ranks(self) -> Integers:
        """Independent equations of each cell, besides those of fixed entries."""
        if not self.equations:
            return np.zeros(len(self.lower), np.int64)
        values = self._equation_factors[1]
        tolerance = Tolerance().rank(self.equations, self.lower.shape[1])
        largest = values.max(axis=1, initial=0.0, keepdims=True)
        return np.asarray((values > tolerance * np.maximum(largest, 1e-300)).sum(axis=1), np.int64)
