"""Put a few equations on top of regular blocks, which stay as they are, and solve them by their Schur complement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affinet.blocks.bases import AnyBase
from affinet.blocks.bordered import Bordered
from affinet.blocks.equal_places import equal_places
from affinet.blocks.places import Part
from affinet.errors import counted
from affinet.language.forecast import forecast
from affinet.planning.contradiction import Contradiction
from affinet.planning.overlaps.schur import complement
from affinet.system.distinct import distinct, ranked
from affinet.system.layout import Layout
from affinet.system.limits import Limits
from affinet.system.rows import Rows
from affinet.system.tolerance import Tolerance


def bordered(bases: Sequence[AnyBase], rows: Rows, layout: Layout, tolerance: Tolerance, limits: Limits) -> Bordered:
    """One block of bases that share no entry and of all equations in `rows`.

    Raises Contradiction with the rules of all if they cannot hold together, and TooLargeError.
    """
    columns, place_of_value = ranked(rows.columns)
    description = f"{rows.count:,} equation{'s' * (rows.count != 1)} with {len(place_of_value):,} terms"
    forecast(f"{description} on top of {len(bases):,} block{'s' * (len(bases) != 1)}", 6 * len(place_of_value))
    column_places, first = np.full(len(columns), -1, np.int64), 0
    for base in bases:
        place_in_base = base.entries.find(columns, layout)
        column_places[place_in_base >= 0] = first + place_in_base[place_in_base >= 0]
        first += base.entries.count
    forecast(
        f"solving {counted(rows.count, 'more equation')} over {first:,} entries of regular rules",
        first,
        item_bytes=4,
    )
    loose_columns = np.flatnonzero(column_places < 0)
    column_places[loose_columns] = first + np.arange(len(loose_columns))
    loose = tuple(Part(parameter, positions) for parameter, _, positions in layout.split(columns[loose_columns]))
    placed = Rows(rows.bounds, column_places[place_of_value], rows.values, rows.rhs, rows.rule, rows.index)
    matrix = placed.matrix(first + len(loose_columns)).copy()  # sorted in place, while the rows belong to the caller
    matrix.sort_indices()
    rules = tuple(int(k) for k in distinct(np.array([*rows.rule, *(rule for base in bases for rule in base.rules)])))
    schur_complement = complement(bases, matrix, rows.rhs, rows.magnitude, tolerance, limits.few_numbers)
    if not schur_complement.consistent:
        raise Contradiction(rules)
    equal = equal_places(bases, matrix, rows.rhs)
    exact = equal.pinned, equal.values, equal.copies
    return Bordered(
        tuple(bases), loose, matrix, rows.rhs, schur_complement.factor, *exact, rules, schur_complement.ambiguous
    )
