"""Report which checks were skipped for rules too large to write out."""

from __future__ import annotations

from collections.abc import Iterator

from affinet.analysis.findings.looking import Group, Look
from affinet.analysis.findings.overlooked import Overlooked
from affinet.analysis.lookup.tracing import MOST_ENTRIES
from affinet.blocks.resolution import Resolution


def skipped_checks(look: Look) -> Iterator[Overlooked]:
    """Skipped checks, one finding per group of rules too large to be written out."""
    for group in look.groups:
        if group.rows is not None:
            continue
        resolutions = [block.resolution() for block in group.blocks]
        what = []
        if any(_may_be_near(resolution) for resolution in resolutions):
            what.append("near-redundancy")
        if not _only_ties(look, group) and any(
            resolution.irregular and resolution.linked for resolution in resolutions
        ):
            what.append("entries made equal")
        if what:
            equations = sum(look.system.rules[rule].equations for rule in group.rules)
            yield Overlooked(look.names(group.rules), equations, " and ".join(what))


def _may_be_near(resolution: Resolution) -> bool:
    """Whether there are several equations whose condition number is not known."""
    return resolution.uncertain or resolution.cell > MOST_ENTRIES


def _only_ties(look: Look, group: Group) -> bool:
    rules = (look.system.rules[rule] for rule in group.rules)
    return all(rule.pairs <= 2 * rule.equations for rule in rules)
