"""Components that turn out to be slices: one matrix over untied entries at regular places of one parameter."""

from __future__ import annotations

import numpy as np

from affinet.blocks.offsets import Nest, Offsets, compress
from affinet.blocks.regular import RowBatch, row_batch
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.planning.refit.record import from_coefficients
from affinet.system.layout import Layout


def recognised(columns: Integers, matrix: Floats, rhs: Floats, layout: Layout) -> RowBatch | None:
    """The batch that components of one size are, or None.

    Shapes: columns (k, n) of entries, matrix (k, r, n), rhs (k, r). A single component must be regular inside, several
    must lie at regular places: else a dense factor over gathered entries serves them better.
    """
    found = from_coefficients(_regular, columns, matrix, layout)
    if found is None:
        return None
    parameter, place, cells, outer, inner, shared = found
    owner = np.zeros((1, matrix.shape[1]), np.int64)
    return row_batch(parameter, place, outer, inner, shared, rhs[cells], owner)


def _regular(
    columns: Integers, matrix: Floats, layout: Layout
) -> tuple[Parameter, int, Integers, Offsets, Integers, Floats] | None:
    """The parameter, the first place, the order of the components, their places, those inside, and the matrix."""
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
    place = int(first - layout.starts[number])
    return layout.parameters[number], place, cells, outer, inner, matrix[0][:, within]
