"""What counts as zero: the one rule by which ranks are decided and contradictions told from rounding."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

DOUBLE_EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Bounds on *equilibrated* rows (every row of A divided by its norm).

    `epsilon` is the spacing at 1 of the coarsest floating dtype among the constants of the rules: equations said in
    float32 cannot be told apart below float32's rounding. `frozen` is that of frozen weights: they are right-hand
    sides only, so they loosen what counts as contradictory and not what counts as independent.
    `factor` scales all bounds; 1 is the default, larger is more forgiving.
    """

    epsilon: float = DOUBLE_EPSILON
    factor: float = 1.0
    frozen: float = 0.0

    def rank(self, rows: int, entries: int) -> float:
        """Singular values at or below this share of the largest count as zero.

        Two sources of rounding. That of the factorisation, in float64: the usual `max(m, n) · eps` (Golub & Van Loan,
        4th ed., 5.4.1). That of the constants as they were said: each row of norm one is off by at most `epsilon`,
        all of them by `epsilon · √rows` in the Frobenius norm, which bounds what it moves a singular value by (Weyl).
        A guard of 8 on both.
        """
        factored, said = DOUBLE_EPSILON * max(rows, entries, 2), self.epsilon * sqrt(max(rows, 2))
        return min(0.1, 8.0 * self.factor * max(factored, said))

    def consistency(self, length: int) -> float:
        """A combination of `length` equations that says `0 == r` holds where |r| is at most this share of its terms.

        Rounding errors of `length` terms add up like a random walk, hence the square root.
        """
        return min(0.1, 64.0 * self.factor * max(self.epsilon, self.frozen) * max(8.0, sqrt(length)))

    def factored(self, length: int) -> float:
        """The same of float64 alone, in which equations are factored whatever their constants are known to."""
        return min(0.1, 64.0 * self.factor * DOUBLE_EPSILON * max(8.0, sqrt(length)))

    @property
    def cancellation(self) -> float:
        """A coefficient that is what is left of larger ones counts as zero at or below this share of them."""
        return 16.0 * self.factor * self.epsilon
