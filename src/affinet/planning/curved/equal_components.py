"""Part nonlinear equations into components that share no entry, and equal small ones into cells of one program."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from affinet.blocks.cell_programs import AffineMap, CellProgram, Step
from affinet.blocks.programs.equation_program import EquationProgram
from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.curved.large_components import large_program
from affinet.planning.curved.lowering import Lowered, LoweredStep, lower
from affinet.planning.curved.mixed_components import MixedComponent, mixed_component
from affinet.system.distinct import distinct
from affinet.system.limits import Limits
from affinet.system.rows import Rows, concatenate
from affinet.system.system import System

MANY = 16
"""Components of one size that are better computed together."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Components of one form: their program, their entries (cells, width) as columns, and the rules of all of them."""

    program: CellProgram
    columns: Integers
    rules: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class LargeComponent:
    """One component, the program of its equations, its entries (width,) as columns, and its rules."""

    program: EquationProgram
    columns: Integers
    rules: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Table:
    """Rows that belong to components: rows of an operand, or equations."""

    rows: Rows
    component: Integers
    """Of each row."""


def cells_of(lowered: Lowered, weights: int, limits: Limits) -> list[Cells | LargeComponent | MixedComponent]:
    """The cells of small components, the large ones, and those with inequalities.

    `weights` counts the columns that are entries of weights. A component all of whose entries are fixed has cells of no
    width: its equations are between constants.
    """
    live = _live(lowered)
    component = _components(lowered, live)
    large = _large(lowered, live, component, limits)
    mixed = np.zeros(len(large), bool)
    mixed[component[lowered.inequalities.columns]] = True
    sided = lowered.equations.select(np.flatnonzero(lowered.sided))
    mixed[component[sided.columns]] = True
    parts: list[Cells | LargeComponent | MixedComponent] = []
    for place in np.flatnonzero(large | mixed).tolist():
        rows = _rows_of(place, lowered, component)
        each = _large_component(place, rows, lowered, component, weights)
        parts.append(_with_inequalities(each, lowered, lowered.sided[rows]) if mixed[place] else each)
    if (large | mixed).all():
        return parts
    live &= ~(large | mixed)[component]
    tables = _tables(lowered, live, component)
    nodes = np.flatnonzero(live & (component >= 0))
    owner = component[nodes]
    order = np.argsort(owner, kind="stable")
    nodes, owner = nodes[order], owner[order]
    count = int(owner.max(initial=-1)) + 1
    first = np.searchsorted(owner, np.arange(count + 1))
    local = np.zeros(lowered.width, np.int64)
    local[nodes] = np.arange(len(nodes)) - first[owner]
    widths = np.bincount(owner[nodes < weights], minlength=count)
    by_signature: dict[bytes, list[int]] = {}
    for number in range(count):
        if first[number] < first[number + 1]:
            by_signature.setdefault(_signature(number, tables, local, int(widths[number])), []).append(number)
    parts += [_made(np.array(each), lowered, tables, local, nodes, first, widths) for each in by_signature.values()]
    return parts


def read_columns(lowered: Lowered, weights: int) -> Integers:
    """The entries of weights that equations read, ascending."""
    return np.flatnonzero(_live(lowered)[:weights])


def reads_entry(system: System, number: int, column: int) -> bool:
    """Whether a nonlinear rule reads an entry of the layout."""
    lowered = lower(system, [number], concatenate([]), lambda rows: rows)
    return bool(_live(lowered)[column])


def _live(lowered: Lowered) -> np.ndarray:
    """The columns that equations read, directly or through steps."""
    live = np.zeros(lowered.width, bool)
    live[lowered.equations.columns] = live[lowered.inequalities.columns] = True
    for step in reversed(lowered.steps):
        numbers = np.flatnonzero(live[step.first : step.first + step.count])
        if step.unit > 1 and len(numbers):  # an inverse is computed as a whole
            numbers = np.unique(numbers // step.unit)[:, None] * step.unit + np.arange(step.unit)
            numbers = numbers.ravel()
            live[step.first + numbers] = True
        for place, operand in enumerate(step.operands):
            live[operand.select(step.rows_of(numbers, place)).columns] = True
    return live


def _components(lowered: Lowered, live: np.ndarray) -> Integers:
    """The component of every live column, numbered by its first column; −1 for the others."""
    first: list[Integers] = []
    second: list[Integers] = []
    size = lowered.width + lowered.equations.count + lowered.inequalities.count
    for step in lowered.steps:
        numbers = np.flatnonzero(live[step.first : step.first + step.count])
        if step.shape is not None:
            size = _connect_products(step, numbers, size, first, second)
            continue
        if step.unit > 1:
            first.append(step.first + numbers)
            second.append(step.first + numbers // step.unit * step.unit)
        for operand in step.operands:
            rows = operand.select(step.rows_of(numbers))
            made = step.per_row(numbers)
            first.append(step.first + made[rows.row_of_each()])
            second.append(rows.columns)
    equations = lowered.equations
    first.append(lowered.width + equations.row_of_each())
    second.append(equations.columns)
    first.append(lowered.width + equations.count + lowered.inequalities.row_of_each())
    second.append(lowered.inequalities.columns)
    ends = np.concatenate(first), np.concatenate(second)
    graph = sparse.coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(size, size)).tocsr()
    _, labels = csgraph.connected_components(graph, directed=False)
    component = np.full(lowered.width, -1, np.int64)
    columns = np.flatnonzero(live)
    _, starts, inverse = np.unique(labels[columns], return_index=True, return_inverse=True)
    rank = np.empty(len(starts), np.int64)
    rank[np.argsort(starts, kind="stable")] = np.arange(len(starts))
    component[columns] = rank[inverse]
    return component


def _connect_products(
    step: LoweredStep, numbers: Integers, size: int, first: list[Integers], second: list[Integers]
) -> int:
    """Connect each number of a product to the two lines that it reads, and each line to its entries.

    Lines are nodes from `size` on; returns the size with them.
    """
    assert step.shape is not None
    for place, operand in enumerate(step.operands):
        lines = step.shape.lines(place, numbers)
        first.append(step.first + numbers)
        second.append(size + lines)
        read = np.unique(lines)
        rows = operand.select(step.shape.entries(place, read).ravel())
        first.append(size + np.repeat(read, step.shape.terms)[rows.row_of_each()])
        second.append(rows.columns)
        size += step.shape.lines_of(place)
    return size


def _large(lowered: Lowered, live: np.ndarray, component: Integers, limits: Limits) -> np.ndarray:
    """Which components multiply whole matrices, or have more equations than a dense matrix of derivatives may."""
    count = int(component.max(initial=-1)) + 1
    equations = lowered.equations
    owner = component[equations.columns[equations.bounds[:-1][equations.lengths > 0]]]
    rows = np.bincount(owner, minlength=count)
    numbers = np.bincount(component[live], minlength=count)
    _, size, counts = np.unique(np.stack([rows, numbers]), axis=1, return_inverse=True, return_counts=True)
    most = np.where(counts[size.ravel()] >= MANY, limits.dense_curved_cells, limits.dense_curved)
    large: np.ndarray = (rows > most) | (rows * numbers > limits.dense_derivatives)
    for step in lowered.steps:
        if step.shape is not None:
            owners = component[step.first : step.first + step.count]
            large[owners[owners >= 0]] = True
    return large


def _rows_of(number: int, lowered: Lowered, component: Integers) -> Integers:
    """The rows of a component: equations, and then nonlinear inequalities."""
    equations = lowered.equations
    rows = np.flatnonzero(equations.lengths > 0)
    rows = rows[component[equations.columns[equations.bounds[rows]]] == number]
    return np.concatenate([rows[~lowered.sided[rows]], rows[lowered.sided[rows]]])


def _large_component(
    number: int, rows: Integers, lowered: Lowered, component: Integers, weights: int
) -> LargeComponent:
    program = large_program(lowered, component == number, rows, weights)
    rules = tuple(int(rule) for rule in distinct(lowered.equations.rule[rows]))
    return LargeComponent(program, np.flatnonzero(component[:weights] == number), rules)


def _with_inequalities(part: LargeComponent, lowered: Lowered, sided: np.ndarray) -> MixedComponent:
    rows = lowered.inequalities
    rows = rows.select(np.flatnonzero(np.isin(rows.columns[rows.bounds[:-1]], part.columns)))
    rules = [*part.rules, *map(int, distinct(rows.rule))]
    return mixed_component(part.program, int(sided.sum()), rows, part.columns, rules)


def _tables(lowered: Lowered, live: np.ndarray, component: Integers) -> list[list[_Table]]:
    """The rows of the operands of each step, live ones alone, sorted by component; and last those of the equations."""
    tables = []
    for step in lowered.steps:
        numbers = np.flatnonzero(live[step.first : step.first + step.count])
        owner = component[step.first + numbers]
        order = np.argsort(owner, kind="stable")
        numbers, owner = numbers[order], owner[order]
        rows = step.rows_of(numbers)
        owner = step.per_row(owner)
        tables.append([_Table(operand.select(rows), owner) for operand in step.operands])
    equations = lowered.equations.select(np.flatnonzero(lowered.equations.lengths > 0))
    owner = component[equations.columns[equations.bounds[:-1]]]
    order = np.argsort(owner, kind="stable")
    tables.append([_Table(equations.select(order), owner[order])])
    return tables


def _signature(number: int, tables: list[list[_Table]], local: Integers, width: int) -> bytes:
    """What is equal for components of one form: the columns that each of their rows reads, without coefficients."""
    pieces = [np.array([width])]
    for table in (each for group in tables for each in group):
        first, last = np.searchsorted(table.component, [number, number + 1])
        bounds = table.rows.bounds[first : last + 1]
        columns = table.rows.columns[bounds[0] : bounds[-1]]
        pieces += [np.array([last - first]), np.diff(bounds), local[columns]]
    return np.concatenate(pieces).astype(np.int64).tobytes()


def _made(
    numbers: Integers,
    lowered: Lowered,
    tables: list[list[_Table]],
    local: Integers,
    nodes: Integers,
    first: Integers,
    widths: Integers,
) -> Cells:
    width = int(widths[numbers[0]])
    columns = nodes[first[numbers][:, None] + np.arange(width)]
    maps = [[_affine(table, numbers, local) for table in group] for group in tables]
    steps = tuple(
        Step(step.kind, step.exponent, step.size, tuple(operands), step.opaque)
        for step, operands in zip(lowered.steps, maps[:-1], strict=True)
        if operands[0].rows
    )
    equations = tables[-1][0]
    rules = distinct(equations.rows.rule[np.isin(equations.component, numbers)])
    program = CellProgram(len(numbers), width, steps, maps[-1][0])
    return Cells(program, columns, tuple(int(rule) for rule in rules))


def _affine(table: _Table, numbers: Integers, local: Integers) -> AffineMap:
    """The rows of equal components as one map; coefficients that are the same in all cells are held once."""
    starts = np.searchsorted(table.component, numbers)
    count = int(np.searchsorted(table.component, numbers[0], side="right") - starts[0])
    rows = table.rows.select((starts[:, None] + np.arange(count)).ravel())
    lengths = rows.lengths[:count]
    longest = int(lengths.max(initial=0))
    place = np.repeat(np.arange(count) * longest, lengths) + (
        np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    )
    columns = np.zeros(count * longest, np.int64)
    columns[place] = local[rows.columns[: len(place)]]
    values = np.zeros((len(numbers), count * longest))
    values[:, place] = rows.values.reshape(len(numbers), len(place))
    values = _once(values)
    return AffineMap(
        columns.reshape(count, longest),
        values.reshape(len(values), count, longest),
        _once(-rows.rhs.reshape(len(numbers), count)),
    )


def _once(values: Floats) -> Floats:
    return values[:1].copy() if len(values) and (values == values[0]).all() else values
