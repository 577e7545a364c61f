"""Many cells of one parameter that obey the same small set of equations, with right-hand sides of their own."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from affinet.blocks.offsets import Offsets
from affinet.blocks.places import Stepped
from affinet.language.calculus.terms import Floats, Integers, Parameter


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
