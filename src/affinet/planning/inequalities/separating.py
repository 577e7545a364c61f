"""Take the inequalities out of a system, with the equations that share entries with them, and make their sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from affinet.blocks.kinds import AnyBlock
from affinet.blocks.regular import RowBatch
from affinet.language.calculus.terms import Integers, Parameter
from affinet.planning.inequalities.halfspaces import halfspaces
from affinet.planning.inequalities.large_sets import make_regular, read_large, take_bounds
from affinet.planning.inequalities.norm_balls import make_balls
from affinet.planning.inequalities.solving import solve_with_inequalities
from affinet.planning.overlaps.fixed_entries import FixedEntries, OtherRules
from affinet.system.distinct import distinct
from affinet.system.rows import Rows, concatenate
from affinet.system.system import System


def separate_inequalities(
    equations: OtherRules,
    numbers: Sequence[int],
    system: System,
    *,
    fixed: FixedEntries,
    over_free: Callable[[Rows], Rows],
    further: Rows,
) -> tuple[list[AnyBlock], OtherRules]:
    """The sets of the numbered inequality rules, and the equations that share no entry with them.

    Large rules that fit a form become sets without a number per entry; the other rules are read row by row. `over_free`
    reduces rows to entries that are not `fixed`. `further` are rows of other inequality rules.
    Raises Contradiction, RuleError and TooLargeError.
    """
    balls = make_balls(system, [number for number in numbers if system.rules[number].norm is not None])
    linear_rules = [number for number in numbers if system.rules[number].norm is None]
    readings, by_row = read_large(system, linear_rules)
    rows = take_bounds(readings, over_free(halfspaces(system, by_row)), system.layout)
    batches: dict[Parameter, list[RowBatch]] = {}
    for batch in equations.batches:
        batches.setdefault(batch.parameter, []).append(batch)
    elsewhere = _parameters_elsewhere(equations, rows, system)
    # Sums and differences over entries that are fixed are read row by row.
    elsewhere |= {
        p for p, reading in readings.items() if fixed.mask(p) is not None and (reading.sums or reading.ladders)
    }
    sets, used, remaining, bounds = make_regular(readings, batches, elsewhere, fixed, system)
    equations = replace(
        equations, batches=[batch for batch in equations.batches if not any(batch is other for other in used)]
    )
    rows = concatenate([further, rows, *bounds, over_free(halfspaces(system, remaining))])
    if not rows.count:
        return [*balls, *sets], equations
    equations, connected = split_connected(equations, rows.columns, system, over_free)
    return [*balls, *sets, *solve_with_inequalities(connected, rows, system)], equations


def _parameters_elsewhere(equations: OtherRules, inequalities: Rows, system: System) -> set[Parameter]:
    """Parameters that single rows, pairs or panels read."""
    rules = {rule for pair in equations.pairs for rule in pair.rules} | {panel.rule for panel in equations.panels}
    parameters = {term.parameter for rule in rules for term in system.rules[rule].expression.terms}
    columns = np.concatenate([equations.rows.columns, inequalities.columns])
    return parameters | {parameter for parameter, _, _ in system.layout.split(distinct(columns))}


def split_connected(
    equations: OtherRules, columns: Integers, system: System, over_free: Callable[[Rows], Rows]
) -> tuple[OtherRules, Rows]:
    """The equations that share no entry with the columns, directly or through others; all further ones as rows."""
    layout = system.layout
    batches, pairs, panels = list(equations.batches), list(equations.pairs), list(equations.panels)
    rows = equations.rows
    while True:
        connected = connected_rows(rows, columns)
        touched = distinct(np.concatenate([columns, rows.select(np.flatnonzero(connected)).columns]))
        expanded: list[Rows] = []
        untouched: list[RowBatch] = []
        for batch in batches:
            cells = batch.cells_of(_positions(touched, batch, system))
            remaining_cells = batch.without(cells) if len(cells) else batch
            untouched += [] if remaining_cells is None else [remaining_cells]
            expanded += [batch.keep(cells).rows(layout)] if len(cells) else []
        batches = untouched
        for pair in [pair for pair in pairs if (pair.entries.find(touched, layout) >= 0).any()]:
            pairs.remove(pair)
            expanded.append(over_free(system.rows(pair.rules)))
        for panel in [panel for panel in panels if np.isin(panel.columns(layout), touched).any()]:
            panels.remove(panel)
            expanded.append(over_free(system.rows([panel.rule])))
        if not expanded:
            break
        rows = concatenate([rows, *expanded])
    return (
        OtherRules(batches, pairs, panels, rows.select(np.flatnonzero(~connected))),
        rows.select(np.flatnonzero(connected)),
    )


def _positions(columns: Integers, batch: RowBatch, system: System) -> Integers:
    """Those of the columns that lie in the parameter of a batch, as positions in it."""
    start = system.layout.start(batch.parameter)
    inside = columns[np.searchsorted(columns, start) : np.searchsorted(columns, start + batch.parameter.size)]
    return inside - start


def connected_rows(rows: Rows, columns: Integers) -> np.ndarray:
    """Which rows share entries with the columns, directly or through other rows."""
    if not rows.count:
        return np.zeros(0, bool)
    nodes, place = np.unique(rows.columns, return_inverse=True)
    size = rows.count + len(nodes) + 1
    inside = np.flatnonzero(np.isin(nodes, columns))
    first = np.concatenate([rows.row_of_each(), np.full(len(inside), size - 1)])
    second = np.concatenate([place.ravel(), inside]) + rows.count
    graph = sparse.coo_array((np.ones(len(first), np.int8), (first, second)), shape=(size, size)).tocsr()
    _, labels = csgraph.connected_components(graph, directed=False)
    return np.asarray(labels[: rows.count] == labels[-1])
