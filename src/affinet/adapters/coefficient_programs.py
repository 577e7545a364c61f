"""Minimise a smooth convex loss of some thousand coefficients under linear rules, by Newton's method with exact steps.

    minimise f(z)  subject to  A z = b,  G z <= h

Each step minimises the quadratic model of f over the whole set, by the dual active set that projects onto polyhedra, in
coordinates in which the model is a distance. All points are feasible, and the steps converge quadratically. Directions
in which the loss is flat are bounded by a weak distance to the last point (a proximal step), and of all optima the one
with the smallest norm is taken at the end. Where the model promises far more than a step gives, as at points where all
probabilities are 0 or 1, the next steps are damped by a curvature that the loss has nowhere.

Sources: D. Bertsekas, Nonlinear Programming, 3rd ed., 3.3 (constrained Newton) and 6.5 (proximal steps).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import breadth_first_order

from affinet.blocks.programs.small_cells import SmallCells
from affinet.language.calculus.terms import Floats
from affinet.language.forecast import forecast
from affinet.system import lapack
from affinet.system.norms import norms_of_rows

EPSILON = float(np.finfo(np.float64).eps)
WEAK = 0.03
"""The weight of the distance in flat directions, as a share of the smallest curvature in the others: the steps in these
shrink by about its square each."""
FADING, MOST_FADED = 0.1, 5
"""The distance in flat directions is weaker by this factor after each step, so often: steps then converge faster than
linearly where a rule couples flat directions with curved ones of other scales."""
ROUNDED = 1e-7
"""Steps shorter than this that no longer halve are rounding: before that they shrink by their square, or by `WEAK`²."""
RELIEFS = (0.0, 1e-11, 1e-10, 5e-10)
"""Shares of their size by which inequalities are loosened, each by another one, where many of them meet in a point and
rounding hides which depend on which: the active ones then are independent, and hold without the relief."""
GOLDEN = 0.6180339887498949
SATISFIED = 1e-9
"""Gap of a rule, as a share of the size of its terms, beyond which rules that depend on each other were not solved."""
FLAT = 1e-8
"""Share of a row that counts as zero along flat directions, known to about 1e-16 times the spread of scales."""
REACHED = 1e-11
"""Gap to an active bound, as a share of the coefficients, that is rounding: some ten thousand spacings."""
HALVINGS = 40
"""Times that a step is halved before the decrease of the loss counts as lost in rounding."""
TRUSTED = 0.2
"""Share of a step below which the model was wrong: the next one is damped ten times more, from `DAMPED` on."""
DAMPED = 1e-3
UNDAMPED = 1e-7
"""Damping below this is zero; each whole step has a tenth of the damping of the last one."""


@dataclass(frozen=True, eq=False)
class Region:
    """The points with `A z = b` and `G z <= h`; rows of G with a single entry are bounds."""

    A: Floats
    b: Floats
    G: Floats
    h: Floats

    @property
    def size(self) -> int:
        return int(self.A.shape[1])

    @cached_property
    def rows(self) -> Floats:
        return np.concatenate([self.A, self.G])

    @cached_property
    def rhs(self) -> Floats:
        return np.concatenate([self.b, self.h])


class Curvature(NamedTuple):
    """The Hessian of a loss as `D V diag(s²) Vᵀ D`: scales D of the coefficients, V orthogonal, s without zeros.

    `flat` counts the last columns of V, along which the loss does not change; their s is that of a weak distance.
    """

    scales: Floats
    basis: Floats
    sizes: Floats
    flat: int

    def fading(self, step: int) -> Curvature:
        """The curvature with a weaker distance in flat directions, for one step after the other."""
        share = np.ones(len(self.sizes))
        share[len(share) - self.flat :] = FADING ** min(step - 1, MOST_FADED)
        return self._replace(sizes=self.sizes * share)

    def without_flat(self, gradient: Floats) -> Floats:
        """The gradient of a quadratic loss, which is zero in flat directions but for rounding."""
        flat = self.basis[:, len(self.sizes) - self.flat :]
        scaled = gradient / self.scales
        return (scaled - flat @ (flat.T @ scaled)) * self.scales

    @property
    def root(self) -> Floats:
        """R with `RᵀR` the Hessian."""
        return self.sizes[:, None] * self.basis.T * self.scales

    @property
    def inverse(self) -> Floats:
        """The inverse of `root`."""
        return self.basis / self.sizes / self.scales[:, None]


class Loss(Protocol):
    """A smooth convex function of the coefficients."""

    quadratic: bool
    """Whether the function equals its quadratic model."""

    def value(self, z: Floats) -> float: ...

    def gradient(self, z: Floats) -> Floats: ...

    def curvature(self, z: Floats, damping: float = 0.0) -> Curvature:
        """The Hessian at z, plus this share of a bound of the Hessians at all points."""


class Optimum(NamedTuple):
    """The coefficients, the count of steps, whether they converged, and how long the last step was.

    They have not converged where a rule does not hold to `SATISFIED`. The length is in the coordinates in which the
    loss is a distance, as a share of the size of the coefficients there.
    """

    z: Floats
    steps: int
    converged: bool
    length: float


def curvature_of_root(root: Floats, noise: Floats) -> Curvature:
    """The curvature of `½ |root z|²`; singular values below the rounding of the root count as zero.

    `noise` is the rounding of each column as a multiple of that of its norm, for each of as many terms as columns.
    """
    scales = _scales(np.sqrt(np.einsum("ij,ij->j", root, root)))
    reduced = lapack.qr(root / scales, mode="r")[0][: root.shape[1]] if len(root) > root.shape[1] else root / scales
    _, sizes, transposed = lapack.svd(reduced)
    rounding = EPSILON * np.maximum(max(root.shape), 4.0 * len(noise) * np.linalg.norm(transposed * noise, axis=1))
    return _weakened(scales, transposed.T, sizes, rounding)


def curvature_of_hessian(hessian: Floats, noise: Floats) -> Curvature:
    """The curvature of `½ zᵀ H z`; eigenvalues below the rounding of H, times `noise` of its columns, count as zero."""
    scales = _scales(np.asarray(np.sqrt(np.maximum(np.diagonal(hessian), 0.0))))
    values, basis = lapack.eigh(hessian / scales / scales[:, None])
    sizes, basis = np.sqrt(np.maximum(values, 0.0))[::-1], basis[:, ::-1]
    rounding = np.sqrt(4.0 * EPSILON * len(hessian) * np.linalg.norm(basis * noise[:, None], axis=0))
    return _weakened(scales, basis, np.asarray(sizes), rounding)


def repeated(curvature: Curvature, times: int) -> Curvature:
    """The curvature of a sum of losses of the same shape, each of its own part of the coefficients."""
    if times == 1:
        return curvature
    flat = np.arange(len(curvature.sizes)) >= len(curvature.sizes) - curvature.flat
    order = np.argsort(np.tile(flat, times), kind="stable")
    basis = np.asarray(np.kron(np.eye(times), curvature.basis)[:, order], np.float64)
    return Curvature(
        np.tile(curvature.scales, times), basis, np.tile(curvature.sizes, times)[order], curvature.flat * times
    )


def minimise(loss: Loss, region: Region, *, most_steps: int, tolerance: float) -> Optimum:
    """The point of the region where the loss is smallest; of several such points the one with the smallest norm.

    The search ends when a step is shorter than `tolerance` times the size of the coefficients, in the coordinates in
    which the loss is a distance, or is rounding. Raises TooLargeError where the matrices would not fit in memory.
    """
    n = region.size
    m = len(region.rhs)
    way_out = "Fit fewer features or targets at once, or train with affinet.project."
    forecast(f"a program of {n:,} coefficients under {m:,} rules", n * (4 * n + 3 * m), way_out=way_out)
    z, active = _solve(region.rows, len(region.b), region.rhs, np.zeros(n))
    length, converged, steps, damping = np.inf, False, 0, 0.0
    base = loss.curvature(z)
    for steps in range(1, most_steps + 1):
        gradient = loss.gradient(z)
        if loss.quadratic:
            gradient = base.without_flat(gradient)
        elif steps > 1:
            base = loss.curvature(z, damping)
        curvature = base.fading(steps)
        step, active, scale = _newton_step(region, curvature, gradient, z, loss.value(z))
        possible = _feasible_part(region, z, step)
        shortened = _shortened(loss, z, possible, gradient)
        z = z + shortened
        damping = _damping(damping, shortened, step)
        before, length = length, float(np.linalg.norm(curvature.root @ step)) / scale if scale else 0.0
        if not possible.any() and step.any() and (loss.quadratic or damping == 1.0):
            break
        if length <= tolerance or (before <= ROUNDED and length > 0.5 * before):
            converged = True
            break
    if converged and base.flat:
        # Where probabilities are 0 or 1 the Hessian is flat, and the loss is not: the bound is flat where the loss is.
        z, binding = _smallest(region, base if loss.quadratic else loss.curvature(z, 1.0), z)
        active = active | binding
    start = z
    if converged:
        z = _tied(region, _onto_bounds(region, active, z))
    return Optimum(z, steps, converged and violation(region, start, z - start) <= SATISFIED, length)


def _newton_step(
    region: Region, curvature: Curvature, gradient: Floats, z: Floats, value: float
) -> tuple[Floats, np.ndarray, float]:
    """The step to the minimum of the quadratic model, the active rows there, and the size to compare it with.

    Losses are not negative, so half the square of a step cannot be more than the loss: a longer one is not believed.
    """
    root, inverse = curvature.root, curvature.inverse
    goal = -(inverse.T @ gradient)
    slack = region.rhs - region.rows @ z
    spread = np.abs(region.rows) @ np.abs(z) + np.abs(region.rhs) + np.abs(z).max(initial=0.0)
    spread[: len(region.b)] = 0.0
    spread *= 0.5 + 0.5 * ((np.arange(len(spread)) * GOLDEN) % 1.0)
    scale = float(np.linalg.norm(root @ z) + min(float(np.linalg.norm(goal)), (2.0 * value) ** 0.5))
    step, active = np.zeros_like(z), np.zeros(len(slack), bool)
    for relief in RELIEFS:
        moved, active = _solve(region.rows @ inverse, len(region.b), slack + relief * spread, goal)
        step = inverse @ moved
        refined = _step_on_face(region.rows[active] / curvature.scales, slack[active], curvature, gradient)
        if refined is not None and _holds(region, z + refined, step - refined):
            step = refined
        if _stays(region, z, step):
            break
    return step, active, scale


def _step_on_face(normals: Floats, slack: Floats, curvature: Curvature, gradient: Floats) -> Floats | None:
    """The step again, where the active rules hold with equality: its rounding does not grow with their multipliers.

    None where the rules depend on each other so strongly that their span is not certain.
    """
    n = normals.shape[1]
    scaled = gradient / curvature.scales
    if not len(normals):
        coordinates = curvature.basis.T @ scaled
        return -(curvature.basis @ (coordinates / curvature.sizes**2)) / curvature.scales
    norms = norms_of_rows(normals)
    left, sizes, right = lapack.svd(normals / norms[:, None])
    rank = int((sizes > n * EPSILON * sizes[0]).sum())
    if rank < len(sizes) and sizes[rank] > 0.01 * EPSILON**0.5 and sizes[rank - 1] < EPSILON**0.5:
        return None
    onto = right[:rank].T @ ((left[:, :rank].T @ (slack / norms)) / sizes[:rank])
    if rank == n:
        return np.asarray(onto / curvature.scales)
    directions = right[rank:]
    root = curvature.sizes[:, None] * curvature.basis.T
    _, lengths, axes = lapack.svd(root @ directions.T, full_matrices=False)
    slope = directions @ (scaled + root.T @ (root @ onto))
    return np.asarray((onto - directions.T @ (axes.T @ ((axes @ slope) / lengths**2))) / curvature.scales)


def _holds(region: Region, z: Floats, difference: Floats) -> bool:
    """Whether a point is in the region to rounding, or to a share of how much two computations of it differ."""
    gaps = region.rows @ z - region.rhs
    gaps[: len(region.b)] = np.abs(gaps[: len(region.b)])
    sizes = np.abs(region.rows) @ (np.abs(z) + np.abs(difference)) + np.abs(region.rhs)
    return bool((gaps <= 64.0 * EPSILON * sizes).all())


def _shortened(loss: Loss, z: Floats, step: Floats, gradient: Floats) -> Floats:
    """The step, halved until the loss falls by a share of what its slope promises; Armijo's rule."""
    if loss.quadratic:
        return step
    before, slope = loss.value(z), float(gradient @ step)
    for halvings in range(HALVINGS):
        part = step * 0.5**halvings
        # Near the optimum the decrease is below the rounding of the loss, and the whole step is right.
        if loss.value(z + part) <= before + 1e-4 * slope * 0.5**halvings + 8.0 * EPSILON * abs(before):
            return part
    return np.zeros_like(step)


def _damping(damping: float, shortened: Floats, step: Floats) -> float:
    """The damping of the next step: more where little of a step was taken, less where all of it was."""
    share = np.linalg.norm(shortened) / np.linalg.norm(step) if step.any() else 1.0
    if share < TRUSTED:
        return min(1.0, max(DAMPED, 10.0 * damping))
    if share < 1.0:
        return damping
    return 0.1 * damping if damping > UNDAMPED else 0.0


def _smallest(region: Region, curvature: Curvature, z: Floats) -> tuple[Floats, np.ndarray]:
    """The point of the smallest norm among those at which the loss is as at z, and the active rows there.

    The directions that are flat and change no equation are searched; z stays where rounding leaves none of them.
    """
    flat = curvature.basis[:, region.size - curvature.flat :] / curvature.scales[:, None]
    directions = lapack.qr(flat, mode="economic")[0]
    norms = norms_of_rows(region.A)
    _, sizes, axes = lapack.svd((region.A / norms[:, None]) @ directions)
    directions = directions @ axes[int((sizes > FLAT).sum()) :].T
    rows = region.G @ directions
    rows[norms_of_rows(rows) <= FLAT * norms_of_rows(region.G)] = 0.0
    moved, active = _solve(rows, 0, np.maximum(region.h - region.G @ z, 0.0), -(directions.T @ z))
    step = directions @ moved
    if not _stays(region, z, step):
        return z, np.zeros(len(region.rhs), bool)
    return z + step, np.concatenate([np.zeros(len(region.b), bool), active])


def violation(region: Region, z: Floats, step: Floats) -> float:
    """The largest gap of a rule after a step, as a share of the size of its terms before and after."""
    before, z = z, z + step
    gaps = region.rows @ z - region.rhs
    gaps[: len(region.b)] = np.abs(gaps[: len(region.b)])
    magnitudes = np.abs(region.rows)
    sizes = magnitudes @ (np.abs(before) + np.abs(z)) + np.abs(region.rhs)
    # All coefficients are rounded as the largest is: 1e-3 of it allows gaps of 1e-12 of it, by `SATISFIED`.
    sizes += 1e-3 * magnitudes.max(axis=1, initial=0.0) * np.abs(z).max(initial=0.0)
    return float((gaps / np.where(sizes > 0.0, sizes, 1.0)).max(initial=0.0))


def _feasible_part(region: Region, z: Floats, step: Floats) -> Floats:
    """The step, cut where it would leave the region: rounding can hide a rule that depends on others."""
    if _stays(region, z, step):
        return step
    rise, slack = region.G @ step, np.maximum(region.h - region.G @ z, 0.0)
    rising = rise > EPSILON * (np.abs(region.G) @ np.abs(step))
    part = min(1.0, float((slack[rising] / rise[rising]).min(initial=1.0)))
    return step * part if _stays(region, z, step * part) else np.zeros_like(z)


def _stays(region: Region, z: Floats, step: Floats) -> bool:
    """Whether a step keeps rules that hold."""
    return violation(region, z, step) <= max(SATISFIED, violation(region, z, np.zeros_like(z)))


def _onto_bounds(region: Region, active: np.ndarray, z: Floats) -> Floats:
    """The point with each coefficient at a bound that was active, or fixed, equal to it to the bit."""
    gaps = np.abs(region.rows @ z - region.rhs)
    reached = gaps <= REACHED * (np.abs(region.rows) @ np.abs(z) + np.abs(region.rhs) + np.abs(z).max(initial=0.0))
    fixed = np.arange(len(gaps)) < len(region.b)
    single = np.flatnonzero((active | fixed) & reached & ((region.rows != 0.0).sum(axis=1) == 1))
    entries = (region.rows[single] != 0.0).argmax(axis=1)
    z = z.copy()
    z[entries] = region.rhs[single] / region.rows[single, entries] + 0.0
    return z


def _tied(region: Region, z: Floats) -> Floats:
    """The point with coefficients that equations make equal or opposite so to the bit; the first of each is copied."""
    signs = np.sign(region.A)
    sizes = np.abs(region.A)
    largest = sizes.max(axis=1, initial=0.0)
    pairs = ((signs != 0.0).sum(axis=1) == 2) & (region.b == 0.0) & (sizes.sum(axis=1) == 2.0 * largest)
    graph = sparse.csr_array(signs[pairs].T @ signs[pairs])
    graph.setdiag(0.0)
    graph.eliminate_zeros()
    z = z.copy()
    reached = np.zeros(len(z), bool)
    for entry in np.flatnonzero(np.diff(graph.indptr)):
        if reached[entry]:
            continue
        order, before = breadth_first_order(graph, entry, directed=False)
        for each in order[1:]:
            z[each] = -np.sign(graph[before[each], each]) * z[before[each]]
        reached[order] = True
    return z


def _solve(rows: Floats, equations: int, rhs: Floats, goal: Floats) -> tuple[Floats, np.ndarray]:
    """The nearest point to the goal on rows of any norm, and which rows hold with equality there."""
    norms = norms_of_rows(rows)
    norms[norms == 0.0] = 1.0
    n = len(goal)
    guess = np.zeros((1, len(rows) + n), np.int8)
    no_bounds = np.full((1, n), np.inf)
    program = SmallCells(np.ascontiguousarray(rows / norms[:, None])[None], equations)
    x, _, active = program.solve((rhs / norms)[None], -no_bounds, no_bounds, goal[None], guess)
    return x[0], active[0, : len(rows)] != 0


def _scales(norms: Floats) -> Floats:
    """The norms, with the smallest of them in place of zeros: of features that are constant."""
    positive = norms[norms > EPSILON * norms.max(initial=0.0)]
    return np.where(norms > EPSILON * norms.max(initial=0.0), norms, positive.min() if len(positive) else 1.0)


def _weakened(scales: Floats, basis: Floats, sizes: Floats, rounding: Floats) -> Curvature:
    """A curvature with a weak distance in place of those sizes that are zero to rounding, a share of the largest."""
    full: Floats = np.zeros(len(scales))
    full[: len(sizes)] = sizes
    rounding = np.append(rounding, np.zeros(len(scales) - len(rounding)))
    flat = full <= rounding * full.max(initial=0.0)
    lowest = float(full[~flat].min(initial=np.inf))
    full[flat] = WEAK * (lowest if np.isfinite(lowest) else 1.0)
    order = np.argsort(flat, kind="stable")
    return Curvature(scales, basis[:, order], full[order], int(flat.sum()))
