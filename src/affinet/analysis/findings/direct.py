"""Label entries that are tied directly: those connected by equations of two entries get the same label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from affinet.language.calculus.terms import Integers
from affinet.system.distinct import ranked
from affinet.system.rows import Rows


@dataclass(frozen=True, eq=False)
class Direct:
    """Labels of entries: two entries have the same label if equations of two entries connect them."""

    columns: Integers
    labels: Integers

    @classmethod
    def of(cls, rows: Rows) -> Direct:
        ties = rows.select(np.flatnonzero(rows.lengths == 2))
        columns, local = ranked(ties.columns)
        graph = sparse.csr_array((np.ones(ties.count, bool), (local[0::2], local[1::2])), shape=(len(columns),) * 2)
        return cls(columns, csgraph.connected_components(graph, directed=False)[1])

    def label(self, columns: Integers) -> Integers:
        """The label of each column; a column that is in no tie gets a label that no other column has."""
        if not len(self.columns):
            return -1 - columns
        at = np.minimum(np.searchsorted(self.columns, columns), len(self.columns) - 1)
        return np.where(self.columns[at] == columns, self.labels[at], -1 - columns)
