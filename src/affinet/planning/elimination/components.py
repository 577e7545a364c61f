"""Split the equations that remain after elimination into connected components: batches of small ones, or large ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from affinet.errors import counted
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
    """Connected components of the core, batched by (equations, unknowns), whatever the order of the equations.

    `names` are those of the rules, for the TooLargeError of a batch that does not fit in memory.
    """
    if not core.count:
        return []
    homogeneous = replace(core, rhs=np.zeros(core.count), size=None)
    return [
        replace(component, rhs=core.rhs[component.rows], terms=terms[component.rows])
        for component in from_coefficients(_split, homogeneous, limits, tuple(names))
    ]


def _split(core: Rows, limits: Limits, names: Sequence[str]) -> list[Batch | Giant]:
    """Components without right-hand sides."""
    nodes, place_of_value = ranked(core.columns)
    row_label, node_label, count = _label_components(core, place_of_value, len(nodes))
    row_order, node_order = np.argsort(row_label, kind="stable"), np.argsort(node_label, kind="stable")
    r, n = np.bincount(row_label, minlength=count), np.bincount(node_label, minlength=count)
    row_first, node_first = np.cumsum(r) - r, np.cumsum(n) - n
    place_of_node = np.empty(len(nodes), np.int64)
    place_of_node[node_order] = np.arange(len(nodes)) - np.repeat(node_first, n)
    components: list[Batch | Giant] = []
    for size, members in _group_by_size(r, n):
        rows = row_order[row_first[members][:, None] + np.arange(size[0])]
        columns = node_order[node_first[members][:, None] + np.arange(size[1])]
        if size[0] > limits.dense_rows or size[0] * size[1] > limits.dense_numbers:
            components += [
                _make_giant(core, nodes, place_of_node, place_of_value, *pair)
                for pair in zip(rows, columns, strict=True)
            ]
        else:
            _forecast_memory(size, len(members), core.rule[rows[:, 0]], names)
            components.append(_make_batch(core, nodes, place_of_node, place_of_value, rows, columns))
    return components


def _forecast_memory(size: tuple[int, int], count: int, rules: Integers, names: Sequence[str]) -> None:
    rule_names = [f'"{names[rule]}"' for rule in distinct(rules)[:3] if rule < len(names)]
    origin = f" of {', '.join(rule_names)}" if rule_names else ""
    components = f"{counted(count, 'component')} of {counted(size[0], 'equation')}"
    description = f"{components} over {counted(size[1], 'unknown')}{origin}, as dense matrices,"
    forecast(description, count * size[0] * size[1])


def _label_components(core: Rows, place_of_value: Integers, width: int) -> tuple[Integers, Integers, int]:
    """Component number of every row and every node. The graph joins each row to its nodes.

    Where few rows have many nodes, it joins each row to the first rows that have these nodes. Rows that share no node
    are components of their own.
    """
    if width == len(place_of_value):
        labels = np.empty(width, np.int64)
        labels[place_of_value] = core.row_of_each()
        return np.arange(core.count), labels, core.count
    if core.count**2 <= len(place_of_value):
        owner, row = np.empty(width, np.int64), core.row_of_each()
        owner[place_of_value[::-1]] = row[::-1]  # of several numbers for one place the last is written
        pairs = distinct(row * core.count + owner[place_of_value])
        ends = (pairs // core.count, pairs % core.count)
        joined = sparse.csr_array((np.ones(len(pairs), np.int8), ends), shape=(core.count,) * 2)
        count, labels = csgraph.connected_components(joined, directed=False)
        return labels, labels[owner], int(count)
    graph = sparse.csr_array(
        (np.ones(len(place_of_value), np.int8), (core.row_of_each(), place_of_value + core.count)),
        shape=(core.count + width,) * 2,
    )
    count, labels = csgraph.connected_components(graph, directed=False)
    return labels[: core.count], labels[core.count :], int(count)


def _group_by_size(r: Integers, n: Integers) -> list[tuple[tuple[int, int], Integers]]:
    base = int(n.max(initial=0)) + 1
    sizes, group_of = ranked(r.astype(np.int64) * base + n)
    return [(divmod(int(size), base), np.flatnonzero(group_of == k)) for k, size in enumerate(sizes)]


def _make_batch(
    core: Rows, nodes: Integers, place_of_node: Integers, place_of_value: Integers, rows: Integers, columns: Integers
) -> Batch:
    selected = core.select(rows.ravel())
    k, r = rows.shape
    matrix = np.zeros((k, r, columns.shape[1]))
    lengths = selected.lengths
    if (lengths == columns.shape[1]).all():  # columns ascend within a row, and places with them
        return Batch(nodes[columns], selected.values.reshape(matrix.shape), NO_NUMBERS, NO_NUMBERS, rows)
    source = np.repeat(core.bounds[:-1][rows.ravel()] - selected.bounds[:-1], lengths) + np.arange(
        len(selected.columns)
    )
    owner = selected.row_of_each()
    matrix[owner // r, owner % r, place_of_node[place_of_value[source]]] = selected.values
    return Batch(nodes[columns], matrix, NO_NUMBERS, NO_NUMBERS, rows)


def _make_giant(
    core: Rows, nodes: Integers, place_of_node: Integers, place_of_value: Integers, rows: Integers, columns: Integers
) -> Giant:
    selected = core.select(rows)
    source = np.repeat(core.bounds[:-1][rows] - selected.bounds[:-1], selected.lengths) + np.arange(
        len(selected.columns)
    )
    matrix = sparse.csr_array(
        (selected.values, place_of_node[place_of_value[source]], selected.bounds), shape=(len(rows), len(columns))
    )
    return Giant(nodes[columns], matrix, NO_NUMBERS, NO_NUMBERS, rows)
