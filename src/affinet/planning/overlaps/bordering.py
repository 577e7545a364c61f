"""A few equations on top of regular blocks, which stay as they are: the few are solved by their Schur complement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affinet.blocks.bases import AnyBase
from affinet.blocks.bordered import Bordered
from affinet.blocks.equal import equal_places
from affinet.blocks.places import Part
from affinet.language.forecast import forecast
from affinet.planning.contradiction import Contradiction
from affinet.planning.overlaps.schur import complement
from affinet.system.distinct import distinct, ranked
from affinet.system.layout import Layout
from affinet.system.limits import Limits
from affinet.system.rows import Rows
from affinet.system.tolerance import Tolerance


def bordered(bases: Sequence[AnyBase], rows: Rows, layout: Layout, tolerance: Tolerance, limits: Limits) -> Bordered:
    """One block of bases that share no entry and of all equations in `rows`, which touch them or one another.

    Raises Contradiction with the rules of all where they cannot hold together, and TooLargeError.
    """
    columns, local = ranked(rows.columns)
    said = f"{rows.count:,} equation{'s' * (rows.count != 1)} with {len(local):,} terms"
    forecast(f"{said} beside {len(bases):,} block{'s' * (len(bases) != 1)}", 6 * len(local))
    place, first = np.full(len(columns), -1, np.int64), 0
    for base in bases:
        found = base.entries.find(columns, layout)
        place[found >= 0] = first + found[found >= 0]
        first += base.entries.count
    forecast(f"solving {rows.count:,} more equations over {first:,} entries of regular rules", first, item_bytes=4)
    free = np.flatnonzero(place < 0)
    place[free] = first + np.arange(len(free))
    loose = tuple(Part(parameter, positions) for parameter, _, positions in layout.split(columns[free]))
    placed = Rows(rows.bounds, place[local], rows.values, rows.rhs, rows.rule, rows.index)
    matrix = placed.matrix(first + len(free)).copy()  # sorted in place, and the rows are somebody else's
    matrix.sort_indices()
    rules = tuple(int(k) for k in distinct(np.array([*rows.rule, *(rule for base in bases for rule in base.rules)])))
    solved = complement(bases, matrix, rows.rhs, rows.magnitude, tolerance, limits.few_numbers)
    if not solved.consistent:
        raise Contradiction(rules)
    equal = equal_places(bases, matrix, rows.rhs)
    exact = equal.pinned, equal.values, equal.copies
    return Bordered(tuple(bases), loose, matrix, rows.rhs, solved.factor, *exact, rules, solved.ambiguous)
