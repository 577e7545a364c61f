"""Contradictory ties by their path: a tie off the spanning forest with what leads from one of its ends to the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from affinet.analysis.diagnosis.circuit import Circuit, certified
from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.elimination.forest import Edges, compounded, tree
from affinet.system.rows import Rows
from affinet.system.tolerance import Tolerance

MOST_TRIED = 16
"""Ties off the forest that are tried, those of the shortest paths first, should rounding leave the first in doubt."""


@dataclass(frozen=True, eq=False)
class _Grown:
    """The forest: every node's parent, the edge to it (−1 at roots), its depth; what is wrong off it, what is needed.

    `wrong` are edges off the forest that contradict it, `needed` those that say something new.
    """

    parent: Integers
    link: Integers
    depth: Integers
    wrong: Integers
    needed: Integers


def contradictory_cycle(
    rows: Rows, local: Integers, width: int, tolerance: Tolerance
) -> tuple[Circuit | None, Integers]:
    """A circuit among the ties and the fixed entries, and the rows that the others may need.

    A fixed entry is a tie to a node whose value is known, numbered `width`. Law: the fundamental cycle of an edge off a
    spanning forest is irreducible, and an edge that its cycle agrees with says nothing new, so that it can be left out.
    """
    lengths = rows.lengths
    said = np.flatnonzero((lengths == 1) | (lengths == 2))
    if not len(said):
        return None, np.arange(rows.count)
    edges = _edges(rows, local, said, width)
    grown = _grown(edges, width, tolerance)
    up, link = grown.parent.tolist(), grown.link.tolist()
    for edge in _nearest_first(grown, edges):
        path = _around(edges, edge, up, link)
        order, weights = _along(edges, path, width)
        found = certified(rows, said[order], weights, tolerance, path=True)
        if found is not None:
            return found, np.arange(0)
    kept = np.ones(rows.count, bool)
    kept[said] = False
    kept[said[grown.link[grown.link >= 0]]] = True
    kept[said[grown.needed]] = True
    return None, np.flatnonzero(kept)


def _edges(rows: Rows, local: Integers, said: Integers, width: int) -> Edges:
    first, last = rows.bounds[said], rows.bounds[said + 1] - 1
    single = first == last
    x, y = local[first], np.where(single, width, local[last])
    a, b = rows.values[first], np.where(single, -rows.values[first], rows.values[last])
    return Edges(x, y, a, b, rows.rhs[said], rows.magnitude[said])


def _grown(edges: Edges, width: int, tolerance: Tolerance) -> _Grown:
    graph = sparse.csr_array((np.ones(edges.count, bool), (edges.x, edges.y)), shape=(width + 1, width + 1))
    count, labels = csgraph.connected_components(graph, directed=False)
    roots = np.zeros(count, np.int64)
    roots[labels[::-1]] = np.arange(width, -1, -1)
    roots[labels[width]] = width
    parent, link = tree(graph, roots, edges)
    mantissa, exponent, shift, size = compounded(edges, parent, link)
    scale = np.ldexp(mantissa, np.clip(exponent, -2000, 1000))
    off = np.ones(edges.count, bool)
    off[link[link >= 0]] = False
    known = labels[edges.x] == labels[width]
    branch = _followed(np.where(parent == width, np.arange(width + 1), parent))
    through = known & (branch[edges.x] != branch[edges.y])
    # A chain of ratios may leave float64; what cannot be compared is left to those who come after.
    with np.errstate(invalid="ignore", over="ignore"):
        left, right = edges.a * scale[edges.x], edges.b * scale[edges.y]
        gap = np.abs(edges.c - edges.a * shift[edges.x] - edges.b * shift[edges.y])
        terms = np.abs(edges.a) * size[edges.x] + np.abs(edges.b) * size[edges.y]
        terms += np.abs(edges.c) if edges.size is None else edges.size
        bound = tolerance.consistency(8)
        even = through | (np.abs(left + right) <= bound * (np.abs(left) + np.abs(right)))
        wrong, agrees = even & (gap > bound * terms), (even | known) & (gap <= bound * terms)
    return _Grown(parent, link, _depth(parent), np.flatnonzero(off & wrong), np.flatnonzero(off & ~agrees))


def _followed(parent: Integers) -> Integers:
    """The root that every node leads to."""
    while (parent != parent[parent]).any():
        parent = parent[parent]
    return parent


def _depth(parent: Integers) -> Integers:
    """How many edges every node is from its root."""
    depth: Integers = (parent != np.arange(len(parent))).astype(np.int64)
    while (parent != parent[parent]).any():
        depth, parent = depth + depth[parent], parent[parent]
    return depth


def _nearest_first(grown: _Grown, edges: Edges) -> Iterator[int]:
    apart = grown.depth[edges.x[grown.wrong]] + grown.depth[edges.y[grown.wrong]]
    yield from (int(edge) for edge in grown.wrong[np.argsort(apart, kind="stable")[:MOST_TRIED]])


def _around(edges: Edges, edge: int, up: list[int], link: list[int]) -> list[int]:
    """The edges of the cycle that the given one closes, in order, itself the last."""
    ends = []
    for node in (int(edges.x[edge]), int(edges.y[edge])):
        trail: list[int] = []
        while link[node] >= 0:
            trail.append(link[node])
            node = up[node]
        ends.append(trail)
    near, far = ends
    while near and far and near[-1] == far[-1]:
        near.pop()
        far.pop()
    return [*near, *reversed(far), edge]


def _along(edges: Edges, path: list[int], known: int) -> tuple[Integers, Floats]:
    """The edges in order with the multipliers that cancel every node between them; a known node needs no cancelling.

    The path begins at the known node where it goes through it. Multipliers that leave float64, as along a thousand
    ratios of three, are added up as logarithms.
    """
    order = np.array(path, np.int64)
    ends = np.stack([edges.x[order], edges.y[order]], axis=1)
    at_known = np.flatnonzero((ends == known).any(axis=1))
    if len(at_known):
        turn = int(at_known[1]) if len(at_known) > 1 and at_known[1] == at_known[0] + 1 else int(at_known[0])
        order = np.roll(order, -turn)
    values = {(e, int(n)): v for e in path for n, v in ((edges.x[e], edges.a[e]), (edges.y[e], edges.b[e]))}
    ratios = np.ones(len(order))
    for k, (near, far) in enumerate(pairwise(order.tolist()), start=1):
        shared = {int(edges.x[near]), int(edges.y[near])} & {int(edges.x[far]), int(edges.y[far])}
        node = min(shared - {known})
        ratios[k] = -values[near, node] / values[far, node]
    with np.errstate(all="ignore"):
        weights: Floats = np.cumprod(ratios).astype(np.float64)
        if not (np.isfinite(weights).all() and weights.all()):
            logs = np.cumsum(np.log(np.abs(ratios)))
            weights = (np.cumprod(np.sign(ratios)) * np.exp(logs - logs.max())).astype(np.float64)
    return order, weights
