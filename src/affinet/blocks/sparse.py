"""A block of one large component: equations on classes of tied entries, solved by a sparse factor or iteration."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import cg, lsmr, splu

from affinet.blocks.classes import Classes, Means
from affinet.blocks.copies import renumber
from affinet.blocks.interval import Interval
from affinet.blocks.law import Linear, Rounds, silenced
from affinet.blocks.namespace import Array, Namespace
from affinet.blocks.phrases import many
from affinet.blocks.places import Listed, Part, entry_counts, no_places
from affinet.blocks.resolution import Core, Resolution
from affinet.blocks.tally import Tally
from affinet.blocks.tied import Tied
from affinet.errors import ConvergenceWarning, callers_line
from affinet.language.calculus.terms import Floats, Integers, Parameter

MOST_SOLVED = 2**18
"""The most coefficients of a component for which the freedom of an entry is computed by a solve."""


MOST_ITERATIONS = 1_000
DEEPER = 2.0**-3
"""The fraction of float64's rounding that residuals of independent rows are reduced to. With dependent rows a part of
the rounding remains that no step can remove."""
SLACK = 1e3
"""Residuals above this multiple of the bound cause a warning: the rules are then visibly less exact than rounding."""


@dataclass(frozen=True, eq=False)
class Sparse:
    """One large component: `matrix @ y == rhs`, y = √D z, rows of norm one.

    `independent`: its rows are known to be linearly independent, so that `matrix @ matrix.T` can be factored;
    `factored`: its factor is small enough to store. Otherwise conjugate gradients solve the consistent system.
    """

    parts: tuple[Part, ...]
    classes: Classes
    matrix: sparse.csr_array
    rhs: Floats
    rank_of_rows: Interval
    independent: bool
    factored: bool
    rules: tuple[int, ...]
    ambiguous: int = 0

    @property
    def entries(self) -> Listed:
        """The places of its entries."""
        return Listed(self.parts)

    @property
    def size(self) -> int:
        return len(self.classes.class_of)

    @property
    def rank(self) -> int | Interval:
        tied = self.size - self.classes.count
        low, high = self.rank_of_rows.low + tied, self.rank_of_rows.high + tied
        return low if low == high else Interval(low, high)

    def sizes(self) -> dict[Parameter, int]:
        return entry_counts(self.entries)

    def freedom(self, place: int) -> float | None:
        """`P_ii = scale² / D · Q_mm`, Q the tangent projector of y = √D z, by one least-squares problem."""
        if self.matrix.nnz > MOST_SOLVED:
            return None
        number = self.classes.class_of[place]
        unit = np.zeros(self.classes.count)
        unit[number] = 1.0
        multipliers = lsmr(self.matrix.T, unit, atol=1e-13, btol=1e-13, maxiter=5_000)[0]
        return self.classes.share(place) * float(1.0 - (self.matrix.T @ multipliers)[number])

    def value(self, place: int) -> float | None:
        return None

    def mates(self, place: int) -> tuple[Integers, int | None]:
        return self.classes.mates(place)

    def determined(self, most: int) -> tuple[Integers, Floats]:
        return no_places(), np.zeros(0)

    def tied(self, most: int) -> Iterator[Tied]:
        return self.classes.tied(self.rules, most)

    def taken(self) -> dict[Parameter, Interval]:
        sizes, rank = self.sizes(), Interval.of(self.rank)
        if len(sizes) == 1:
            return dict.fromkeys(sizes, rank)
        return {parameter: Interval(0, min(rank.high, count)) for parameter, count in sizes.items()}

    def fixed(self) -> dict[Parameter, int]:
        return self.sizes() if self.rank == self.size else {}

    def resolution(self) -> Resolution:
        core = None if self.rank_of_rows.low == self.rank_of_rows.high else Core(len(self.rhs), self.rank_of_rows)
        return Resolution(True, not self.classes.plain, not self.factored, True, 0, (0, 0), core)

    def condition_of_extra(self) -> float:
        return 1.0

    def solves_in_metric(self) -> int | None:
        return 0

    def tally(self) -> Tally:
        return Tally(equations=Interval.of(self.rank), among=self.size)

    def describe(self) -> str:
        solver = "sparse factor" if self.factored else "conjugate gradients"
        return f"{many(len(self.rhs), 'equation')}, solved together ({solver})"

    def bytes_a_step(self) -> int:
        return self.classes.bytes_a_step() + 2 * int(self.matrix.data.nbytes)

    def renumbered(self, numbers: Mapping[int, int]) -> Sparse:
        return replace(self, rules=renumber(self.rules, numbers))

    def law(self) -> Linear[Solved]:
        """The law over its entries, as one flat row, part after part."""
        return Linear(Solved(self, Means(self.classes)))


@dataclass(frozen=True, eq=False)
class Solved:
    """The projection of a large component: class means, then `y − Aᵀ (A Aᵀ)⁺ (A y − b)`, refined once, and back.

    No array namespace has sparse factors, or iterations that stop at a residual. The steps after the class means
    run on the host, in SciPy and float64, so that a compiler that traces arrays cannot run them.
    """

    block: Sparse
    means: Means

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.block.classes.class_of),)

    @property
    def wide(self) -> bool:
        """True: the condition number of the equations costs digits."""
        return True

    def nearest(self, xp: Namespace, x: Array) -> Rounds[Array]:
        z, _ = yield from self.means.reduced(xp, x, affine=True)
        y = self._host(z) * self._root
        for _ in range(2):
            y = y - self.block.matrix.T @ self._solved(self.block.matrix @ y - self.block.rhs, y)
        return self.means.expanded(xp, xp.array(y / self._root, x), affine=True)

    def tangent(self, xp: Namespace, x: Array, *, floor: float = 0.0) -> Rounds[Array]:
        z, sizes = yield from self.means.reduced(xp, x, affine=False, squares=floor > 0.0)
        y = self._host(z) * self._root
        y = y - self.block.matrix.T @ self._solved(self.block.matrix @ y, y)
        moved = self.means.expanded(xp, xp.array(y / self._root, x), affine=False)
        if not floor or sizes is None:
            return moved
        rms = (xp.sum(sizes * sizes, (0,)) * (1.0 / self.block.classes.count)) ** 0.5
        return silenced(xp, moved, self.means.spread(xp, (rms + sizes) * floor))

    def nearest_in_metric(self, xp: Namespace, x: Array, metric: Array) -> Rounds[Array]:
        """Law: `y − D⁻¹Aᵀ (A D⁻¹ Aᵀ)⁺ (A y − b)`, refined once, with D the metric of the classes."""
        z, weight = yield from self.means.reduced_in_metric(xp, x, metric)
        y, ease = self._host(z) * self._root, self.block.classes.weight / self._host(weight)
        equations = NormalEquations(self.block, ease)
        for _ in range(2):
            gap = self.block.matrix @ y - self.block.rhs
            y = y - ease * (self.block.matrix.T @ equations.solve(gap, _size(y, gap)))
        return self.means.expanded(xp, xp.array(y / self._root, x), affine=True)

    def _host(self, z: Array) -> Floats:
        return np.asarray(z, np.float64)

    def _solved(self, gap: Floats, y: Floats) -> Floats:
        return self._equations.solve(gap, _size(y, gap))

    @cached_property
    def _equations(self) -> NormalEquations:
        return NormalEquations(self.block, np.ones(self.block.matrix.shape[1]))

    @cached_property
    def _root(self) -> Floats:
        """`√D` of each class."""
        return np.sqrt(self.block.classes.weight)


class NormalEquations:
    """Solves `A diag(ease) Aᵀ u = gap` for the rows A of a component: by a stored factor, else by iteration.

    Source: conjugate gradients on a consistent semidefinite system converge to the step of smallest norm (Björck,
    Numerical Methods for Least Squares Problems, 7.4).
    """

    def __init__(self, block: Sparse, ease: Floats) -> None:
        rows = sparse.csr_array(block.matrix)
        self._factor = factored(rows, ease) if block.factored else None
        self._gram: Any = None if block.factored else sparse.csr_array(rows.multiply(ease[None]).tocsr() @ rows.T)
        # With dependent rows a part of the rounding remains that no step can remove.
        self._relative = float(np.finfo(np.float64).eps) * (DEEPER if block.independent else 1.0)

    def solve(self, gap: Floats, size: float) -> Floats:
        """The solution to rounding relative to `size`, the sum of the norms of the terms of `gap`.

        Warns with `ConvergenceWarning` where iterations do not reach it.
        """
        if self._factor is not None:
            solution: Floats = self._factor.solve(gap)
            return solution
        bound, gram = self._relative * size, self._gram
        eased = sparse.diags_array(1.0 / gram.diagonal())
        solution, stopped = cg(gram, gap, rtol=0.0, atol=bound, maxiter=MOST_ITERATIONS, M=eased)
        if stopped:
            residual = float(np.linalg.norm(gap - gram @ solution))
            if residual > SLACK * bound:
                warnings.warn(ConvergenceWarning(MOST_ITERATIONS, residual, bound, len(gap)), stacklevel=callers_line())
        return solution


def factored(rows: sparse.csr_array, ease: Floats) -> Any:
    """The factor of `A diag(ease) Aᵀ`, rows of A independent: `.solve(b)` for vectors b.

    SuperLU's symmetric mode needs no search for pivots, as the matrix is positive definite. It takes down to a third of
    the time of the general mode, and two thirds of the fill.
    """
    eased = rows.multiply(ease[None]).tocsr()
    options = {"SymmetricMode": True}
    return splu((eased @ rows.T).tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)


def _size(y: Floats, gap: Floats) -> float:
    return float(np.linalg.norm(y)) + float(np.linalg.norm(gap))
