"""Weights that are hard on a projection, and how far its result is from the equations, exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

import affinet
from affinet.kernels.torch.precision import regular_dtype
from tests.kernels.block_kinds import draw
from tests.kernels.bounds import of_cell, of_repetition

Weights = dict[str, Tensor]


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


def hard(plan: affinet.Plan, dtype: torch.dtype) -> Iterator[tuple[str, Weights]]:
    """Inputs by name: even, all equal, of one sign, far away, of magnitudes over four decades, with one giant."""
    for number, (name, numbers) in enumerate(_numbers().items()):
        yield (
            name,
            {
                p.name: torch.from_numpy(numbers(draw(number, k), p.size)).reshape(p.shape).to(dtype)
                for k, p in enumerate(plan.parameters)
            },
        )


def _numbers() -> dict[str, Callable[[np.random.Generator, int], np.ndarray]]:
    return {
        "even": lambda rng, n: rng.standard_normal(n),
        "of one sign": lambda rng, n: rng.uniform(0.5, 1.0, n),
        "all equal": lambda rng, n: np.full(n, 0.1),
        "far": lambda rng, n: 300.0 * rng.standard_normal(n),
        "decades": lambda rng, n: rng.standard_normal(n) * 10.0 ** rng.uniform(-3, 1, n),
        "one giant": lambda rng, n: np.where(np.arange(n) == n // 3, 3e4, rng.standard_normal(n)),
    }


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
    norm = np.sqrt(np.add.reduceat(rows.values**2, rows.bounds[:-1][said]))
    part, part_of_entry = label[: len(said)][said], label[len(said) :]
    return Equations(rows.columns, rows.values, rows.bounds[:-1][said], rows.rhs[said], norm, part, part_of_entry)


def miss(plan: affinet.Plan, weights: Weights, dtype: torch.dtype, *, component: bool = False) -> float:
    """The largest |A w − b| over `Σ|a_j w_j| + |b|` of its equation, in spacings of the dtype.

    For a `component` the norm of the equation times that of all entries that it hangs together with is added to that.
    """
    return float(_misses(plan, weights, dtype, component=component).max())


def missed(plan: affinet.Plan, weights: Weights, dtype: torch.dtype) -> float:
    """By what share of `of_cell` of its component the equation is missed that is missed most."""
    said = equations(plan)
    rows, entries = np.bincount(said.part), np.bincount(said.part_of_entry)
    allowed = [of_cell(rows[part], entries[part]) for part in said.part]
    return float((_misses(plan, weights, dtype, component=True) / allowed).max())


def _misses(plan: affinet.Plan, weights: Weights, dtype: torch.dtype, *, component: bool) -> np.ndarray:
    """For every equation, in NumPy's long double: where that is no wider than float64 it is off by some spacings."""
    said = equations(plan)
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
    part = equations(plan).part_of_entry
    dtype = max((x.dtype for x in once.values()), key=lambda dtype: torch.finfo(dtype).eps)
    spacing = torch.finfo(dtype).eps
    computed = torch.finfo(regular_dtype(dtype)).eps / spacing
    before, after = (_flat(plan, weights) for weights in (once, twice))
    step, norm = (np.sqrt(np.bincount(part, x**2)) for x in (after - before, before))
    allowed = spacing * norm * np.array([of_repetition(n, computed, condition) for n in np.bincount(part)])
    return float(np.divide(step, allowed, out=np.where(step > 0, np.inf, 0.0), where=allowed > 0).max(initial=0.0))


def _flat(plan: affinet.Plan, weights: Weights) -> np.ndarray:
    """Weights laid end to end in the order of the equations' entries."""
    parts = [weights[p.name].detach().double().numpy().ravel() for p in plan.parameters]
    return np.concatenate([np.zeros(0), *parts])
