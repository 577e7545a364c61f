"""Many small components of equations on classes of tied entries, each with a dense basis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from affinet.blocks.classes import Classes
from affinet.blocks.copies import renumber
from affinet.blocks.entry_sets import Mask
from affinet.blocks.gram import squared
from affinet.blocks.interval import Interval
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
"""Numbers of components of several weights that are factored to tell how many of each weight are free."""


@dataclass(frozen=True, eq=False)
class Dense:
    """Many small components of one form: `basis_k @ y[members_k] == target_k`, y = √D z.

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
        """Where its entries lie."""
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
        which, member = np.nonzero(self.members == self.classes.class_of[place])
        if not len(which):
            return self.classes.share(place)
        normal = self.basis[which[0], :, member[0]]
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
        """Components of one parameter take their rank; of several, less the rank over the classes of the others."""
        if len({part.parameter for part in self.parts}) == 1:
            return {self.parts[0].parameter: Interval.of(self.rank)}
        tied = self.classes.taken(self.parts)
        numbers = np.repeat(np.arange(len(self.parts)), [part.size for part in self.parts])
        counts = {}
        for number, part in enumerate(self.parts):
            inside = np.zeros(self.classes.count, bool)
            inside[self.classes.class_of[numbers == number]] = True
            low, high = self._taken_from(inside[self.members])
            counts[part.parameter] = Interval(tied[part.parameter] + low, tied[part.parameter] + high)
        return counts

    def _taken_from(self, inside: Mask) -> tuple[int, int]:
        """Bounds on what the components take from the classes that `inside` (k, n) marks."""
        touching = inside.any(axis=1)
        most = int(self.ranks[touching].sum())
        if int(touching.sum()) * self.basis[0].size > MOST_NUMBERS:
            return 0, most
        others = np.where(inside[touching][:, None, :], 0.0, self.basis[touching])
        taken = most - int((lapack.singular_values(others) > 1e-9).sum())
        return taken, taken

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
        """As a base it is one component of entries as they are."""
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
