"""Solve equations and inequalities one by one: ties first, then sets of what is connected, and blocks of the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from affinet.blocks.kinds import AnyBlock
from affinet.errors import TooLargeError
from affinet.language.calculus.terms import Integers
from affinet.planning.contradiction import Contradiction
from affinet.planning.elimination.irregular import check_consistent, make_blocks
from affinet.planning.elimination.pieces import factor_pieces
from affinet.planning.elimination.reduction import Reduction, reduce
from affinet.planning.inequalities.feasibility import NoPoint, implied_equations
from affinet.planning.inequalities.halfspaces import Unknowns, node_bounds, over_unknowns
from affinet.planning.inequalities.programs import Programs, programs_of
from affinet.planning.inequalities.sets import Owners, make_sets
from affinet.system.distinct import distinct
from affinet.system.rows import Rows, concatenate
from affinet.system.system import System


def solve_with_inequalities(equations: Rows, inequalities: Rows, system: System) -> list[AnyBlock]:
    """Blocks that hold exactly these equations, and the inequalities `g · w <= h`.

    Inequalities that hold with equality wherever the equations and inequalities have points become equations. Raises
    Contradiction with the rules of a certificate where there is no point, and TooLargeError.
    """
    try:
        return _solve(equations, inequalities, system)
    except NoPoint as error:
        rows = error.rows[error.rows >= 0]
        raise Contradiction([*distinct(equations.rule), *distinct(inequalities.rule[rows])]) from None
    except Contradiction as error:
        rules = error.rules or distinct(inequalities.rule)
        raise Contradiction([*distinct(equations.rule), *rules]) from None


def _solve(rows: Rows, inequalities: Rows, system: System) -> list[AnyBlock]:
    implied = np.zeros(inequalities.count, bool)
    while True:  # every round but the last makes at least one inequality an equation
        equations = concatenate([rows, inequalities.select(np.flatnonzero(implied))])
        reduced = _reduced(equations, inequalities, np.flatnonzero(~implied), system)
        now_implied = np.zeros(inequalities.count, bool)
        for program in reduced.programs:
            try:
                now_implied[implied_equations(program, system.tolerance)] = True
            except TooLargeError as error:
                rules = distinct(inequalities.rule[program.rows[program.rows >= 0]])
                raise error.of_rules([system.rules[rule].name for rule in rules]) from None
        if not now_implied.any():
            break
        implied |= now_implied
    blocks = _blocks_of_equations(equations, reduced, system)
    owners = _owners(equations, inequalities, reduced.unknowns)
    return [*blocks, *make_sets(reduced.programs, reduced.unknowns, system.layout, owners)]


@dataclass(frozen=True, eq=False)
class _Reduced:
    """Equations after elimination, and the programs of the inequalities over what is left."""

    reduction: Reduction
    unknowns: Unknowns
    programs: list[Programs]


def _reduced(equations: Rows, inequalities: Rows, proper: Integers, system: System) -> _Reduced:
    """`proper` are the numbers of the inequalities that count as such. Raises Contradiction."""
    layout, tolerance, limits = system.layout, system.tolerance, system.limits
    names = [rule.name for rule in system.rules]
    reduction, pieces = factor_pieces(reduce(equations, tolerance), layout, tolerance, limits, names)
    check_consistent(pieces, tolerance, limits)
    unknowns = Unknowns.of(reduction, equations, np.setdiff1d(distinct(inequalities.columns), reduction.columns))
    over_nodes, numbers = over_unknowns(inequalities.select(proper), unknowns, tolerance)
    numbers = proper[numbers]
    bounds = node_bounds(over_nodes, numbers, len(unknowns.columns))
    core = replace(reduction.core, size=reduction.terms)
    return _Reduced(reduction, unknowns, programs_of(core, over_nodes, numbers, bounds, limits, names))


def _blocks_of_equations(equations: Rows, reduced: _Reduced, system: System) -> list[AnyBlock]:
    """The blocks of the equations that share no node with a set."""
    if not equations.count:
        return []
    elsewhere = np.zeros(len(reduced.unknowns.columns), bool)
    for program in reduced.programs:
        elsewhere[program.nodes.ravel()] = True
    reduction = reduced.reduction
    core, elsewhere = reduction.core, elsewhere[: len(reduction.columns)]
    shared = np.bincount(core.row_of_each(), elsewhere[core.columns], core.count) > 0
    remaining = np.flatnonzero(~shared)
    reduction = replace(
        reduction, core=core.select(remaining), terms=reduction.terms[remaining], norms=reduction.norms[remaining]
    )
    names = [rule.name for rule in system.rules]
    reduction, pieces = factor_pieces(reduction, system.layout, system.tolerance, system.limits, names)
    return make_blocks(equations, reduction, pieces, system.layout, system.tolerance, system.limits, elsewhere)


def _owners(equations: Rows, inequalities: Rows, unknowns: Unknowns) -> Owners:
    """The rules that read an entry of a set."""
    every = concatenate([equations, inequalities])
    node_of_value = unknowns.node[unknowns.places(every.columns)]
    rule_of_value = np.repeat(every.rule, every.lengths)

    def owners(program: Programs) -> tuple[int, ...]:
        inside = np.zeros(len(unknowns.columns), bool)
        inside[program.nodes.ravel()] = True
        rules: Integers = distinct(rule_of_value[inside[node_of_value]])
        return tuple(int(rule) for rule in rules)

    return owners
