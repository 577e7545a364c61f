"""Solve ties as a graph: classes of entries that one number determines, by weighted union-find on a spanning forest."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.refit.record import from_coefficients


@dataclass(frozen=True, eq=False)
class Edges:
    """Ties `a · w[x] + b · w[y] == c`, a and b not zero.

    `size` is the magnitude of the numbers that c was computed from; |c| if `size` is None.
    """

    x: Integers
    y: Integers
    a: Floats
    b: Floats
    c: Floats
    size: Floats | None = None

    @property
    def count(self) -> int:
        return len(self.x)


@dataclass(frozen=True, eq=False)
class Forest:
    """`w_i = scale_i · w[root of its span_tree] + shift_i` for every node; the root is where |scale| is largest.

    `size` is the sum of the magnitudes of the terms of the shift. The rounding of the shift is relative to it, as the
    shift itself may be zero. `scale`, `shift` and `size` have length one where they are the same for all nodes.
    """

    root: Integers
    scale: Floats
    shift: Floats
    size: Floats


def spanning_forest(edges: Edges, nodes: int) -> Forest:
    """Solve the ties of a spanning forest.

    Scales are stored as mantissa and exponent while they are multiplied, so that a chain of a thousand links of ratio 3
    does not overflow, and its small end underflows to zero only. Chains are followed by pointer doubling:
    time O((nodes + edges) · log depth).
    """
    equal = bool((edges.a == -edges.b).all()) and not edges.c.any()
    homogeneous = replace(edges, c=np.zeros(edges.count), size=None)
    if equal:
        return Forest(from_coefficients(_find_first_roots, homogeneous, nodes), np.ones(1), np.zeros(1), np.zeros(1))
    root, parent, link = from_coefficients(_find_largest_roots, homogeneous, nodes)
    mantissa, exponent, shift, size = compound(edges, parent, link)
    return Forest(root, _join_scale(mantissa, exponent), shift, size)


def _find_first_roots(edges: Edges, nodes: int) -> Integers:
    """The root of every node, the first node of its tree."""
    chained = _follow_chains(edges, nodes)
    if chained is not None:
        return chained
    labels = _label_trees(_make_graph(edges, nodes))
    return _find_first_nodes(labels)[labels]


def _find_largest_roots(edges: Edges, nodes: int) -> tuple[Integers, Integers, Integers]:
    """The root of every node (the largest |scale| in its tree), the parent of every node and the edge to it."""
    graph = _make_graph(edges, nodes)
    labels = _label_trees(graph)
    parent, link = span_tree(graph, _find_first_nodes(labels), edges)
    mantissa, exponent, _, _ = compound(edges, parent, link)
    roots = _find_largest_nodes(labels, mantissa, exponent)
    return (roots[labels], *span_tree(graph, roots, edges))


def _make_graph(edges: Edges, nodes: int) -> sparse.csr_array:
    return sparse.csr_array((np.ones(edges.count, bool), (edges.x, edges.y)), shape=(nodes, nodes))


def _label_trees(graph: sparse.csr_array) -> Integers:
    labels: Integers = csgraph.connected_components(graph, directed=False)[1]
    return labels


def _follow_chains(edges: Edges, nodes: int) -> Integers | None:
    """The first node of each node's tree, if the edges are a forest in which each node has at most one edge upwards.

    Patterns and loops write ties in this form. Pointer doubling takes a tenth of the time of a search through the
    graph. None if the edges are not of this form.
    """
    if not (edges.x < edges.y).all():
        return None
    # Four bytes where they suffice: the pointers are read in random order.
    node = np.arange(nodes, dtype=np.int32 if nodes < 2**31 else np.int64)
    parent = node.copy()
    parent[edges.y] = edges.x
    if edges.count != nodes - int((parent == node).sum()):
        return None
    while True:
        above = parent[parent]
        if (above == parent).all():
            return parent.astype(np.int64)
        parent = above


def _find_first_nodes(labels: Integers) -> Integers:
    roots = np.full(int(labels.max(initial=-1)) + 1, -1, np.int64)
    roots[labels[::-1]] = np.arange(len(labels) - 1, -1, -1)
    return roots


def _find_largest_nodes(labels: Integers, mantissa: Floats, exponent: Integers) -> Integers:
    """The node of largest |scale| in each tree, the first of several."""
    with np.errstate(divide="ignore"):
        size = np.log2(np.abs(mantissa)) + exponent
    order = np.lexsort((np.arange(len(labels)), -np.round(size, 9), labels))
    return order[np.searchsorted(labels[order], np.arange(int(labels.max(initial=-1)) + 1))]


def span_tree(graph: sparse.csr_array, roots: Integers, edges: Edges) -> tuple[Integers, Integers]:
    """Every node's parent and the edge to it, by one breadth-first search from an extra node above all roots."""
    nodes = graph.shape[0]
    # The extra row is written by hand: stacking by SciPy takes longer than the search in a small graph.
    indices = np.concatenate([graph.indices, np.sort(roots).astype(graph.indices.dtype)])
    bounds = np.concatenate([graph.indptr, [len(indices)]]).astype(graph.indptr.dtype)
    rooted_graph = sparse.csr_array((np.ones(len(indices), bool), indices, bounds), shape=(nodes + 1, nodes + 1))
    _, parent = csgraph.breadth_first_order(rooted_graph, nodes, directed=False)
    parent = parent[:nodes].astype(np.int64)
    at_root = parent == nodes
    parent[at_root] = np.flatnonzero(at_root)
    return parent, _find_links(edges, parent)


def _find_links(edges: Edges, parent: Integers) -> Integers:
    """An edge that joins each node to its parent; any of several, as all edges outside the tree are checked later."""
    link = np.full(len(parent), -1, np.int64)
    down, up = np.flatnonzero(parent[edges.y] == edges.x), np.flatnonzero(parent[edges.x] == edges.y)
    link[edges.y[down]] = down
    link[edges.x[up]] = up
    return link


def _solve_edges(edges: Edges, parent: Integers, link: Integers) -> tuple[Floats, Floats, Floats]:
    """Ratio and shift with `w[node] = ratio · w[parent] + shift`, the identity at roots, and the size of each shift."""
    ratio, shift, size = np.ones(len(parent)), np.zeros(len(parent)), np.zeros(len(parent))
    child = np.flatnonzero(link >= 0)
    edge = link[child]
    forward = edges.y[edge] == child
    child_coefficient = np.where(forward, edges.b[edge], edges.a[edge])
    parent_coefficient = np.where(forward, edges.a[edge], edges.b[edge])
    ratio[child], shift[child] = -parent_coefficient / child_coefficient, edges.c[edge] / child_coefficient
    magnitude = np.abs(edges.c) if edges.size is None else np.maximum(edges.size, np.abs(edges.c))
    size[child] = magnitude[edge] / np.abs(child_coefficient)
    return ratio, shift, size


def compound(edges: Edges, parent: Integers, link: Integers) -> tuple[Floats, Integers, Floats, Floats]:
    """Mantissa and exponent of the scale of every node relative to its root, the shift and the size of the shift."""
    ratio, shift, size = _solve_edges(edges, parent, link)
    mantissa, exponent = np.frexp(ratio)
    exponent, above = exponent.astype(np.int64), parent
    # A shift may overflow while the root is not the largest node yet; then only the scales are used.
    with np.errstate(over="ignore", invalid="ignore"):
        while (above != above[above]).any():
            scale = _join_scale(mantissa, exponent)
            shift, size = shift + scale * shift[above], size + np.abs(scale) * size[above]
            mantissa, carry = np.frexp(mantissa * mantissa[above])
            exponent = exponent + exponent[above] + carry
            above = above[above]
    return mantissa, exponent, shift, size


def _join_scale(mantissa: Floats, exponent: Integers) -> Floats:
    """The scale as one number. A scale that underflows to zero is too small to matter."""
    return np.ldexp(mantissa, np.clip(exponent, -2000, 1000))
