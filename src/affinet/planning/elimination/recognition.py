"""Recognise components that are slices: one matrix over untied entries at regular places of one parameter."""

from __future__ import annotations

import numpy as np

from affinet.blocks.offsets import Nest, Offsets, compress
from affinet.blocks.regular import RowBatch, row_batch
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.planning.refit.record import from_coefficients
from affinet.system.layout import Layout


def recognise(columns: Integers, matrix: Floats, rhs: Floats, layout: Layout) -> RowBatch | None:
    """The batch of regular rows that equals components of one size; None if they are not regular.

    Shapes: columns (k, n) of entries, matrix (k, r, n), rhs (k, r). A single component must be regular inside, several
    must lie at regular places; otherwise a dense factor over gathered entries serves them better.
    """
    match = from_coefficients(_match_regular, columns, matrix, layout)
    if match is None:
        return None
    parameter, offset, cell_order, outer, inner, shared = match
    owner = np.zeros((1, matrix.shape[1]), np.int64)
    return row_batch(parameter, offset, outer, inner, shared, rhs[cell_order], owner)


def _match_regular(
    columns: Integers, matrix: Floats, layout: Layout
) -> tuple[Parameter, int, Integers, Offsets, Integers, Floats] | None:
    """The parameter, the first place, the order of components, their places, the places inside each, and the matrix."""
    if (matrix != matrix[:1]).any():
        return None
    within = np.argsort(columns[0])
    columns = columns[:, within]
    cell_order = np.argsort(columns[:, 0], kind="stable")
    columns = columns[cell_order]
    inner = columns[0] - columns[0, 0]
    number, last = layout.numbers(np.array([columns.min(), columns.max()]))
    if number != last or (columns - columns[:, :1] != inner).any():
        return None
    first, outer = compress(columns[:, 0])
    regular = outer if len(columns) > 1 else compress(inner)[1]
    if not isinstance(regular, Nest):
        return None
    place = int(first - layout.starts[number])
    return layout.parameters[number], place, cell_order, outer, inner, matrix[0][:, within]
