"""Find contradictory ties: a tie outside the spanning forest, with the path that joins its ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from affinet.analysis.diagnosis.circuit import Circuit, certified
from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.elimination.forest import Edges, compound, span_tree
from affinet.system.rows import Rows
from affinet.system.tolerance import Tolerance

MOST_TRIED = 16
"""Ties outside the forest that are tried, shortest paths first, in case rounding leaves the first in doubt."""


@dataclass(frozen=True, eq=False)
class _Forest:
    """A spanning forest: every node's parent, the edge to it (−1 at roots) and its depth.

    `wrong` are edges outside the forest that contradict it, `needed` those that add an independent equation.
    """

    parent: Integers
    link: Integers
    depth: Integers
    wrong: Integers
    needed: Integers


def contradictory_cycle(
    rows: Rows, local: Integers, width: int, tolerance: Tolerance
) -> tuple[Circuit | None, Integers]:
    """A circuit among the ties and the fixed entries, and the rows that other contradictions may need.

    A fixed entry is a tie to a node whose value is known, numbered `width`. Law: the fundamental cycle of an edge
    outside a spanning forest is irreducible, and an edge that its cycle agrees with is redundant and can be dropped.
    """
    lengths = rows.lengths
    ties = np.flatnonzero((lengths == 1) | (lengths == 2))
    if not len(ties):
        return None, np.arange(rows.count)
    edges = _tie_edges(rows, local, ties, width)
    forest = _grow_forest(edges, width, tolerance)
    up, link = forest.parent.tolist(), forest.link.tolist()
    for edge in _shortest_cycles_first(forest, edges):
        path = _cycle_edges(edges, edge, up, link)
        order, weights = _cancel_along(edges, path, width)
        circuit = certified(rows, ties[order], weights, tolerance, path=True)
        if circuit is not None:
            return circuit, np.arange(0)
    needed = np.ones(rows.count, bool)
    needed[ties] = False
    needed[ties[forest.link[forest.link >= 0]]] = True
    needed[ties[forest.needed]] = True
    return None, np.flatnonzero(needed)


def _tie_edges(rows: Rows, local: Integers, ties: Integers, width: int) -> Edges:
    first, last = rows.bounds[ties], rows.bounds[ties + 1] - 1
    single = first == last
    x, y = local[first], np.where(single, width, local[last])
    a, b = rows.values[first], np.where(single, -rows.values[first], rows.values[last])
    return Edges(x, y, a, b, rows.rhs[ties], rows.magnitude[ties])


def _grow_forest(edges: Edges, width: int, tolerance: Tolerance) -> _Forest:
    graph = sparse.csr_array((np.ones(edges.count, bool), (edges.x, edges.y)), shape=(width + 1, width + 1))
    count, labels = csgraph.connected_components(graph, directed=False)
    roots = np.zeros(count, np.int64)
    roots[labels[::-1]] = np.arange(width, -1, -1)
    roots[labels[width]] = width
    parent, link = span_tree(graph, roots, edges)
    mantissa, exponent, shift, size = compound(edges, parent, link)
    scale = np.ldexp(mantissa, np.clip(exponent, -2000, 1000))
    outside = np.ones(edges.count, bool)
    outside[link[link >= 0]] = False
    known = labels[edges.x] == labels[width]
    branch = _find_roots(np.where(parent == width, np.arange(width + 1), parent))
    through = known & (branch[edges.x] != branch[edges.y])
    # A chain of ratios may leave float64; edges that cannot be compared stay for the searches that follow.
    with np.errstate(invalid="ignore", over="ignore"):
        at_x, at_y = edges.a * scale[edges.x], edges.b * scale[edges.y]
        gap = np.abs(edges.c - edges.a * shift[edges.x] - edges.b * shift[edges.y])
        terms = np.abs(edges.a) * size[edges.x] + np.abs(edges.b) * size[edges.y]
        terms += np.abs(edges.c) if edges.size is None else edges.size
        bound = tolerance.consistency(8)
        even = through | (np.abs(at_x + at_y) <= bound * (np.abs(at_x) + np.abs(at_y)))
        wrong, agrees = even & (gap > bound * terms), (even | known) & (gap <= bound * terms)
    return _Forest(
        parent, link, _count_depth(parent), np.flatnonzero(outside & wrong), np.flatnonzero(outside & ~agrees)
    )


def _find_roots(parent: Integers) -> Integers:
    """The root that every node leads to."""
    while (parent != parent[parent]).any():
        parent = parent[parent]
    return parent


def _count_depth(parent: Integers) -> Integers:
    """The number of edges from every node to its root."""
    depth: Integers = (parent != np.arange(len(parent))).astype(np.int64)
    while (parent != parent[parent]).any():
        depth, parent = depth + depth[parent], parent[parent]
    return depth


def _shortest_cycles_first(forest: _Forest, edges: Edges) -> Iterator[int]:
    cycle_lengths = forest.depth[edges.x[forest.wrong]] + forest.depth[edges.y[forest.wrong]]
    yield from (int(edge) for edge in forest.wrong[np.argsort(cycle_lengths, kind="stable")[:MOST_TRIED]])


def _cycle_edges(edges: Edges, edge: int, up: list[int], link: list[int]) -> list[int]:
    """The edges of the cycle that an edge closes, in order; that edge comes last."""
    ends = []
    for node in (int(edges.x[edge]), int(edges.y[edge])):
        trail: list[int] = []
        while link[node] >= 0:
            trail.append(link[node])
            node = up[node]
        ends.append(trail)
    first_trail, second_trail = ends
    while first_trail and second_trail and first_trail[-1] == second_trail[-1]:
        first_trail.pop()
        second_trail.pop()
    return [*first_trail, *reversed(second_trail), edge]


def _cancel_along(edges: Edges, path: list[int], known: int) -> tuple[Integers, Floats]:
    """The edges in order, with the multipliers that cancel every node between them; a known node is not cancelled.

    A path through the known node begins there. Multipliers that leave float64, as along a thousand ratios of three,
    are added up as logarithms.
    """
    order = np.array(path, np.int64)
    ends = np.stack([edges.x[order], edges.y[order]], axis=1)
    at_known = np.flatnonzero((ends == known).any(axis=1))
    if len(at_known):
        turn = int(at_known[1]) if len(at_known) > 1 and at_known[1] == at_known[0] + 1 else int(at_known[0])
        order = np.roll(order, -turn)
    values = {(e, int(n)): v for e in path for n, v in ((edges.x[e], edges.a[e]), (edges.y[e], edges.b[e]))}
    ratios = np.ones(len(order))
    for k, (edge, next_edge) in enumerate(pairwise(order.tolist()), start=1):
        shared = {int(edges.x[edge]), int(edges.y[edge])} & {int(edges.x[next_edge]), int(edges.y[next_edge])}
        node = min(shared - {known})
        ratios[k] = -values[edge, node] / values[next_edge, node]
    with np.errstate(all="ignore"):
        weights: Floats = np.cumprod(ratios).astype(np.float64)
        if not (np.isfinite(weights).all() and weights.all()):
            logs = np.cumsum(np.log(np.abs(ratios)))
            weights = (np.cumprod(np.sign(ratios)) * np.exp(logs - logs.max())).astype(np.float64)
    return order, weights
