"""The closed set of blocks: each is exact on its entries, and no two share an entry; `entries` says where these lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy import sparse

from affinet.blocks.entry_sets import View
from affinet.blocks.fixed import Fixed
from affinet.blocks.offsets import Offsets
from affinet.blocks.places import Beside, Following, Listed, Part, Stepped, box, no_places
from affinet.language.calculus.terms import Floats, Integers, Parameter

LARGEST_FILL = 2**25
"""Numbers of a sparse factor up to which it is kept: a quarter of a gigabyte, twice (it comes as L and U)."""


@dataclass(frozen=True)
class Interval:
    """A count that is known only within bounds: `low <= count <= high`."""

    low: int
    high: int

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}..{self.high}"


def _one() -> Floats:
    return np.ones(1)


@dataclass(frozen=True, eq=False)
class Slices:
    """`basis @ w[cell] == target_c` on every cell `offset + outer_c + inner` of one parameter.

    `basis` (r, n) has orthonormal rows; `target` is (cells, r) or (1, r). `pinned` are inner places whose value is
    given, with `values` (cells | 1, pinned); `copies` are (member, representative, sign) of inner places that are
    equal or opposite: both are already implied by the basis, and are made exact to the bit. `ambiguous` is one where
    the rank was decided close to the tolerance. `amplified` (r,) is by how much rounding of the equilibrated equations
    grows in each row of the basis and its target: the norm of the combination of them that the row is.
    """

    parameter: Parameter
    offset: int
    outer: Offsets
    inner: Offsets
    basis: Floats
    target: Floats
    pinned: Integers
    values: Floats
    copies: Integers
    rules: tuple[int, ...]
    ambiguous: int = 0
    amplified: Floats = field(default_factory=_one)

    @property
    def entries(self) -> Stepped:
        """Where its entries lie."""
        return Stepped(self.parameter, self.offset, self.outer, self.inner)

    @property
    def condition(self) -> float:
        """The largest of these, about the condition number of the equations."""
        return float(self.amplified.max(initial=1.0))

    @property
    def size(self) -> int:
        return self.outer.size * self.inner.size

    @property
    def rank(self) -> int:
        return self.outer.size * len(self.basis)

    @property
    def even(self) -> bool:
        """Whether the one equation of a cell gives all of its entries the same coefficient."""
        return len(self.basis) == 1 and not any(self.basis.strides)


@dataclass(frozen=True, eq=False)
class Product:
    """Slices of one box of entries along sets of its loops, whose projections commute and agree.

    `inner_dims` are the loops inside the cells of each; sets of slices may share some. `rank` is that of all together.
    """

    view: View
    slices: tuple[Slices, ...]
    inner_dims: tuple[tuple[int, ...], ...]
    rank: int

    @property
    def entries(self) -> Stepped:
        """Where its entries lie."""
        return box(self.view)

    @property
    def rules(self) -> tuple[int, ...]:
        return tuple(sorted({rule for part in self.slices for rule in part.rules}))

    @property
    def size(self) -> int:
        return self.view.size

    @property
    def condition(self) -> float:
        return max(part.condition for part in self.slices)

    @property
    def separate(self) -> bool:
        """Whether no two sets of slices share a loop: the tangent projector is a tensor product."""
        inside = [axis for axes in self.inner_dims for axis in axes]
        return len(set(inside)) == len(inside)

    @property
    def even(self) -> bool:
        """Whether all are plain sums."""
        return all(part.even for part in self.slices)


@dataclass(frozen=True, eq=False)
class Mirror:
    """`x − sign · mirrored(x) == shift` where `mirrored` permutes and flips the loops of one box, twice is once.

    `without` are places of the flattened box, rising, with their images, that belong to another block.
    """

    view: View
    permutation: tuple[int, ...]
    flips: tuple[int, ...]
    sign: float
    shift: Floats
    rules: tuple[int, ...]
    without: Integers = field(default_factory=no_places)

    @property
    def entries(self) -> Following:
        """Where its entries lie; one that equals itself is read, and no equation is about it."""
        unmoved = (lambda at: self.images(at) == at) if self.sign > 0 else None
        return Following((box(self.view),), self.without, unmoved)

    @property
    def condition(self) -> float:
        return 1.0  # no two of its equations share an entry

    @property
    def size(self) -> int:
        """Entries that the equations speak of: an entry that equals itself is left out."""
        return self.view.size - len(self.without) - (self.fixed_points if self.sign > 0 else 0)

    @cached_property
    def fixed_points(self) -> int:
        """Entries of the block that are their own mirror image."""
        count, seen = 1, set()
        for axis, other in enumerate(self.permutation):
            if axis in seen:
                continue
            seen |= {axis, other}
            n = self.view.dims[axis][0]
            count *= n % 2 if other == axis and axis in self.flips else n
        return count - int((self.images(self.without) == self.without).sum())

    @property
    def rank(self) -> int:
        pairs = (self.view.size - len(self.without) - self.fixed_points) // 2
        return pairs if self.sign > 0 else pairs + self.fixed_points

    def images(self, places: Integers) -> Integers:
        """The mirror images of places of the flattened box."""
        sizes = tuple(size for size, _ in self.view.dims)
        if not sizes or not len(places):
            return places
        index = np.unravel_index(places, sizes)
        image = [index[0]] * len(sizes)
        for axis, other in enumerate(self.permutation):
            image[other] = sizes[axis] - 1 - index[axis] if axis in self.flips else index[axis]
        return np.ravel_multi_index(tuple(image), sizes).astype(np.int64)


@dataclass(frozen=True, eq=False)
class MirroredProduct:
    """A product and a mirror of the same box that takes each of its parts to one of them: the projections commute.

    `mirror` has the loops of the product's view; `rank` counts the equations of both that are independent.
    """

    mirror: Mirror
    product: Product
    rank: int

    @property
    def entries(self) -> Stepped:
        """Where its entries lie."""
        return self.product.entries

    @property
    def condition(self) -> float:
        return self.product.condition

    @property
    def rules(self) -> tuple[int, ...]:
        return tuple(sorted({*self.mirror.rules, *self.product.rules}))

    @property
    def size(self) -> int:
        return self.product.size


@dataclass(frozen=True, eq=False)
class Pairs:
    """`first == ratio · second + shift`, entry by entry of two boxes that share no entry.

    `without` are places of the flattened boxes, rising, that belong to another block on both sides.
    """

    first: View
    second: View
    ratio: float
    shift: Floats
    rules: tuple[int, ...]
    without: Integers = field(default_factory=no_places)

    @property
    def entries(self) -> Following:
        """Where its entries lie."""
        return Following(
            (box(self.first), box(self.second)), np.concatenate([self.without, self.without + self.first.size])
        )

    @property
    def condition(self) -> float:
        return 1.0  # no two of its equations share an entry

    @property
    def size(self) -> int:
        return 2 * self.rank

    @property
    def rank(self) -> int:
        return self.first.size - len(self.without)


@dataclass(frozen=True, eq=False)
class Classes:
    """Tied entries: `w_i = scale_i · z[class_i] + shift_i`, one free number z a class.

    `class_of`, `scale`, `shift` follow the order of the block's parts; `scale` and `shift` may be of length one
    (the same for all). `representative` is the entry of each class with scale 1 and shift 0 (the largest |scale|).
    """

    class_of: Integers
    scale: Floats
    shift: Floats
    representative: Integers

    @property
    def count(self) -> int:
        return len(self.representative)

    @cached_property
    def weight(self) -> Floats:
        """`D = Σ scale²` of each class: the metric that the free numbers carry."""
        scale = np.broadcast_to(self.scale, self.class_of.shape)
        return np.bincount(self.class_of, scale * scale, self.count).astype(np.float64, copy=False)

    @property
    def plain(self) -> bool:
        """No two entries share a class: there is nothing to average."""
        return self.count == len(self.class_of)


@dataclass(frozen=True, eq=False)
class Ties:
    """Classes of tied entries, every class free."""

    parts: tuple[Part, ...]
    classes: Classes
    rules: tuple[int, ...]

    @property
    def entries(self) -> Listed:
        """Where its entries lie."""
        return Listed(self.parts)

    @property
    def size(self) -> int:
        return len(self.classes.class_of)

    @property
    def rank(self) -> int:
        return self.size - self.classes.count


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


@dataclass(frozen=True, eq=False)
class Sparse:
    """One large component: `matrix @ y == rhs`, y = √D z, rows of norm one.

    `independent` says that its rows are known to be linearly independent, so that `matrix @ matrix.T` can be factored;
    `fill` is how many numbers its factor holds at most. Otherwise conjugate gradients solve the consistent system.
    """

    parts: tuple[Part, ...]
    classes: Classes
    matrix: sparse.csr_array
    rhs: Floats
    rank_of_rows: Interval
    independent: bool
    fill: int
    rules: tuple[int, ...]
    ambiguous: int = 0

    @property
    def entries(self) -> Listed:
        """Where its entries lie."""
        return Listed(self.parts)

    @property
    def factored(self) -> bool:
        """Whether `matrix @ matrix.T` has a factor that is small enough to keep."""
        return self.independent and self.fill <= LARGEST_FILL

    @property
    def size(self) -> int:
        return len(self.classes.class_of)

    @property
    def rank(self) -> int | Interval:
        tied = self.size - self.classes.count
        low, high = self.rank_of_rows.low + tied, self.rank_of_rows.high + tied
        return low if low == high else Interval(low, high)


@dataclass(frozen=True, eq=False)
class Joined:
    """Boxes of several parameters side by side as one matrix (cells, places), and the equations of that.

    Each of `members` has its loops over cells first; its places are the columns of the matrix after those of the
    members before it. `base` is about one weight that stands for the matrix, row-major.
    """

    members: tuple[View, ...]
    cells: int
    base: Slices | Product

    @property
    def rules(self) -> tuple[int, ...]:
        return self.base.rules

    @property
    def size(self) -> int:
        return self.base.size

    @property
    def rank(self) -> int:
        return self.base.rank

    @property
    def condition(self) -> float:
        return self.base.condition

    @property
    def parts(self) -> tuple[Slices, ...]:
        """All sets of slices of the matrix."""
        return (self.base,) if isinstance(self.base, Slices) else self.base.slices

    @property
    def matrix(self) -> Parameter:
        """The weight that `base` is about."""
        return self.within.parameter

    @property
    def within(self) -> Slices:
        """What is said about every cell."""
        return self.base if isinstance(self.base, Slices) else self._along((1,))

    @property
    def across(self) -> Slices | None:
        """What is said about every column, if anything is."""
        return None if isinstance(self.base, Slices) else self._along((0,))

    def _along(self, axes: tuple[int, ...]) -> Slices:
        assert isinstance(self.base, Product)
        return self.base.slices[self.base.inner_dims.index(axes)]

    @cached_property
    def entries(self) -> Beside:
        """Where its entries lie."""
        return Beside(self.members, self.cells)

    @property
    def columns(self) -> tuple[int, ...]:
        """The first column of the matrix that each member has, and how many columns there are in all."""
        return self.entries.bounds


Base = Slices | Product | Mirror | MirroredProduct | Pairs | Dense | Joined


@dataclass(frozen=True, eq=False)
class Bordered:
    """Bases that share no entry, and a few more equations `matrix @ x == rhs` over their entries and `loose` ones.

    x holds the entries of the bases one after the other, each in the order in which it is read, and then the loose
    ones. With P the tangent projector of the bases (the identity on loose entries) and S = matrix P matrixᵀ, the
    pseudo-inverse of S is `factor @ factor.T`, of shape (equations, rank). `pinned` are places whose value is given,
    with `values`; `copies` are (member, representative, sign) of places that are equal or opposite: both are already
    implied, and are made exact to the bit.
    """

    bases: tuple[Base, ...]
    loose: tuple[Part, ...]
    matrix: sparse.csr_array
    rhs: Floats
    factor: Floats
    pinned: Integers
    values: Floats
    copies: Integers
    rules: tuple[int, ...]
    ambiguous: int = 0

    @property
    def entries(self) -> Following:
        """Where its entries lie."""
        return Following((*(base.entries for base in self.bases), Listed(self.loose)))

    @property
    def extra(self) -> int:
        """Equations beside those of the bases."""
        return len(self.rhs)

    @property
    def size(self) -> int:
        return sum(base.size for base in self.bases) + sum(part.size for part in self.loose)

    @property
    def rank(self) -> int:
        return sum(base.rank for base in self.bases) + int(self.factor.shape[1])


Block = Slices | Product | Mirror | MirroredProduct | Pairs | Fixed | Ties | Dense | Sparse | Bordered | Joined
