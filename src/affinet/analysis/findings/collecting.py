"""All findings of a plan, the gravest kinds first."""

from __future__ import annotations

from affinet.analysis.findings.columns import ColumnMajor, EmptyColumns, UnreadWeights, columns
from affinet.analysis.findings.empty import HoldsAlways, NothingTrained, empty
from affinet.analysis.findings.equal import Equal, equal
from affinet.analysis.findings.looking import Look
from affinet.analysis.findings.near import NearlyContradictory, NearlyRedundant, near
from affinet.analysis.findings.nothing_left import NothingLeft, nothing_left
from affinet.analysis.findings.order import OtherOrder
from affinet.analysis.findings.overlooked import Overlooked
from affinet.analysis.findings.pinned import Pinned, pinned
from affinet.analysis.findings.redundant import Redundant, redundant
from affinet.analysis.findings.unseen import unseen
from affinet.blocks.block import Block
from affinet.system.system import System

Finding = (
    NearlyContradictory
    | ColumnMajor
    | OtherOrder
    | EmptyColumns
    | UnreadWeights
    | NothingLeft
    | Pinned
    | Equal
    | HoldsAlways
    | NothingTrained
    | Redundant
    | NearlyRedundant
    | Overlooked
)

_GRAVEST_FIRST: tuple[type[Finding], ...] = (
    NearlyContradictory,
    ColumnMajor,
    OtherOrder,
    EmptyColumns,
    UnreadWeights,
    NothingLeft,
    Pinned,
    Equal,
    HoldsAlways,
    NothingTrained,
    Redundant,
    NearlyRedundant,
    Overlooked,
)


def findings(system: System, blocks: tuple[Block, ...]) -> tuple[Finding, ...]:
    """What the rules say together that nobody may have meant, and what was not looked at.

    Bounded: some seconds at most, and well below one for plans of regular rules, however large the weights are.
    """
    look = Look(system, blocks)
    gone = tuple(nothing_left(look))
    apart = frozenset(finding.weight for finding in gone)
    found: list[Finding] = [
        *columns(look),
        *gone,
        *pinned(look, apart),
        *equal(look),
        *empty(look),
        *redundant(look),
        *near(look),
        *unseen(look),
    ]
    return tuple(sorted(found, key=lambda finding: _GRAVEST_FIRST.index(type(finding))))
