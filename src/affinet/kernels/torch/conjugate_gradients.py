"""Solves `A D Aᵀ u = gap` by conjugate gradients, starting from a multiple of the previous step's solution."""

from __future__ import annotations

import warnings
from math import sqrt
from threading import local

import torch
from torch import Tensor

from affinet.blocks.sparse import DEEPER, MOST_ITERATIONS, SLACK
from affinet.errors import ConvergenceWarning, callers_line

MARGIN = 2.0**-8
"""Fraction of the rounding of the weights that residuals are reduced to, or to the rounding of float64 if larger."""
CHEAP_CHECKS = ("cpu",)
CHECK_EVERY = 8
"""Iterations between checks of the residual on other devices, where each check waits for the device."""


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
        """Iterations of the last solution in this thread."""
        return getattr(self._counted, "iterations", 0)

    def solve(self, gap: Tensor, size: float, ease: Tensor | None = None, start: Tensor | None = None) -> Tensor:
        """Solve to rounding relative to `size`, the sum of the norms of the terms of `gap`.

        `start` is the solution of a similar system: iterations begin at its best multiple, which is never further from
        the solution than zero. Warns with `ConvergenceWarning` where the bound is not reached.
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
        every = 1 if gap.device.type in CHEAP_CHECKS else CHECK_EVERY
        for iterations in range(MOST_ITERATIONS):
            self._counted.iterations = iterations
            if iterations % every == 0 and float(r @ r) <= bound:
                return u
            q = self._applied(p, ease)
            step = _ratio(rho, p @ q)
            u.addcmul_(step, p)
            r.addcmul_(step, q, value=-1.0)
            eased = r if diagonal is None else r / diagonal
            next_rho = r @ eased
            p.mul_(_ratio(next_rho, rho)).add_(eased)
            rho = next_rho
        squared_residual = float(r @ r)
        if squared_residual > SLACK**2 * bound:
            warnings.warn(
                ConvergenceWarning(MOST_ITERATIONS, sqrt(squared_residual), sqrt(bound), len(gap)),
                stacklevel=callers_line(),
            )
        return u

    def _applied(self, u: Tensor, ease: Tensor | None) -> Tensor:
        return self._gram @ u if ease is None else self._matrix @ (ease * (self._transposed @ u))


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """`above / below`, and 0 for 0/0: a system solved to the last bit stays solved until the next check."""
    return torch.where(below == 0.0, 0.0, above / below)
