"""A tolerance that decides what counts as zero: for ranks, and to distinguish contradictions from rounding."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

DOUBLE_EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Bounds on *equilibrated* rows (every row of A divided by its norm).

    `epsilon` is the spacing at 1 of the coarsest floating dtype among the constants of the rules: equations in float32
    cannot be distinguished below float32's rounding. `frozen` is the same for frozen weights: they occur only in
    right-hand sides, so they loosen what counts as contradictory and not what counts as independent.
    `factor` scales all bounds; 1 is the default, larger is more forgiving.
    """

    epsilon: float = DOUBLE_EPSILON
    factor: float = 1.0
    frozen: float = 0.0

    def rank(self, rows: int, entries: int) -> float:
        """Singular values at or below this share of the largest count as zero.

        Two sources of rounding. The factorisation, in float64: the usual `max(m, n) · eps` (Golub & Van Loan, 4th ed.,
        5.4.1). The constants as written: each row of norm one is off by at most `epsilon`, all of them by
        `epsilon · √rows` in the Frobenius norm, which bounds the change of a singular value (Weyl). A guard factor of 8
        on both.
        """
        factored, constants = DOUBLE_EPSILON * max(rows, entries, 2), self.epsilon * sqrt(max(rows, 2))
        return min(0.1, 8.0 * self.factor * max(factored, constants))

    def consistency(self, length: int) -> float:
        """A combination of `length` equations that says `0 == r` holds if |r| is at most this share of its terms.

        Rounding errors of `length` terms add up like a random walk, hence the square root.
        """
        return min(0.1, 64.0 * self.factor * max(self.epsilon, self.frozen) * max(8.0, sqrt(length)))

    def factored(self, length: int) -> float:
        """The same for float64 only, in which equations are factored whatever the precision of their constants."""
        return min(0.1, 64.0 * self.factor * DOUBLE_EPSILON * max(8.0, sqrt(length)))

    @property
    def cancellation(self) -> float:
        """A coefficient computed from larger ones that cancel counts as zero at or below this share of them."""
        return 16.0 * self.factor * self.epsilon
