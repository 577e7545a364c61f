"""The rule that a filter makes orthonormal wavelets with vanishing moments, in equations that keep their full rank."""

from __future__ import annotations

from math import sqrt

import numpy as np

from affinet.errors import ShapeError
from affinet.language.affine import checked_integer
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression, stack
from affinet.language.families.naming import checked_expression, named_rule
from affinet.language.weight_groups import over_weights


@over_weights
def wavelet(w: Expression, moments: int = 1) -> Constraint:
    """The last axis of `w` holds low-pass filters of orthonormal wavelets, whose first `moments` moments vanish.

    The equations are those of Daubechies 1988: `Σ h_k = √2`, `Σ h_k h_(k + 2 m) = 0` for m = 1, 2, …, and
    `Σ (-1)^k k^p h_k = 0` for p < `moments`. `Σ h_k² = 1` is not among them, since it follows: with the other equations
    it says the same as the sum, and would take away a rank exactly at the solutions. Each power k^p stands in the span
    of powers of (2 k - n + 1) / (n - 1), which are all of one size. n entries leave `n / 2 - moments` of freedom.
    Errors: `ShapeError` for filters of odd length, and for fewer than 1 or more than n / 2 moments.
    """
    h = checked_expression("wavelet", w)
    size = h.shape[-1] if h.ndim else 0
    if size < 2 or size % 2:
        raise ShapeError(f"wavelet needs filters of even length along the last axis: ({h}) has shape {h.shape}.")
    count = checked_integer(moments, h.affine.wording)
    if not 1 <= count <= size // 2:
        raise ShapeError(
            f"wavelets of a filter of {size} entries have 1 to {size // 2} vanishing moments; got moments={count}."
        )
    places = np.arange(size)
    powers = ((2.0 * places - size + 1) / (size - 1)) ** np.arange(count)[:, None]
    shifted = [(h[..., 2 * m :] * h[..., : -2 * m]).sum(-1) for m in range(1, size // 2)]
    sides = [h.sum(-1) - sqrt(2.0), *(h @ row for row in (-1.0) ** places * powers), *shifted]
    return named_rule(stack(sides, dim=-1) == 0, "wavelet", h, moments=count)
