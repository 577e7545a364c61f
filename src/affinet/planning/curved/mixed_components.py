"""Join affine inequalities with the nonlinear rules whose entries they read, and make sets of such components."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from affinet.blocks.mixed_set import MixedSet
from affinet.blocks.programs.equation_program import EquationProgram
from affinet.blocks.programs.linear_part import linear_part
from affinet.errors import RuleError
from affinet.language.calculus.terms import Floats, Integers
from affinet.planning.inequalities.halfspaces import halfspaces
from affinet.planning.inequalities.separating import connected_rows, split_connected
from affinet.planning.overlaps.fixed_entries import OtherRules
from affinet.system import lapack
from affinet.system.distinct import distinct
from affinet.system.rows import Rows, concatenate
from affinet.system.system import System


@dataclass(frozen=True, eq=False)
class Neighbours:
    """What shares entries with nonlinear equations, directly or through others, and what does not.

    `equations` share none, `connected` are linear equations that do. Of the inequality rules `numbers`, the rows
    `inequalities` share entries and the rows `others` do not.
    """

    equations: OtherRules
    connected: Rows
    numbers: tuple[int, ...]
    inequalities: Rows
    unshared: Rows


@dataclass(frozen=True, eq=False)
class MixedComponent:
    """Equations and inequalities of one component over its entries `columns` (n,): `matrix x ≤ rhs`, and bounds.

    The last `sided` outputs of the program are nonlinear inequalities.
    """

    program: EquationProgram
    sided: int
    matrix: sparse.csr_array
    rhs: Floats
    lower: Floats
    upper: Floats
    columns: Integers
    rules: tuple[int, ...]

    @property
    def form(self) -> tuple[int, int, int, int]:
        """What is equal for components that are cells of one set: equations, inequalities of both kinds, entries."""
        inequalities, width = self.matrix.shape
        return self.program.equations - self.sided, self.sided, inequalities, width


def neighbours(
    equations: OtherRules, columns: Integers, system: System, over_free: Callable[[Rows], Rows]
) -> Neighbours:
    """What shares entries with the columns, which nonlinear equations read."""
    candidates = [k for k, rule in enumerate(system.rules) if rule.sense != "==" and rule.norm is None]
    read: dict[int, Rows] = {}
    while True:
        touched = {system.layout.parameters[number] for number in np.unique(system.layout.numbers(columns))}
        for number in candidates:
            parameters = {term.parameter for term in system.rules[number].expression.terms}
            if number not in read and not touched.isdisjoint(parameters):
                read[number] = over_free(halfspaces(system, [number]))
        shares = {number: connected_rows(rows, columns) for number, rows in read.items()}
        chosen = concatenate([rows.select(np.flatnonzero(shares[number])) for number, rows in read.items()])
        grown = distinct(np.concatenate([columns, chosen.columns]))
        unconnected, connected = split_connected(equations, grown, system, over_free)
        grown = distinct(np.concatenate([grown, connected.columns]))
        if len(grown) == len(columns):
            break
        columns = grown
    numbers = tuple(number for number, shared in shares.items() if shared.any())
    unshared = concatenate([read[number].select(np.flatnonzero(~shares[number])) for number in numbers])
    return Neighbours(unconnected, connected, numbers, chosen, unshared)


def mixed_component(
    program: EquationProgram, sided: int, inequalities: Rows, columns: Integers, rules: Sequence[int]
) -> MixedComponent:
    """The component of a program over the entries `columns`, with these inequalities; rows of one entry are bounds.

    The last `sided` outputs of the program are inequalities, too.
    """
    single = inequalities.lengths == 1
    lower, upper = np.full(len(columns), -np.inf), np.full(len(columns), np.inf)
    bounds = inequalities.select(np.flatnonzero(single))
    at, values = np.searchsorted(columns, bounds.columns), bounds.rhs / bounds.values
    above = bounds.values > 0.0
    np.minimum.at(upper, at[above], values[above])
    np.maximum.at(lower, at[~above], values[~above])
    rows = inequalities.select(np.flatnonzero(~single))
    within = replace(rows, columns=np.searchsorted(columns, rows.columns))
    return MixedComponent(program, sided, within.matrix(len(columns)), rows.rhs, lower, upper, columns, tuple(rules))


def mixed_sets(
    components: Sequence[MixedComponent], system: System
) -> list[tuple[MixedSet, int, Integers, tuple[int, ...]]]:
    """A set of each form of components, the rank of its equations, its entries (cells, n), and its rules.

    Raises RuleError for components that are too large.
    """
    by_form: dict[tuple[int, int, int, int], list[MixedComponent]] = {}
    for component in components:
        equations, sided, affine, width = component.form
        inequalities = sided + affine
        if (equations + inequalities) * width > system.limits.most_mixed:
            names = ", ".join(f'"{system.rule(rule).name}"' for rule in component.rules[:3])
            raise RuleError(
                f"the rules {names} are {equations:,} equations and {inequalities:,} inequalities, some of them "
                f"nonlinear, that share {width:,} weights, and only smaller groups are kept at every step. "
                f"affinet.lagrange(model, optimizer, rules) trains towards any equations and inequalities."
            )
        by_form.setdefault(component.form, []).append(component)
    return [_made(cells) for cells in by_form.values()]


def _made(cells: Sequence[MixedComponent]) -> tuple[MixedSet, int, Integers, tuple[int, ...]]:
    matrix, rhs = np.stack([cell.matrix.toarray() for cell in cells]), np.stack([cell.rhs for cell in cells])
    lower, upper = np.stack([cell.lower for cell in cells]), np.stack([cell.upper for cell in cells])
    mixed = MixedSet(tuple(cell.program for cell in cells), matrix, rhs, lower, upper, cells[0].sided)
    rules = distinct(np.array([rule for cell in cells for rule in cell.rules]))
    columns = np.stack([cell.columns for cell in cells])
    return mixed, sum(_rank(cell) for cell in cells), columns, tuple(int(rule) for rule in rules)


def _rank(cell: MixedComponent) -> int:
    """The rank of the derivatives of the equations at a random point: almost everywhere the same."""
    program = cell.program
    part = linear_part(program, None, np.random.default_rng(0).standard_normal(program.width))
    rows = part.dense()[: program.equations - cell.sided]
    values = lapack.singular_values(np.where(np.isfinite(rows), rows, 0.0))
    return int((values > 1e-9 * values.max(initial=0.0)).sum())
