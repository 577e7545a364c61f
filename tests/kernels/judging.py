"""Judge projections: how far a result is from equations, exactly, and what share that is of what rounding allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import sqrt

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

import affinet
from affinet.blocks.bordered import Bordered
from affinet.blocks.commuting import Commuting
from affinet.blocks.kinds import AnyBlock
from affinet.blocks.sparse import Sparse
from affinet.kernels.torch.precision import NOISE, regular_dtype
from tests.kernels.bounds import of_cell, of_projection, of_repetition
from tests.oracle import Oracle

Weights = Mapping[str, Tensor]
Numbers = Mapping[str, Tensor | np.ndarray]


@dataclass(frozen=True, eq=False)
class Equations:
    """Equations by their terms: where each begins, its right-hand side, its norm, and the component that it is in."""

    columns: np.ndarray
    values: np.ndarray
    first: np.ndarray
    rhs: np.ndarray
    norm: np.ndarray
    part: np.ndarray
    part_of_entry: np.ndarray


@cache
def equations(plan: affinet.Plan) -> Equations:
    """The equations of a plan as the user wrote them, without those that say nothing (an entry that equals itself)."""
    rows = plan.system.rows(range(len(plan.system.rules)))
    said = np.diff(rows.bounds) > 0
    size = sum(p.size for p in plan.parameters)
    pattern = sparse.csr_array((np.ones(len(rows.columns), bool), rows.columns, rows.bounds), shape=(len(said), size))
    # Equations and entries as one graph: an edge wherever an equation speaks of an entry.
    joined = sparse.block_array([[None, pattern], [pattern.T, None]])
    _, label = sparse.csgraph.connected_components(joined, directed=False)
    norm = np.sqrt(np.add.reduceat(rows.values**2, rows.bounds[:-1][said])) if said.any() else np.zeros(0)
    part, part_of_entry = label[: len(said)][said], label[len(said) :]
    return Equations(rows.columns, rows.values, rows.bounds[:-1][said], rows.rhs[said], norm, part, part_of_entry)


def miss(plan: affinet.Plan, weights: Weights, dtype: torch.dtype, *, component: bool = False) -> float:
    """The largest |A w − b| over `Σ|a_j w_j| + |b|` of its equation, in spacings of the dtype.

    For a `component` the norm of the equation times that of all entries that it hangs together with is added to that.
    """
    return float(_misses(plan, weights, component=component, dtype=dtype).max())


def missed(plan: affinet.Plan, weights: Weights, condition: float = 0.0) -> float:
    """By what share of what rounding allows its component the equation is missed that is missed most.

    That is `of_cell` for each of the sets that meet, and more by the `condition` of equations that stand on top of
    others (`of_border`).
    """
    said = equations(plan)
    if not len(said.rhs):
        return 0.0
    spacing, computed = _spacings({p.name: weights[p.name] for p in plan.parameters})
    rows, entries = np.bincount(said.part, minlength=len(said.part_of_entry)), np.bincount(said.part_of_entry)
    sets = max((sets_of(block) for block in plan.blocks), default=1)
    on_top = any(isinstance(block, Bordered) for block in plan.blocks) * condition * 2.0**-52 / spacing
    m, n = rows[said.part], entries[said.part]
    allowed = [sets * of_cell(*shape, computed) * (1.0 + on_top * sqrt(shape[0])) for shape in zip(m, n, strict=True)]
    return float((_misses(plan, weights, component=True) / allowed).max(initial=0.0))


def _misses(plan: affinet.Plan, weights: Weights, *, component: bool, dtype: torch.dtype | None = None) -> np.ndarray:
    """For every equation, in NumPy's long double: where that is no wider than float64 it is off by some spacings."""
    said, dtype = equations(plan), dtype or _coarsest(weights)
    flat = _flat(plan, weights)
    terms = said.values.astype(np.longdouble) * flat.astype(np.longdouble)[said.columns]
    # What is smaller than the smallest number of the dtype cannot be mended by it.
    floor = float(torch.finfo(dtype).smallest_normal) * torch.finfo(dtype).eps
    slack = floor * np.add.reduceat(np.abs(said.values), said.first)
    gap = np.abs(np.add.reduceat(terms, said.first) - said.rhs) - slack
    size = np.add.reduceat(np.abs(terms), said.first) + np.abs(said.rhs)
    if component:
        largest = np.abs(flat).max(initial=0.0) or 1.0  # whose square may be no number
        size = size + said.norm * largest * np.sqrt(np.bincount(said.part_of_entry, (flat / largest) ** 2))[said.part]
    found: np.ndarray = gap.clip(0) / np.where(size > 0, size, 1) / torch.finfo(dtype).eps
    return found


def moved_again(plan: affinet.Plan, once: Weights, twice: Weights, condition: float = 1.0) -> float:
    """How far a second projection moved a component, as the largest share of what `of_repetition` allows it."""
    if not plan.parameters:
        return 0.0
    part = equations(plan).part_of_entry
    spacing, computed = _spacings({p.name: once[p.name] for p in plan.parameters})
    before, after = (_flat(plan, weights) for weights in (once, twice))
    step, norm = (np.sqrt(np.bincount(part, x**2)) for x in (after - before, before))
    allowed = spacing * norm * np.array([of_repetition(n, computed, condition) for n in np.bincount(part)])
    return _largest_share(step, allowed)


def apart(
    plan: affinet.Plan, found: Weights, wanted: Numbers, *inputs: Numbers, condition: float = 0.0, quiet: bool = False
) -> float:
    """How far two computations of one projection of `inputs` are apart, as the largest share of what rounding allows.

    Component by component, in norm. `condition` is that of the equations where they were factored in two ways, or are
    no orthonormal rows: normal equations (Sparse, the upper ones of Bordered) square it, where one pass is all there is
    (Golub & Van Loan, 4th ed., 5.3.2). Gradients are `quiet`: what is noise may be zero in one of them.

    Arrays in `wanted` are the oracle's, whose one pseudo-inverse rounds all components together: so they are judged.
    """
    if not plan.parameters:
        return 0.0
    if any(isinstance(block, Sparse | Bordered) for block in plan.blocks):
        condition = condition**2
    said = equations(plan)
    together = any(isinstance(values, np.ndarray) for values in wanted.values())
    part, part_of_row = (labels * (not together) for labels in (said.part_of_entry, said.part))
    spacing, computed = _spacings({p.name: found[p.name] for p in plan.parameters})
    sets = max((sets_of(block) for block in plan.blocks), default=1)
    flat = [_flat(plan, weights) for weights in (found, wanted, *inputs)]
    step = np.sqrt(np.bincount(part, (flat[0] - flat[1]) ** 2))
    norm = sum(np.sqrt(np.bincount(part, x**2)) for x in flat[1:])
    entries = np.bincount(part)
    rows = np.bincount(part_of_row, minlength=len(entries))
    allowed = [of_projection(m, n, spacing, computed, sets, condition) for m, n in zip(rows, entries, strict=True)]
    return _largest_share(step, spacing * norm * (np.array(allowed) + quiet * NOISE))


def sets_of(block: AnyBlock) -> int:
    """How many sets of equations meet in a block; what each keeps adds up."""
    match block:
        case Bordered():
            return 1 + sum(sets_of(base) for base in block.bases)
        case Commuting():
            return len(block.slices) + (block.mirror is not None)
        case _:
            return 1


def _spacings(weights: Weights) -> tuple[float, float]:
    """The spacing of the coarsest dtype, and what share of it is that of the dtype that sums are added in."""
    dtype = _coarsest(weights)
    spacing = torch.finfo(dtype).eps
    return spacing, torch.finfo(regular_dtype(dtype)).eps / spacing


def _coarsest(weights: Weights) -> torch.dtype:
    return max((x.dtype for x in weights.values()), key=lambda dtype: torch.finfo(dtype).eps)


def _largest_share(off: np.ndarray, allowed: np.ndarray) -> float:
    return float(np.divide(off, allowed, out=np.where(off > 0, np.inf, 0.0), where=allowed > 0).max(initial=0.0))


def condition_of(truth: Oracle) -> float:
    """The condition number of the equilibrated equations."""
    rank = truth.rank
    if not rank:
        return 1.0
    sizes = np.linalg.svd(truth.matrix, compute_uv=False)
    return float(sizes[0] / sizes[rank - 1])


def _flat(plan: affinet.Plan, weights: Numbers) -> np.ndarray:
    """Weights laid end to end in the order of the equations' entries."""
    parts = [torch.as_tensor(weights[p.name]).detach().double().numpy().ravel() for p in plan.parameters]
    return np.concatenate([np.zeros(0), *parts])
