"""What is left after elimination, in connected components: many small ones of one form, or a large one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from affinet.language.calculus.terms import Floats, Integers
from affinet.language.forecast import forecast
from affinet.planning.refit.record import from_coefficients
from affinet.system.distinct import distinct, ranked
from affinet.system.limits import Limits
from affinet.system.rows import Rows

NO_NUMBERS = np.zeros(0)


@dataclass(frozen=True, eq=False)
class Batch:
    """Components with r equations over n nodes each: `matrix[k] @ z[nodes[k]] == rhs[k]`.

    Shapes: nodes (k, n), matrix (k, r, n), rhs and terms (k, r), rows (k, r) into the core.
    """

    nodes: Integers
    matrix: Floats
    rhs: Floats
    terms: Floats
    rows: Integers


@dataclass(frozen=True, eq=False)
class Giant:
    """One component too large for a dense factor; `nodes` are its unknowns, `rows` its equations in the core."""

    nodes: Integers
    matrix: sparse.csr_array
    rhs: Floats
    terms: Floats
    rows: Integers


def split(core: Rows, terms: Floats, limits: Limits, names: Sequence[str] = ()) -> list[Batch | Giant]:
    """Connected components of the core, batched by (equations, unknowns) whatever order the equations came in.

    `names` are those of the rules, for the TooLargeError of a batch that memory cannot hold.
    """
    if not core.count:
        return []
    bare = replace(core, rhs=np.zeros(core.count), size=None)
    return [
        replace(found, rhs=core.rhs[found.rows], terms=terms[found.rows])
        for found in from_coefficients(_split, bare, limits, tuple(names))
    ]


def _split(core: Rows, limits: Limits, names: Sequence[str]) -> list[Batch | Giant]:
    """Components without right-hand sides."""
    nodes, local = ranked(core.columns)
    row_label, node_label, count = _labels(core, local, len(nodes))
    row_order, node_order = np.argsort(row_label, kind="stable"), np.argsort(node_label, kind="stable")
    r, n = np.bincount(row_label, minlength=count), np.bincount(node_label, minlength=count)
    row_first, node_first = np.cumsum(r) - r, np.cumsum(n) - n
    place = np.empty(len(nodes), np.int64)
    place[node_order] = np.arange(len(nodes)) - np.repeat(node_first, n)
    found: list[Batch | Giant] = []
    for size, members in _by_size(r, n):
        rows = row_order[row_first[members][:, None] + np.arange(size[0])]
        columns = node_order[node_first[members][:, None] + np.arange(size[1])]
        if size[0] > limits.dense_rows or size[0] * size[1] > limits.dense_numbers:
            found += [_giant(core, nodes, place, local, *pair) for pair in zip(rows, columns, strict=True)]
        else:
            _forecast(size, len(members), core.rule[rows[:, 0]], names)
            found.append(_batch(core, nodes, place, local, rows, columns))
    return found


def _forecast(size: tuple[int, int], count: int, rules: Integers, names: Sequence[str]) -> None:
    said = [f'"{names[rule]}"' for rule in distinct(rules)[:3] if rule < len(names)]
    of = f" of {', '.join(said)}" if said else ""
    equations = f"{size[0]:,} equation{'s' * (size[0] != 1)}"
    what = f"{count:,} components of {equations} over {size[1]:,} unknowns{of}, as dense matrices,"
    forecast(what, count * size[0] * size[1])


def _labels(core: Rows, local: Integers, width: int) -> tuple[Integers, Integers, int]:
    """Component number of every row and every node: the graph joins each row to its nodes."""
    graph = sparse.csr_array(
        (np.ones(len(local), np.int8), (core.row_of_each(), local + core.count)), shape=(core.count + width,) * 2
    )
    count, labels = csgraph.connected_components(graph, directed=False)
    return labels[: core.count], labels[core.count :], int(count)


def _by_size(r: Integers, n: Integers) -> list[tuple[tuple[int, int], Integers]]:
    sizes, which = np.unique(np.stack([r, n], 1), axis=0, return_inverse=True)
    which = which.ravel()
    return [((int(a), int(b)), np.flatnonzero(which == k)) for k, (a, b) in enumerate(sizes)]


def _batch(core: Rows, nodes: Integers, place: Integers, local: Integers, rows: Integers, columns: Integers) -> Batch:
    taken = core.select(rows.ravel())
    k, r = rows.shape
    matrix = np.zeros((k, r, columns.shape[1]))
    lengths = taken.lengths
    source = np.repeat(core.bounds[:-1][rows.ravel()] - taken.bounds[:-1], lengths) + np.arange(len(taken.columns))
    owner = taken.row_of_each()
    matrix[owner // r, owner % r, place[local[source]]] = taken.values
    return Batch(nodes[columns], matrix, NO_NUMBERS, NO_NUMBERS, rows)


def _giant(core: Rows, nodes: Integers, place: Integers, local: Integers, rows: Integers, columns: Integers) -> Giant:
    taken = core.select(rows)
    source = np.repeat(core.bounds[:-1][rows] - taken.bounds[:-1], taken.lengths) + np.arange(len(taken.columns))
    matrix = sparse.csr_array((taken.values, place[local[source]], taken.bounds), shape=(len(rows), len(columns)))
    return Giant(nodes[columns], matrix, NO_NUMBERS, NO_NUMBERS, rows)
