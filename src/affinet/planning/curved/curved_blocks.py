"""Take the nonlinear rules out of a system, with the linear ones that share entries with them, and make blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from affinet.blocks.ball import Ball
from affinet.blocks.curved import Curved
from affinet.blocks.curved_set import CurvedSet
from affinet.blocks.fixed import fixed_at
from affinet.blocks.interval import Interval
from affinet.blocks.kinds import AnyBlock
from affinet.blocks.large_curved_set import LargeCurvedSet
from affinet.blocks.mixed_set import MixedSet
from affinet.blocks.namespace import NumPy
from affinet.blocks.places import Listed, Part
from affinet.blocks.programs.equation_program import EquationProgram
from affinet.errors import RuleError
from affinet.language.calculus.terms import Floats, Integers
from affinet.language.forecast import forecast
from affinet.planning.contradiction import Contradiction
from affinet.planning.curved.equal_components import Cells, LargeComponent, cells_of, read_columns
from affinet.planning.curved.large_components import large_rank, large_set
from affinet.planning.curved.lowering import Lowered, lower
from affinet.planning.curved.mixed_components import MixedComponent, Neighbours, mixed_sets, neighbours
from affinet.planning.curved.recognizing import recognized
from affinet.planning.inequalities.sets import places_of_cells
from affinet.planning.overlaps.fixed_entries import FixedEntries, OtherRules
from affinet.planning.reading.fixings import Fixing
from affinet.system import lapack
from affinet.system.distinct import distinct
from affinet.system.layout import Layout
from affinet.system.rows import Rows, concatenate
from affinet.system.system import System

DERIVATIVE_BYTES = 40
"""Memory for one derivative of an equation by an entry or a number of a step: some arrays of float64."""
RETURNED = 25
"""Iterations in which a random point is brought onto the equations before the rank there is computed."""
STARTS = 2
"""Random points from which the generic rank is computed."""


def separate_curved(
    equations: OtherRules,
    system: System,
    fixed: FixedEntries,
    over_free: Callable[[Rows], Rows],
    joined: Sequence[int] = (),
) -> tuple[list[Curved | Ball], Neighbours]:
    """The blocks of the nonlinear rules, and the linear rules that share entries with them, or do not.

    `joined` are rules that bound lengths, and are nonlinear inequalities.
    Entries that single equations fix are constants of the nonlinear ones, and are added to `fixed`. Raises
    Contradiction where an equation holds nowhere because all its entries are fixed, RuleError where nonlinear equations
    share entries with too many inequalities, and TooLargeError.
    """
    blocks, numbers = recognized(system, system.curved_rules)
    numbers += joined
    if not numbers:
        return blocks, Neighbours(equations, concatenate([]), (), concatenate([]), concatenate([]))
    meeting = _neighbours(equations, numbers, system, fixed, over_free)
    lowered = lower(system, numbers, meeting.connected, over_free).turned(system)
    lowered = replace(lowered, inequalities=meeting.inequalities)
    _check_constants(lowered, system)
    parts = cells_of(lowered, system.layout.size, system.limits)
    mixed_parts = [part for part in parts if isinstance(part, MixedComponent) and part.program.width]
    for mixed, rank, entries, rules in mixed_sets(mixed_parts, system):
        blocks.append(_placed(entries, mixed, rank, rules, system))
    for cells in parts:
        if not cells.program.width:
            _check_fixed(cells, system)
            continue
        if isinstance(cells, MixedComponent):
            continue
        if isinstance(cells, Cells):
            names = ", ".join(f'"{system.rule(rule).name}"' for rule in cells.rules[:3])
            forecast(f"the derivatives of {names}", cells.program.derivatives, item_bytes=DERIVATIVE_BYTES)
        blocks.append(_block(cells, system))
    return blocks, meeting


def _neighbours(
    equations: OtherRules,
    numbers: Sequence[int],
    system: System,
    fixed: FixedEntries,
    over_free: Callable[[Rows], Rows],
) -> Neighbours:
    """The linear rules that share entries with nonlinear ones, or do not, without equations that fix an entry."""
    while True:
        without_linear = lower(system, numbers, concatenate([]), over_free)
        columns = read_columns(without_linear, system.layout.size)
        meeting = neighbours(equations, columns, system, over_free)
        fixes = meeting.connected.lengths == 1
        if not fixes.any():
            return meeting
        for fixing in _fixings(meeting.connected.select(np.flatnonzero(fixes)), system.layout):
            fixed.fix(fixing)
        others = over_free(meeting.connected.select(np.flatnonzero(~fixes)))
        unconnected = meeting.equations
        equations = replace(unconnected, rows=concatenate([over_free(unconnected.rows), others]))


def _fixings(rows: Rows, layout: Layout) -> list[Fixing]:
    """What equations in one entry each fix it at: each rule's entries together, unless it fixes one twice."""
    fixings: list[Fixing] = []
    for parameter, places, positions in layout.split(rows.columns):
        rules = rows.rule[places]
        order = np.lexsort((positions, rules))
        rule, position = rules[order], positions[order]
        ends = np.flatnonzero((np.diff(rule) != 0) | (np.diff(position) == 0)) + 1
        for part in np.split(order, ends):
            at, coefficients = places[part], rows.values[places[part]]
            values, sizes = rows.rhs[at] / coefficients, rows.magnitude[at] / np.abs(coefficients)
            block = fixed_at(parameter, positions[part], values + 0.0, (int(rules[part[0]]),))
            fixings.append(Fixing(block, 1.0, in_order=False, size=sizes))
    return fixings


def check_apart(curved: Sequence[Curved | Ball], sets: Sequence[AnyBlock], system: System) -> None:
    """Refuse l1 balls on entries of nonlinear rules. Raises RuleError."""
    layout = system.layout
    for block in curved:
        meeting = [other for other in sets if not block.sizes().keys().isdisjoint(other.sizes())]
        columns = block.entries.columns(np.arange(block.size), layout) if meeting else np.zeros(0, np.int64)
        for other in meeting:
            shared = np.flatnonzero(other.entries.find(columns, layout) >= 0)
            if len(shared):
                first = next(system.rule(rule).name for rule in block.rules if system.rule(rule).curved)
                second = system.rule(other.rules[-1]).name
                raise RuleError(
                    f'rule "{first}" is nonlinear and "{second}" bounds a norm, and both read '
                    f"{layout.describe(int(columns[shared[0]]))}. Train towards the rules "
                    f"with affinet.lagrange(model, optimizer, rules), or bound lengths by families.l2_ball instead."
                )


def _check_constants(lowered: Lowered, system: System) -> None:
    """Equations and inequalities without entries must hold."""
    equations = lowered.equations
    empty = np.flatnonzero(equations.lengths == 0)
    beyond = np.where(lowered.sided[empty], -equations.rhs[empty], np.abs(equations.rhs[empty]))
    violated = empty[beyond > system.tolerance.consistency(8) * equations.magnitude[empty]]
    if len(violated):
        raise Contradiction(distinct(equations.rule[violated]))


def _check_fixed(cells: Cells | LargeComponent | MixedComponent, system: System) -> None:
    """Equations and inequalities all of whose entries are fixed must hold."""
    program, xp, sided = cells.program, NumPy(), 0
    with np.errstate(all="ignore"):
        if isinstance(program, EquationProgram):
            at = program.numbers(np.zeros(0))
            values, sizes = program.values(at), program.sizes(at)
            sided = cells.sided if isinstance(cells, MixedComponent) else 0
        else:
            numbers = program.numbers(xp, np.zeros((program.cells, 0)))
            values, sizes = program.outputs.apply(xp, numbers), program.outputs.sizes(xp, numbers)
    is_sided = np.arange(values.shape[-1]) >= values.shape[-1] - sided
    beyond = np.where(is_sided, values, np.abs(values))
    if not (beyond <= system.tolerance.consistency(8) * sizes).all():
        raise Contradiction(cells.rules)


def _block(cells: Cells | LargeComponent, system: System) -> Curved:
    if isinstance(cells, LargeComponent):
        large = large_set(cells.program, system.limits)
        return _placed(cells.columns[None], large, large_rank(large, system), cells.rules, system)
    return _placed(cells.columns, CurvedSet(cells.program), _generic_rank(cells), cells.rules, system)


def _placed(
    columns: Integers,
    curved: CurvedSet | LargeCurvedSet | MixedSet,
    rank: int | Interval,
    rules: tuple[int, ...],
    system: System,
) -> Curved:
    """The block of a set over the entries `columns` (cells, n)."""
    layout = system.layout
    parameters = layout.numbers(columns.ravel())
    if (parameters == parameters[0]).all():
        return Curved(places_of_cells(columns, layout), curved, None, rank, rules)
    pieces = layout.split(columns.ravel())
    order = np.concatenate([places for _, places, _ in pieces])
    where: Integers = np.empty(len(order), np.int64)
    where[order] = np.arange(len(order))
    entries = Listed(tuple(Part(parameter, positions) for parameter, _, positions in pieces))
    return Curved(entries, curved, where, rank, rules)


def _generic_rank(cells: Cells) -> int | Interval:
    """The rank of the derivatives at two random points of the set: almost everywhere the same, except on branches.

    A set of several branches may have another rank on each: where the two points tell different ones, the rank is known
    within these bounds. A return that is slow ends where the rank is lower than around it: then the rank is that of its
    start.
    """
    ranks = [_ranks_from(cells, seed) for seed in range(STARTS)]
    low, high = int(np.minimum.reduce(ranks).sum()), int(np.maximum.reduce(ranks).sum())
    return low if low == high else Interval(low, high)


def _ranks_from(cells: Cells, seed: int) -> Integers:
    """The rank in each cell at the point to which a random one leads."""
    program, xp = cells.program, NumPy()
    cells_set = CurvedSet(program)
    random: Floats = np.random.default_rng(seed).standard_normal((program.cells, program.width))
    with np.errstate(all="ignore"):
        back = cells_set.returned(xp, random, RETURNED)
        derivatives = program.linearized(xp, np.where(back.arrives & ~back.slow, back.point, random))[2]
        norms = np.linalg.norm(derivatives, axis=2, keepdims=True)
        rows = derivatives / np.where(norms > 0.0, norms, 1.0)
    values = lapack.singular_values(np.where(np.isfinite(rows), rows, 0.0))
    ranks: Integers = (values > 1e-9 * np.maximum(values[:, :1], 1e-300)).sum(axis=1)
    return ranks
