"""Read inequality rules as rows `g · w <= h`, and rows of one unknown as bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.contradiction import Contradiction
from affinet.planning.elimination.reduction import Reduction
from affinet.system.distinct import distinct
from affinet.system.norms import norms_of_runs
from affinet.system.rows import Rows, concatenate, gather_rows
from affinet.system.system import System
from affinet.system.tolerance import Tolerance

MOST_LISTED = 2**20
"""Most columns, from the first to the last, whose places are listed however few are asked for: 8 MB."""


def halfspaces(system: System, numbers: Sequence[int]) -> Rows:
    """The rows of the numbered inequality rules, all as `g · w <= h`, without those whose bound is infinite."""
    parts = []
    for number in numbers:
        rows = system.rows([number])
        if system.rules[number].sense == ">=":
            rows = replace(rows, values=-rows.values, rhs=-rows.rhs)
        bounded = np.flatnonzero(rows.rhs < np.inf)
        parts.append(rows if len(bounded) == rows.count else rows.select(bounded))
    return concatenate(parts)


@dataclass(frozen=True, eq=False)
class Unknowns:
    """The free numbers z of entries: `w[columns] = scale · z[node] + shift`, a node for each place in `columns`.

    Nodes are numbered by a representative place in `columns`. `known` marks the nodes that equations determine, with
    their `value`; `size` (columns,) is the magnitude that the rounding of values is relative to.
    """

    columns: Integers
    node: Integers
    scale: Floats
    shift: Floats
    known: np.ndarray
    value: Floats
    size: Floats

    @classmethod
    def of(cls, reduction: Reduction, equations: Rows, further: Integers) -> Unknowns:
        """The unknowns of reduced `equations`, and of `further` columns (ascending) that no equation reads."""
        count, more = len(reduction.columns), len(further)
        known, value = np.zeros(count + more, bool), np.zeros(count + more)
        known[reduction.fixed], value[reduction.fixed] = True, reduction.value
        return cls(
            np.concatenate([reduction.columns, further]),
            np.concatenate([reduction.node, np.arange(count, count + more)]),
            np.concatenate([np.broadcast_to(reduction.scale, (count,)), np.ones(more)]),
            np.concatenate([np.broadcast_to(reduction.shift, (count,)), np.zeros(more)]),
            known,
            value,
            np.concatenate([_magnitudes(equations, reduction.columns), np.zeros(more)]),
        )

    def places(self, columns: Integers) -> Integers:
        """The place of each of these columns, all of which are among the unknowns."""
        if not len(columns):
            return np.zeros(0, np.int64)
        order = np.argsort(self.columns, kind="stable")
        low, high = int(self.columns[order[0]]), int(self.columns[order[-1]])
        if high - low > max(len(columns), MOST_LISTED):
            return order[np.searchsorted(self.columns, columns, sorter=order)]
        place = np.empty(high - low + 1, np.int64)
        place[self.columns[order] - low] = order
        return place[columns - low]

    @cached_property
    def plain(self) -> bool:
        """Whether every column is an unknown of its own, and none is determined."""
        is_own = np.array_equal(self.node, np.arange(len(self.columns)))
        return bool(is_own and not self.known.any() and (self.scale == 1.0).all() and not self.shift.any())


def _magnitudes(equations: Rows, columns: Integers) -> Floats:
    """For each of the columns, the largest right-hand side of an equation connected with it, in rows of length one."""
    place = np.searchsorted(columns, equations.columns)
    count = equations.count + len(columns)
    ends = (equations.row_of_each(), place + equations.count)
    graph = sparse.coo_array((np.ones(len(place), np.int8), ends), shape=(count, count)).tocsr()
    parts, labels = csgraph.connected_components(graph, directed=False)
    norms = norms_of_runs(equations.values, equations.bounds)
    largest = np.zeros(parts)
    np.maximum.at(largest, labels[: equations.count], equations.magnitude / np.where(norms > 0.0, norms, 1.0))
    return np.asarray(largest[labels[equations.count :]])


def over_unknowns(rows: Rows, unknowns: Unknowns, tolerance: Tolerance) -> tuple[Rows, Integers]:
    """The rows over nodes, determined nodes at their values, without rows of no node; and the numbers of the rows.

    Raises Contradiction where a row of no node is violated.
    """
    place = unknowns.places(rows.columns)
    if unknowns.plain and bool((np.diff(unknowns.columns) > 0).all()) and bool((rows.lengths > 0).all()):
        return replace(rows, columns=place, size=rows.magnitude), np.arange(rows.count)
    node = unknowns.node[place]
    coefficient = rows.values * unknowns.scale[place]
    known = unknowns.known[node]
    moved = rows.values * unknowns.shift[place] + np.where(known, coefficient * unknowns.value[node], 0.0)
    owner = rows.row_of_each()
    # A known value may be near zero because large numbers cancel in the equations that determine it.
    known_size = np.where(known, np.abs(rows.values) * unknowns.size[place], 0.0)
    size = rows.magnitude + np.bincount(owner, np.abs(moved) + known_size, rows.count)
    rhs = rows.rhs - np.bincount(owner, moved, rows.count)
    free = ~known
    reduced = replace(
        gather_rows(owner[free], node[free], coefficient[free], rhs, rows.rule, rows.index, tolerance.cancellation),
        size=size,
    )
    empty = reduced.lengths == 0
    violated = np.flatnonzero(empty & (reduced.rhs < -tolerance.consistency(8) * size))
    if len(violated):
        raise Contradiction(distinct(rows.rule[violated]))
    numbers = np.flatnonzero(~empty)
    return reduced.select(numbers), numbers


@dataclass(frozen=True, eq=False)
class NodeBounds:
    """`lower <= z <= upper` for every node, ±inf without a bound, and the rows of the bounds (−1 without).

    `lower_size` and `upper_size` are the magnitudes that the rounding of the bounds is relative to: a bound that is
    near zero may be the difference of large numbers.
    """

    lower: Floats
    upper: Floats
    lower_row: Integers
    upper_row: Integers
    lower_size: Floats
    upper_size: Floats

    @property
    def bounded(self) -> np.ndarray:
        """Nodes with a bound."""
        return np.asarray(np.isfinite(self.lower) | np.isfinite(self.upper))


def node_bounds(rows: Rows, numbers: Integers, count: int) -> NodeBounds:
    """The tightest bounds that rows of one node give to `count` nodes; `numbers` are those of the rows."""
    single = np.flatnonzero(rows.lengths == 1)
    node, coefficient = rows.columns[rows.bounds[:-1][single]], rows.values[rows.bounds[:-1][single]]
    value, row = rows.rhs[single] / coefficient + 0.0, numbers[single]  # a bound of −0 would write −0 to weights
    lower, upper = np.full(count, -np.inf), np.full(count, np.inf)
    lower_row, upper_row = np.full(count, -1), np.full(count, -1)
    above = np.flatnonzero(coefficient > 0)
    above = above[np.argsort(-value[above], kind="stable")]  # of several numbers for one place the last is written
    upper[node[above]], upper_row[node[above]] = value[above], row[above]
    below = np.flatnonzero(coefficient < 0)
    below = below[np.argsort(value[below], kind="stable")]
    lower[node[below]], lower_row[node[below]] = value[below], row[below]
    lower_size, upper_size = np.zeros(count), np.zeros(count)
    size = rows.magnitude[single] / np.abs(coefficient)
    upper_size[node[above]], lower_size[node[below]] = size[above], size[below]
    return NodeBounds(lower, upper, lower_row, upper_row, lower_size, upper_size)
