"""Solving `A D Aᵀ u = gap` without a factor, from where the last step's solution points to."""

from __future__ import annotations

import warnings
from math import sqrt
from threading import local

import torch
from torch import Tensor

from affinet.blocks.sparse import DEEPER, MOST_ITERATIONS, SLACK
from affinet.errors import ConvergenceWarning, callers_line

MARGIN = 2.0**-8
"""Residuals are brought down to this share of the rounding of the weights, or to the rounding of float64 where that is
larger."""
FREE_TO_LOOK = ("cpu",)
LOOKING = 8
"""Iterations between looks at the residual on other devices, where each look waits for the device."""


class NormalEquations:
    """`A D Aᵀ` for the rows A of one component, D the identity or the ease of a metric.

    Rows have norm one, so that the diagonal (Jacobi) preconditioner is the identity unless there is a metric.
    Source: conjugate gradients on a consistent semidefinite system converge to the step of smallest norm (Björck,
    Numerical Methods for Least Squares Problems, 7.4).
    """

    def __init__(
        self,
        matrix: Tensor,
        transposed: Tensor,
        squares: Tensor,
        gram: Tensor,
        *,
        epsilon: float,
        independent: bool,
    ) -> None:
        self._matrix, self._transposed, self._squares, self._gram = matrix, transposed, squares, gram
        self._relative = max(MARGIN * epsilon, torch.finfo(matrix.dtype).eps * (DEEPER if independent else 1.0))
        self._counted = local()

    @property
    def iterations(self) -> int:
        """How many the last solution took, of this thread."""
        return getattr(self._counted, "iterations", 0)

    def solve(self, gap: Tensor, size: float, ease: Tensor | None = None, start: Tensor | None = None) -> Tensor:
        """Solve to rounding relative to `size`, a sum of the norms of what `gap` was computed from.

        `start` is a solution of some similar system: the multiple of it that is nearest is taken, which is never
        further away than zero is. Warns with `ConvergenceWarning` where the bound is not reached.
        """
        bound, u, r = (self._relative * size) ** 2, torch.zeros_like(gap), gap.clone()
        diagonal = None if ease is None else self._squares @ ease
        if start is not None and float(r @ r) > bound:
            q = self._applied(start, ease)
            length = float(q @ q)
            if length > 0.0:
                share = float(q @ gap) / length
                u, r = share * start, r.sub_(q, alpha=share)
        p = r.clone() if diagonal is None else r / diagonal
        rho = r @ p
        every = 1 if gap.device.type in FREE_TO_LOOK else LOOKING
        for iterations in range(MOST_ITERATIONS):
            self._counted.iterations = iterations
            if iterations % every == 0 and float(r @ r) <= bound:
                return u
            q = self._applied(p, ease)
            step = _ratio(rho, p @ q)
            u.addcmul_(step, p)
            r.addcmul_(step, q, value=-1.0)
            eased = r if diagonal is None else r / diagonal
            fresh = r @ eased
            p.mul_(_ratio(fresh, rho)).add_(eased)
            rho = fresh
        left = float(r @ r)
        if left > SLACK**2 * bound:
            warnings.warn(
                ConvergenceWarning(MOST_ITERATIONS, sqrt(left), sqrt(bound), len(gap)),
                stacklevel=callers_line(),
            )
        return u

    def _applied(self, u: Tensor, ease: Tensor | None) -> Tensor:
        return self._gram @ u if ease is None else self._matrix @ (ease * (self._transposed @ u))


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """`above / below`, and 0 for 0/0: what is solved to the last bit stays so until somebody looks."""
    return torch.where(below == 0.0, 0.0, above / below)
