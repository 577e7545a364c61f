"""Bases of dense components: batches of small components, or a single large one, over y = √D z."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.dense import Dense
from affinet.kernels.torch.bases.basis import Constant, Kind
from affinet.kernels.torch.bases.tied_bases import Spread, join_flat, places_of, split_flat
from affinet.kernels.torch.bases.transform import reflectors
from affinet.kernels.torch.precision import exact_matmul
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

    def linear(self, v: Tensor) -> Tensor:
        """From all free numbers to y of shape (k, n)."""
        return self._reflected(self._free.put(v), transposed=False)

    def adjoint(self, y: Tensor) -> Tensor:
        """From (k, n) to all free numbers."""
        return self._free.pick(self._reflected(y, transposed=True))

    def picked(self, y: Tensor) -> Tensor:
        """The same: columns are orthonormal."""
        return self.adjoint(y)

    def _reflected(self, y: Tensor, *, transposed: bool) -> Tensor:
        wide = exact_matmul(y)[:, None]
        factors, triangle = self._factors.like(wide), self._triangle.like(wide)
        products = (wide @ factors) @ (triangle if transposed else triangle.mT)
        return (wide - products @ factors.mT)[:, 0].to(y.dtype)


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
        self._pivots = Constant(np.where(pivots >= 0, pivots, 0))
        self._real = Constant((pivots >= 0).astype(np.float64))

    def linear(self, v: Tensor) -> Tensor:
        """From all free numbers to y of shape (k, n)."""
        y = self._free.put(v)
        wide = exact_matmul(y)
        dependent = (self._follow.like(wide) @ wide[:, :, None])[:, :, 0].to(y.dtype) * self._real.like(y)
        return y.scatter_add(1, self._pivots.index(y, torch.int64), dependent)

    def adjoint(self, y: Tensor) -> Tensor:
        """From (k, n) to all free numbers."""
        wide = exact_matmul(y.gather(1, self._pivots.index(y, torch.int64)) * self._real.like(y))
        return self._free.pick(y + (wide[:, None] @ self._follow.like(wide))[:, 0].to(y.dtype))

    def picked(self, y: Tensor) -> Tensor:
        """The free numbers among y."""
        return self._free.pick(y)


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

    def put(self, v: Tensor) -> Tensor:
        """An array with `v` at the places, and zeros elsewhere."""
        if self._all:
            return v.view(self._shape)
        return torch.cat([v, v.new_zeros(1)]).index_select(0, self._source.index(v)).view(self._shape)

    def pick(self, x: Tensor) -> Tensor:
        """The numbers at the places, flat."""
        flat = x.reshape(-1)
        return flat if self._all else flat.index_select(0, self._where.index(flat))


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

    def linear(self, v: Tensor) -> tuple[Tensor, ...]:
        return split_flat(self._spread.expanded(self._batch.linear(v).reshape(-1)), self._sizes)

    def adjoint(self, gradients: tuple[Tensor, ...]) -> Tensor:
        return self._batch.adjoint(self._spread.summed(join_flat(gradients)).view(self._batch.shape))

    def picked(self, entries: tuple[Tensor, ...]) -> Tensor:
        return self._batch.picked(self._spread.picked(join_flat(entries)).view(self._batch.shape))


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
