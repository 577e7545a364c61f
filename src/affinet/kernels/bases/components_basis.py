"""Bases of dense components: batches of small components, or a single large one, over y = √D z."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affinet.blocks.dense import Dense
from affinet.kernels.bases.basis import Kind
from affinet.kernels.bases.operations import Array, Constant, Operations
from affinet.kernels.bases.tied_bases import Spread, join_flat, places_of, split_flat
from affinet.kernels.bases.transform import reflectors
from affinet.language.calculus.terms import Floats, Integers
from affinet.system import lapack


class ReflectedBatch:
    """Orthonormal complements of a batch of rows (k, r, n), each by its reflectors; rows of zeros reflect nothing.

    `y = H [0; v]` with `H = I − V T Vᵀ`, so that a component of smaller rank has more free numbers.
    """

    def __init__(self, basis: Floats) -> None:
        self.shape = (basis.shape[0], basis.shape[2])
        factors, triangle = reflectors(basis)
        self._factors, self._triangle = Constant(factors), Constant(triangle)
        pivotal = np.zeros(self.shape, bool)
        pivotal[:, : basis.shape[1]] = (basis != 0.0).any(2)
        self._free = Places(~pivotal)
        self.free = self._free.count

    def linear(self, xp: Operations, v: Array) -> Array:
        """From all free numbers to y of shape (k, n)."""
        return self._reflected(xp, self._free.put(xp, v), transposed=False)

    def adjoint(self, xp: Operations, y: Array) -> Array:
        """From (k, n) to all free numbers."""
        return self._free.pick(xp, self._reflected(xp, y, transposed=True))

    def picked(self, xp: Operations, y: Array) -> Array:
        """The same: columns are orthonormal."""
        return self.adjoint(xp, y)

    def _reflected(self, xp: Operations, y: Array, *, transposed: bool) -> Array:
        wide = xp.exact(y)[:, None]
        factors, triangle = xp.numbers(self._factors, wide), xp.numbers(self._triangle, wide)
        products = xp.matmul(xp.matmul(wide, factors), triangle if transposed else xp.transposed(triangle))
        return xp.cast((wide - xp.matmul(products, xp.transposed(factors)))[:, 0], y)


class EliminatedBatch:
    """Unknowns at pivots follow from the other unknowns of their component: `y_p = S y_f`."""

    def __init__(self, basis: Floats) -> None:
        self.shape = (basis.shape[0], basis.shape[2])
        pivots, follow = _single(basis) if len(basis) == 1 else _batch(basis)
        pivotal = np.zeros(self.shape, bool)
        each, row = np.nonzero(pivots >= 0)
        pivotal[each, pivots[each, row]] = True
        self._free = Places(~pivotal)
        self.free = self._free.count
        # Columns of `follow` at pivots are zero, so that it can be applied to all of y.
        self._follow = Constant(follow)
        # Rows of `follow` in the order of their pivots in y, and pivots in the order of the rows.
        self._pivotal, self._followed = Places(pivotal), Places(pivots >= 0)
        at_pivots = each * self.shape[1] + pivots[each, row]
        self._at_pivots = Constant(at_pivots)
        self._rows = Constant((each * pivots.shape[1] + row)[np.argsort(at_pivots)])

    def linear(self, xp: Operations, v: Array) -> Array:
        """From all free numbers to y of shape (k, n)."""
        y = self._free.put(xp, v)
        wide = xp.exact(y)
        dependent = xp.matmul(xp.numbers(self._follow, wide), wide[:, :, None])[:, :, 0]
        return y + self._pivotal.put(xp, xp.take(xp.cast(dependent, y).reshape(-1), self._rows, 0))

    def adjoint(self, xp: Operations, y: Array) -> Array:
        """From (k, n) to all free numbers."""
        wide = xp.exact(self._followed.put(xp, xp.take(y.reshape(-1), self._at_pivots, 0)))
        return self._free.pick(xp, y + xp.cast(xp.matmul(wide[:, None], xp.numbers(self._follow, wide))[:, 0], y))

    def picked(self, xp: Operations, y: Array) -> Array:
        """The free numbers among y."""
        return self._free.pick(xp, y)


class Places:
    """Marked places of an array, row-major: it writes numbers to these places among zeros, and reads them."""

    def __init__(self, marked: np.ndarray) -> None:
        self._shape = marked.shape
        flat = marked.ravel()
        self.count = int(flat.sum())
        self._all = self.count == flat.size
        self._where = Constant(np.flatnonzero(flat))
        source = np.where(flat, np.cumsum(flat) - 1, self.count)
        self._source = Constant(source)

    def put(self, xp: Operations, v: Array) -> Array:
        """An array with `v` at the places, and zeros elsewhere."""
        if self._all:
            return v.reshape(self._shape)
        return xp.take(xp.concat([v, xp.zeros(1, v)], 0), self._source, 0).reshape(self._shape)

    def pick(self, xp: Operations, x: Array) -> Array:
        """The numbers at the places, flat."""
        flat = x.reshape(-1)
        return flat if self._all else xp.take(flat, self._where, 0)


class ComponentsBasis:
    """The complements of all components, in y = √D z or in z itself (`free`), and the entries from these unknowns."""

    def __init__(self, block: Dense, kind: Kind) -> None:
        self.places = places_of(block.parts)
        self._sizes = [place.size for place in self.places]
        classes, order = block.classes, block.members.ravel()
        number = np.empty(classes.count, np.int64)
        number[order] = np.arange(classes.count)
        roots = np.sqrt(classes.weight[order])
        each = np.broadcast_to(classes.scale, classes.class_of.shape)
        unknown = number[classes.class_of]
        scale = each if kind == "free" else each / roots[unknown]
        self._spread = Spread(unknown, np.array(scale), classes.count, classes.representative[order])
        self._batch: ReflectedBatch | EliminatedBatch
        if kind == "free":
            self._batch = EliminatedBatch(block.basis * roots.reshape(block.members.shape)[:, None])
        else:
            self._batch = ReflectedBatch(block.basis)
        self.free = self._batch.free

    def linear(self, xp: Operations, v: Array) -> tuple[Array, ...]:
        return split_flat(xp, self._spread.expanded(xp, self._batch.linear(xp, v).reshape(-1)), self._sizes)

    def adjoint(self, xp: Operations, gradients: Sequence[Array]) -> Array:
        return self._batch.adjoint(xp, self._spread.summed(xp, join_flat(xp, gradients)).reshape(self._batch.shape))

    def picked(self, xp: Operations, entries: Sequence[Array]) -> Array:
        return self._batch.picked(xp, self._spread.picked(xp, join_flat(xp, entries)).reshape(self._batch.shape))


def _single(basis: Floats) -> tuple[Integers, Floats]:
    """Pivots (1, r) of one component and their rows S (1, r, n), by QR with column pivoting."""
    (rows,) = basis
    rows = rows[(rows != 0.0).any(1)]
    _, order = lapack.qr(rows, mode="r", pivoting=True)
    pivots, free = order[: len(rows)], order[len(rows) :]
    follow = np.zeros((basis.shape[1], basis.shape[2]))
    follow[: len(rows), free] = -lapack.solve(rows[:, pivots], rows[:, free]) if len(rows) else 0.0
    padded = np.full(basis.shape[1], -1, np.int64)
    padded[: len(rows)] = pivots
    return padded[None], follow[None]


def _batch(basis: Floats) -> tuple[Integers, Floats]:
    """Pivots (k, r), −1 where a component has no such row, and their rows S (k, r, n), for all components at once.

    Gauss–Jordan elimination with complete pivoting (Golub and Van Loan, 4th ed., 3.4.8).
    """
    matrix = np.array(basis)
    count, rows, size = matrix.shape
    pivots = np.full((count, rows), -1, np.int64)
    each = np.arange(count)
    scale = np.abs(matrix).max((1, 2), initial=0.0)
    used = np.zeros((count, rows), bool)
    for _ in range(rows):
        size_of = np.where(used[:, :, None], -1.0, np.abs(matrix)).reshape(count, -1)
        row, column = np.divmod(size_of.argmax(1), size)
        real = size_of.max(1) > 1e-10 * scale
        used[each, row] = True
        pivots[each[real], row[real]] = column[real]
        k, r, c = each[real], row[real], column[real]
        matrix[k, r] /= matrix[k, r, c][:, None]
        share = matrix[k, :, c]
        share[np.arange(len(k)), r] = 0.0
        matrix[k] -= share[:, :, None] * matrix[k, r][:, None]
    follow = -matrix
    k, r = np.nonzero(pivots >= 0)
    follow[k, :, pivots[k, r]] = 0.0
    follow[pivots < 0] = 0.0
    return pivots, follow
