"""Compare rows by the entries that they read: which are connected, and their parts without some entries."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from affinet.language.calculus.terms import Integers
from affinet.system.distinct import ranked
from affinet.system.rows import Rows


def connected_with(rows: Rows, marked: np.ndarray) -> np.ndarray:
    """Which rows share entries with a marked row, directly or through other rows."""
    used, place = ranked(rows.columns)
    size = rows.count + len(used)
    ends = (rows.row_of_each(), place + rows.count)
    graph = sparse.coo_array((np.ones(len(place), np.int8), ends), shape=(size, size)).tocsr()
    count, labels = csgraph.connected_components(graph, directed=False)
    with_mark = np.zeros(count, bool)
    with_mark[labels[: rows.count][marked]] = True
    return np.asarray(with_mark[labels[: rows.count]])


def values_of(rows: Rows, numbers: Integers) -> Integers:
    """The places of the stored values of the numbered rows."""
    lengths = rows.lengths[numbers]
    ends = np.cumsum(lengths)
    return np.repeat(rows.bounds[:-1][numbers] - (ends - lengths), lengths) + np.arange(int(lengths.sum()))


def without_entries(rows: Rows, place: Integers, excluded: np.ndarray) -> tuple[Rows, np.ndarray]:
    """The rows with entries numbered by `place`, one number for each stored value, without the excluded values.

    And which rows have any left.
    """
    remaining = ~excluded
    bounds = np.concatenate([[0], np.cumsum(remaining)])[rows.bounds]
    reduced = Rows(bounds, place[remaining], rows.values[remaining], rows.rhs, rows.rule, rows.index)
    return reduced, np.diff(bounds) > 0
