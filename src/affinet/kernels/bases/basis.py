"""The protocol of a basis, which computes the homogeneous part `N v` of a block's entries from its free numbers v."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from affinet.kernels.bases.operations import Array, Operations
from affinet.language.calculus.terms import Integers

Kind = Literal["orthonormal", "free"]
"""`orthonormal`: NᵀN = I. `free`: the rows of N include an identity, so that each free number is one of the weights."""

Positions = Integers | NDArray[np.bool_]
"""Row-major positions in one parameter, or a mask over it, flat."""


@dataclass(frozen=True, eq=False)
class Place:
    """The positions of a group of entries in one parameter, row-major, or None for the entire parameter in order.

    Entries that depend on no free number may be given by a mask over the parameter.
    """

    name: str
    positions: Positions | None
    size: int

    @classmethod
    def of(cls, name: str, positions: Integers, entries: int) -> Place:
        """The place of positions in a parameter with `entries` entries."""
        covers_all = len(positions) == entries and bool((positions == np.arange(entries)).all())
        return cls(name, None if covers_all else positions, len(positions))


class Basis(Protocol):
    """A linear map, with constants computed in float64 and cast by the library of the arrays, `xp`.

    Every method computes in the dtype of its argument.
    """

    @property
    def free(self) -> int:
        """Count of the free numbers of the block."""

    @property
    def places(self) -> tuple[Place, ...]:
        """The places of the entries; `linear` returns one flat array for each."""

    def linear(self, xp: Operations, v: Array) -> tuple[Array, ...]:
        """`N v`, flat, one array per place."""

    def adjoint(self, xp: Operations, gradients: Sequence[Array]) -> Array:
        """`Nᵀ g` of shape (free,). Law: `⟨adjoint(g), v⟩ == ⟨g, linear(v)⟩`."""

    def picked(self, xp: Operations, entries: Sequence[Array]) -> Array:
        """The v of entries `N v`. Law: `picked(linear(v)) == v`."""
