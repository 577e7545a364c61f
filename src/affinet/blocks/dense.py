"""Many small components of equations on classes of tied entries, each with a dense basis."""

from __future__ import annotations

from dataclasses import dataclass

from affinet.blocks.classes import Classes
from affinet.blocks.places import Listed, Part
from affinet.language.calculus.terms import Floats, Integers


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
