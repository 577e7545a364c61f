"""The sources of the entries of one parameter: pieces of bases, and entries in no rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affinet.kernels.bases.basis import Basis
from affinet.kernels.bases.operations import Array, Constant, Operations


class Assembly:
    """Joins what bases compute of one parameter, and its entries in no rule, in the order of the parameter.

    `pieces` are (number of the basis, number of its place); `untouched` are positions of the entries in no rule.
    """

    def __init__(self, name: str, shape: tuple[int, ...], bases: Sequence[Basis]) -> None:
        self.shape = shape
        size = int(np.prod(shape, dtype=np.int64))
        self.pieces: list[tuple[int, int]] = []
        touched, where = np.zeros(size, bool), []
        for number, basis in enumerate(bases):
            for at, place in enumerate(basis.places):
                if place.name == name and place.size:
                    positions = np.arange(size) if place.positions is None else place.positions
                    touched[positions] = True
                    if basis.free:
                        self.pieces.append((number, at))
                        where.append(positions)
        self.untouched = np.flatnonzero(~touched)
        positions = np.concatenate([np.zeros(0, np.int64), *where, self.untouched])
        self.sizes = [len(part) for part in (*where, self.untouched)]
        self._in_order = len(positions) == size and bool((positions == np.arange(size)).all())
        # Entries without a source are read from a zero after the last piece.
        source = np.full(size, len(positions))
        source[positions] = np.arange(len(positions))
        self._complete = len(positions) == size
        self._source, self._positions = Constant(source), Constant(positions)

    def only_piece(self, pieces: Sequence[Array]) -> Array | None:
        """The piece that is the entire parameter in order, if there is one."""
        present = [piece for piece, size in zip(pieces, self.sizes, strict=True) if size]
        return present[0] if self._in_order and len(present) == 1 else None

    def gathered(self, xp: Operations, pieces: Sequence[Array]) -> Array:
        """The concatenated pieces, in the order of the entries."""
        side = xp.concat(pieces if self._complete else (*pieces, xp.zeros(1, pieces[0])), 0)
        return side if self._in_order else xp.take(side, self._source, 0)

    def scattered(self, xp: Operations, gradient: Array) -> tuple[Array, ...]:
        """The adjoint of `gathered`, also a gather, since entries and pieces correspond one to one."""
        side = gradient if self._in_order else xp.take(gradient, self._positions, 0)
        return xp.split(side, self.sizes, 0)

    def constants(self) -> tuple[Constant, ...]:
        """The indices, which a library may prepare."""
        return self._source, self._positions
