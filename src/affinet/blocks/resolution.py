"""How the equations of a block were resolved: what decides which questions analysis can still ask."""

from __future__ import annotations

from dataclasses import dataclass

from affinet.blocks.interval import Interval


@dataclass(frozen=True)
class Core:
    """A component too large to factor: how many equations it has, and what is known of their rank."""

    equations: int
    rank: Interval


@dataclass(frozen=True)
class Resolution:
    """What analysis may ask of the equations of a block.

    `irregular`: they were eliminated one by one, over classes of tied entries. `linked`: some class has several
    entries. `iterative`: projections start from the solution before and stop at rounding. `uncertain`: there are
    components of several equations whose condition number is not known. `cell`: entries of a cell whose several
    equations all cells repeat, 0 where there is none. `groups`: how many groups of equations are solved each by itself,
    and the most equations of one; (0, 0) where the block is not made of such groups. `core`: the component whose rank
    is known within bounds.
    """

    irregular: bool
    linked: bool
    iterative: bool
    uncertain: bool
    cell: int
    groups: tuple[int, int]
    core: Core | None


REGULAR = Resolution(False, False, False, False, 0, (0, 0), None)
"""Equations that were read from their pattern, one or a few of known condition at a time."""
