"""Collect all findings of a plan, the gravest kinds first."""

from __future__ import annotations

from affinet.analysis.equations_alone import EquationsAlone
from affinet.analysis.findings.all_pairs import AllPairs, all_pairs
from affinet.analysis.findings.columns import ColumnMajor, EmptyColumns, UnreadWeights, columns
from affinet.analysis.findings.empty import HoldsAlways, NothingTrained, empty
from affinet.analysis.findings.equal_entries import Equal, equal
from affinet.analysis.findings.inequalities import (
    FollowingInequalities,
    HoldAsEquations,
    InequalityWithoutEffect,
    NearlyEmpty,
    inequalities,
)
from affinet.analysis.findings.large_searches import LargeSearch, large_searches
from affinet.analysis.findings.looking import Look
from affinet.analysis.findings.near import NearlyContradictory, NearlyRedundant, nearly_dependent
from affinet.analysis.findings.nothing_left import NothingLeft, nothing_left
from affinet.analysis.findings.order import OtherOrder
from affinet.analysis.findings.overlooked import Overlooked
from affinet.analysis.findings.pinned import Pinned, pinned
from affinet.analysis.findings.redundant import Redundant, redundant
from affinet.analysis.findings.unseen import skipped_checks
from affinet.analysis.lookup.affine_part import affine_part
from affinet.blocks.block import Block
from affinet.system.system import System

Finding = (
    NearlyContradictory
    | NearlyEmpty
    | ColumnMajor
    | OtherOrder
    | EmptyColumns
    | UnreadWeights
    | AllPairs
    | NothingLeft
    | Pinned
    | HoldAsEquations
    | Equal
    | HoldsAlways
    | NothingTrained
    | InequalityWithoutEffect
    | Redundant
    | FollowingInequalities
    | NearlyRedundant
    | LargeSearch
    | Overlooked
)

_GRAVEST_FIRST: tuple[type[Finding], ...] = (
    NearlyContradictory,
    NearlyEmpty,
    ColumnMajor,
    OtherOrder,
    EmptyColumns,
    UnreadWeights,
    AllPairs,
    NothingLeft,
    Pinned,
    HoldAsEquations,
    Equal,
    HoldsAlways,
    NothingTrained,
    InequalityWithoutEffect,
    Redundant,
    FollowingInequalities,
    NearlyRedundant,
    LargeSearch,
    Overlooked,
)


def findings(system: System, blocks: tuple[Block, ...], equations: EquationsAlone) -> tuple[Finding, ...]:
    """Consequences of the rules that nobody may have meant, and the checks that were skipped.

    Rank, redundancy and equal entries are those of `equations`; inequalities have findings of their own.
    Takes some seconds at most, and well below one for plans of regular rules, however large the weights are.
    """
    look = Look(*affine_part(equations.system, equations.blocks))
    system, blocks = affine_part(system, blocks)
    fully_determined = tuple(nothing_left(Look(system, blocks)))
    determined_names = frozenset(finding.weight for finding in fully_determined)
    collected: list[Finding] = [
        *(inequalities(system, blocks) if system.inequality_rules else ()),
        *columns(look),
        *all_pairs(system),
        *large_searches(system, blocks),
        *fully_determined,
        *pinned(look, determined_names),
        *equal(look),
        *empty(look),
        *redundant(look),
        *nearly_dependent(look),
        *skipped_checks(look),
    ]
    return tuple(sorted(collected, key=lambda finding: _GRAVEST_FIRST.index(type(finding))))
