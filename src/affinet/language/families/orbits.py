"""Compute the orbits of a matrix's entries under generators that move rows and columns, in linear time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affinet.language.calculus.terms import Integers
from affinet.language.forecast import forecast
from affinet.language.groups.elements import Moves


def orbits(outputs: Sequence[Moves], inputs: Sequence[Moves]) -> tuple[Integers, Integers | None]:
    """The number of the orbit of every entry of a row-major (rows, columns) matrix, and the sign of the entry in it.

    Law: `w[p_out[i], p_in[j]] == s_out[i] s_in[j] w[i, j]` for every generator holds exactly for the w that are
    `sign[i, j] · z[orbit[i, j]]`. Signs are None where all are 1, and 0 on orbits that come back to themselves with
    the other sign.
    Connected components of the graph that joins each entry to its images; with signs of its double cover, in which
    an entry and its negative are two nodes. Memory: one table of images per generator, with four bytes per entry.
    """
    entries = outputs[0].size * inputs[0].size
    signed = any(generator.signs is not None for generator in (*outputs, *inputs))
    nodes = 2 * entries if signed else entries
    forecast(f"the orbits of {entries:,} entries", nodes * len(outputs), item_bytes=24)
    images = [_images(on_outputs, on_inputs, signed) for on_outputs, on_inputs in zip(outputs, inputs, strict=True)]
    labels = _components(images, nodes)
    if not signed:
        return labels, None
    positive, negative = labels[:entries], labels[entries:]
    orbit = np.minimum(positive, negative)
    # A component of the cover and its mirror image have two labels; the smaller is where the first entry is positive.
    sign = np.where(positive == negative, 0, np.where(positive < negative, 1, -1))
    return orbit, sign.astype(np.int8)


def _images(on_outputs: Moves, on_inputs: Moves, signed: bool) -> Integers:
    """The node that each node moves to; the negative of an entry is the node `entries` places after it."""
    image = (
        on_outputs.permutation.astype(np.int32)[:, None] * on_inputs.size + on_inputs.permutation.astype(np.int32)
    ).reshape(-1)
    if not signed:
        return image
    signs = [
        np.ones(generator.size, np.int64) if generator.signs is None else generator.signs
        for generator in (on_outputs, on_inputs)
    ]
    flipped = np.multiply.outer(*signs).reshape(-1) < 0
    entries = len(image)
    return np.concatenate([image + entries * flipped, image + entries * ~flipped]).astype(np.int32)


def _components(images: Sequence[Integers], nodes: int) -> Integers:
    from scipy import sparse
    from scipy.sparse import csgraph

    generators = len(images)
    ends = np.stack(images, axis=1).reshape(-1)
    bounds = np.arange(0, generators * nodes + 1, generators, dtype=np.int32)
    graph = sparse.csr_array((np.ones(len(ends), np.float64), ends, bounds), shape=(nodes, nodes))
    labels: Integers = csgraph.connected_components(graph, directed=False)[1]
    return labels
