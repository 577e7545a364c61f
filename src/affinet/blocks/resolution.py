"""A record of how the equations of a block were resolved, which decides what analysis can still ask about them."""

from __future__ import annotations

from dataclasses import dataclass

from affinet.blocks.interval import Interval


@dataclass(frozen=True)
class Core:
    """A component too large to factor: the number of its equations, and bounds on their rank."""

    equations: int
    rank: Interval


@dataclass(frozen=True)
class Resolution:
    """How the equations of a block were resolved.

    `irregular`: they were eliminated one by one, over classes of tied entries. `linked`: there is a class with several
    entries. `iterative`: projections start from the previous solution and stop at rounding. `uncertain`: there are
    components of several equations whose condition number is unknown. `cell`: the number of entries of a cell, where
    all cells repeat the same several equations, otherwise 0. `groups`: the number of groups of equations that are
    solved separately, and the most equations of a group; (0, 0) for a block without such groups. `core`: the component
    whose rank is known within bounds, else None. `searched`: the rows of one set of inequalities whose products with
    each other are not mostly zero, so that a step may make a dense factor of them all; otherwise 0.
    """

    irregular: bool
    linked: bool
    iterative: bool
    uncertain: bool
    cell: int
    groups: tuple[int, int]
    core: Core | None
    searched: int = 0


REGULAR = Resolution(False, False, False, False, 0, (0, 0), None)
"""Equations that were recognised by their pattern, in cells of a known condition number."""
