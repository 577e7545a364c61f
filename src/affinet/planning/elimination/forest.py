"""Ties as a graph: classes of entries that one number decides, by weighted union-find on a spanning forest."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.refit.record import from_coefficients


@dataclass(frozen=True, eq=False)
class Edges:
    """Ties `a · w[x] + b · w[y] == c`, a and b not zero; `size` is what c was computed from, |c| where it is None."""

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
    """`w_i = scale_i · w[root of its tree] + shift_i` for every node; the root is where |scale| is largest.

    `size` is the sum of the magnitudes that the shift was added up from, which its rounding is relative to: a shift may
    come out as zero. `scale`, `shift` and `size` are of length one where all nodes have the same.
    """

    root: Integers
    scale: Floats
    shift: Floats
    size: Floats


def spanning_forest(edges: Edges, nodes: int) -> Forest:
    """Solve the ties of a spanning forest.

    Scales are held as mantissa and exponent while they are multiplied, so that a chain of a thousand links of 3
    neither overflows nor loses the small end to anything but zero. Chains are followed by pointer doubling:
    time O((nodes + edges) · log depth).
    """
    equal = bool((edges.a == -edges.b).all()) and not edges.c.any()
    bare = replace(edges, c=np.zeros(edges.count), size=None)
    if equal:
        return Forest(from_coefficients(_first_roots, bare, nodes), np.ones(1), np.zeros(1), np.zeros(1))
    root, parent, link = from_coefficients(_largest_roots, bare, nodes)
    mantissa, exponent, shift, size = compounded(edges, parent, link)
    return Forest(root, _joined(mantissa, exponent), shift, size)


def _first_roots(edges: Edges, nodes: int) -> Integers:
    """The root of every node, the first node of its tree."""
    chained = _chained(edges, nodes)
    if chained is not None:
        return chained
    labels = _labels(_graph(edges, nodes))
    return _first_of_each(labels)[labels]


def _largest_roots(edges: Edges, nodes: int) -> tuple[Integers, Integers, Integers]:
    """The root of every node, where |scale| is largest in its tree; its parent, and the edge to it."""
    graph = _graph(edges, nodes)
    labels = _labels(graph)
    parent, link = tree(graph, _first_of_each(labels), edges)
    mantissa, exponent, _, _ = compounded(edges, parent, link)
    roots = _largest_of_each(labels, mantissa, exponent)
    return (roots[labels], *tree(graph, roots, edges))


def _graph(edges: Edges, nodes: int) -> sparse.csr_array:
    return sparse.csr_array((np.ones(edges.count, bool), (edges.x, edges.y)), shape=(nodes, nodes))


def _labels(graph: sparse.csr_array) -> Integers:
    labels: Integers = csgraph.connected_components(graph, directed=False)[1]
    return labels


def _chained(edges: Edges, nodes: int) -> Integers | None:
    """The first node of each tree where the edges are a forest already: each leads down to a node of its own.

    As patterns and loops say ties. Followed by pointer doubling, a tenth of the time of a search through the graph.
    """
    if not (edges.x < edges.y).all():
        return None
    # Four bytes where they do: the pointers are read in random order.
    own = np.arange(nodes, dtype=np.int32 if nodes < 2**31 else np.int64)
    parent = own.copy()
    parent[edges.y] = edges.x
    if edges.count != nodes - int((parent == own).sum()):
        return None
    while True:
        above = parent[parent]
        if (above == parent).all():
            return parent.astype(np.int64)
        parent = above


def _first_of_each(labels: Integers) -> Integers:
    roots = np.full(int(labels.max(initial=-1)) + 1, -1, np.int64)
    roots[labels[::-1]] = np.arange(len(labels) - 1, -1, -1)
    return roots


def _largest_of_each(labels: Integers, mantissa: Floats, exponent: Integers) -> Integers:
    """The node of largest |scale| in each tree, the first where several are."""
    with np.errstate(divide="ignore"):
        size = np.log2(np.abs(mantissa)) + exponent
    order = np.lexsort((np.arange(len(labels)), -np.round(size, 9), labels))
    return order[np.searchsorted(labels[order], np.arange(int(labels.max(initial=-1)) + 1))]


def tree(graph: sparse.csr_array, roots: Integers, edges: Edges) -> tuple[Integers, Integers]:
    """Every node's parent and the edge to it, by one breadth-first search from a node placed above all roots."""
    nodes = graph.shape[0]
    # One row more, as it stands: SciPy's own stacking takes longer than the search in a small graph.
    indices = np.concatenate([graph.indices, np.sort(roots).astype(graph.indices.dtype)])
    bounds = np.concatenate([graph.indptr, [len(indices)]]).astype(graph.indptr.dtype)
    grown = sparse.csr_array((np.ones(len(indices), bool), indices, bounds), shape=(nodes + 1, nodes + 1))
    _, parent = csgraph.breadth_first_order(grown, nodes, directed=False)
    parent = parent[:nodes].astype(np.int64)
    at_root = parent == nodes
    parent[at_root] = np.flatnonzero(at_root)
    return parent, _links(edges, parent)


def _links(edges: Edges, parent: Integers) -> Integers:
    """An edge that joins each node to its parent; of several any one, the others are checked like all off the tree."""
    link = np.full(len(parent), -1, np.int64)
    down, up = np.flatnonzero(parent[edges.y] == edges.x), np.flatnonzero(parent[edges.x] == edges.y)
    link[edges.y[down]] = down
    link[edges.x[up]] = up
    return link


def _steps(edges: Edges, parent: Integers, link: Integers) -> tuple[Floats, Floats, Floats]:
    """`w[node] = ratio · w[parent] + shift` of every node, the identity at roots, and the size of each shift."""
    ratio, shift, size = np.ones(len(parent)), np.zeros(len(parent)), np.zeros(len(parent))
    child = np.flatnonzero(link >= 0)
    edge = link[child]
    forward = edges.y[edge] == child
    near = np.where(forward, edges.b[edge], edges.a[edge])
    far = np.where(forward, edges.a[edge], edges.b[edge])
    ratio[child], shift[child] = -far / near, edges.c[edge] / near
    said = np.abs(edges.c) if edges.size is None else np.maximum(edges.size, np.abs(edges.c))
    size[child] = said[edge] / np.abs(near)
    return ratio, shift, size


def compounded(edges: Edges, parent: Integers, link: Integers) -> tuple[Floats, Integers, Floats, Floats]:
    """Mantissa and exponent of the scale, the shift and its size, of every node relative to its root."""
    ratio, shift, size = _steps(edges, parent, link)
    mantissa, exponent = np.frexp(ratio)
    exponent, above = exponent.astype(np.int64), parent
    # A shift may overflow while the root is not yet the largest; then only the scales are used.
    with np.errstate(over="ignore", invalid="ignore"):
        while (above != above[above]).any():
            scale = _joined(mantissa, exponent)
            shift, size = shift + scale * shift[above], size + np.abs(scale) * size[above]
            mantissa, carry = np.frexp(mantissa * mantissa[above])
            exponent = exponent + exponent[above] + carry
            above = above[above]
    return mantissa, exponent, shift, size


def _joined(mantissa: Floats, exponent: Integers) -> Floats:
    """The scale as one number; an underflow to zero is a share too small to matter."""
    return np.ldexp(mantissa, np.clip(exponent, -2000, 1000))
