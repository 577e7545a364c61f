"""All findings of a plan, the gravest kinds first."""

from __future__ import annotations

from affinet.structure.blocks import Block
from affinet.structure.findings.columns import ColumnMajor, EmptyColumns, UnreadWeights, columns
from affinet.structure.findings.empty import HoldsAlways, NothingTrained, empty
from affinet.structure.findings.equal import Equal, equal
from affinet.structure.findings.looking import Look
from affinet.structure.findings.near import NearlyContradictory, NearlyRedundant, near
from affinet.structure.findings.nothing_left import NothingLeft, nothing_left
from affinet.structure.findings.order import OtherOrder
from affinet.structure.findings.overlooked import Overlooked
from affinet.structure.findings.pinned import Pinned, pinned
from affinet.structure.findings.redundant import Redundant, redundant
from affinet.structure.findings.unseen import unseen
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
