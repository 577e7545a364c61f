"""Other blocks and a few more equations on top of them, solved by a Schur complement."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import sparse

from affinet.blocks.bases import Base
from affinet.blocks.places import Following, Listed, Part
from affinet.language.calculus.terms import Floats, Integers


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
