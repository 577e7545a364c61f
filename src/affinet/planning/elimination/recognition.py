"""Components that turn out to be slices: one matrix over untied entries at regular places of one parameter."""

from __future__ import annotations

import numpy as np

from affinet.blocks.offsets import Nest, compress
from affinet.blocks.regular import RowBatch, row_batch
from affinet.language.calculus.terms import Floats, Integers
from affinet.system.layout import Layout


def recognised(columns: Integers, matrix: Floats, rhs: Floats, layout: Layout) -> RowBatch | None:
    """The batch that components of one size are, or None.

    Shapes: columns (k, n) of entries, matrix (k, r, n), rhs (k, r). A single component must be regular inside, several
    must lie at regular places: else a dense factor over gathered entries serves them better.
    """
    if (matrix != matrix[:1]).any():
        return None
    within = np.argsort(columns[0])
    columns = columns[:, within]
    cells = np.argsort(columns[:, 0], kind="stable")
    columns = columns[cells]
    inner = columns[0] - columns[0, 0]
    number, last = layout.numbers(np.array([columns.min(), columns.max()]))
    if number != last or (columns - columns[:, :1] != inner).any():
        return None
    first, outer = compress(columns[:, 0])
    regular = outer if len(columns) > 1 else compress(inner)[1]
    if not isinstance(regular, Nest):
        return None
    owner = np.zeros((1, matrix.shape[1]), np.int64)
    place = first - layout.starts[number]
    return row_batch(layout.parameters[number], place, outer, inner, matrix[0][:, within], rhs[cells], owner)
