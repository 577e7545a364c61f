"""Report what each rule costs: turn multipliers into changes of the loss, the most expensive rule first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

from affinet.analysis.prices import PricedRules
from affinet.errors import ReportError, visible
from affinet.report.observation import Observation, StepCounts, largest_size
from affinet.report.pages.contents import Contents
from affinet.report.pages.page_file import page_path, write_page
from affinet.report.pages.rendering import page

PageSource = Callable[["CostReport | None", "Sequence[Observation]"], Contents]
"""Gathers the contents of a page from what a handle knows, with these prices and observations."""

LOOSER = 0.01
"""The change of right-hand sides that the report is about."""


@dataclass(frozen=True)
class Trainable:
    """How many numbers of a model are trained, and how many would be trained without rules."""

    numbers: int
    out_of: int

    def __str__(self) -> str:
        return f"{self.numbers:,} of {self.out_of:,} numbers"


@dataclass(frozen=True)
class RuleCost:
    """One rule: its largest |ν|, the change of the loss when its equations are loosened by 0.01, redundant rules.

    `change` is to first order: each equation may be violated by 0.01 in the direction that helps. `shared_with` names
    the rules that repeat a part of this one; then only the sum of their changes is meaningful.
    """

    name: str
    largest: float
    change: float
    shared_with: tuple[str, ...]


@dataclass(frozen=True)
class CostReport:
    """Rules in order of their cost, and how close the weights are to the optimum at which the figures hold.

    `returns` counts, for each nonlinear rule, the steps that were shortened or refused. `ranks`
    are those of the nonlinear equations at the weights and at almost all points; None where they are not known.
    `count` is the number of all rules where `rules` are only the dearest of them. `page_source` gathers what `html`
    writes; None for a report that no handle made.
    """

    rules: tuple[RuleCost, ...]
    stationarity: float
    returns: Mapping[str, StepCounts] = field(default_factory=dict)
    ranks: tuple[int | None, int | None] = (None, None)
    count: int | None = None
    page_source: PageSource | None = field(default=None, repr=False, compare=False)

    def html(self, path: str | PathLike[str], *, history: Sequence[Observation] = ()) -> Path:
        """Write one HTML page about the rules and the present weights, and return its path.

        It loads nothing and runs no script. `history` are the observations of a watch: `watch.history`. An earlier
        page is replaced. Raises ReportError where the page cannot be written, and MissingPackageError without the
        extra `cli`.
        """
        return write_page_of(self.page_source, self, path, history)

    def __str__(self) -> str:
        width = max([4, *(len(rule.name) for rule in self.rules)])
        lines = [f"{'rule':{width}}  largest multiplier  loosened by {LOOSER:g}, the loss would change by about"]
        lines += [
            f"{rule.name:{width}}  {rule.largest:18.3g}  {rule.change:.3g}{_redundancy_note(rule)}"
            for rule in self.rules
        ]
        if self.rules:
            dearest = self.rules[0]
            lines += [
                "",
                f"loosening {dearest.name!r} by {LOOSER:g} would change the loss by about {dearest.change:.3g}"
                + (", together with the rules that it is redundant with" if dearest.shared_with else ""),
            ]
        for name, counts in self.returns.items():
            lines += ["", f"steps under {name!r}: {_step_note(counts)}"]
        rank, generic = self.ranks
        if rank is not None and generic is not None and rank < generic:
            ranks = f"rank {rank:,} at these weights, and {generic:,} at almost all points"
            lines += ["", f"the nonlinear equations have {ranks}: their multipliers may not exist or not be unique"]
        lines += ["", f"stationarity ‖Pg‖/‖g‖ = {self.stationarity:.2g}{_distance_note(self.stationarity)}"]
        return visible("\n".join(lines))


class Pricing(Protocol):
    """A projector of any array library that has the multipliers of rules."""

    def priced(self, gradients: Mapping[str, Any], at: Any = None) -> PricedRules:
        """The multipliers of rules, and which share them; `at` are the weights, which those of inequalities need."""

    def stationarity(self, gradients: Mapping[str, Any], at: Any = None) -> float:
        """`‖P g‖ / ‖g‖`."""


def cost_report(
    projector: Pricing,
    gradients: Mapping[str, Any],
    *,
    at: Any = None,
    maximized: Collection[str] = (),
    returns: Mapping[str, StepCounts] | None = None,
    ranks: tuple[int | None, int | None] = (None, None),
    page_source: PageSource | None = None,
) -> CostReport:
    """The report for gradients of the loss (with coupled decay where there is any) at some weights, by name.

    `maximized` are the names of rules about weights that are maximized. Rules that are redundant with each other are
    listed next to each other, ordered by the most expensive of them.
    """
    multipliers, shared_with = projector.priced(gradients, at)
    rules = []
    for name, values in multipliers.items():
        largest = largest_size(values)
        improving = LOOSER if name in maximized else -LOOSER
        rules.append(RuleCost(name, largest, improving * float(abs(values).sum()) + 0.0, shared_with.get(name, ())))
    magnitude = {rule.name: abs(rule.change) for rule in rules}
    group_cost = {rule.name: max(magnitude[name] for name in (rule.name, *rule.shared_with)) for rule in rules}
    group_name = {rule.name: min((rule.name, *rule.shared_with)) for rule in rules}
    ordered_rules = sorted(
        rules, key=lambda rule: (-group_cost[rule.name], group_name[rule.name], -magnitude[rule.name])
    )
    stationarity = projector.stationarity(gradients, at)
    return CostReport(tuple(ordered_rules), stationarity, returns or {}, ranks, page_source=page_source)


def write_page_of(
    source: PageSource | None, prices: CostReport | None, path: str | PathLike[str], history: Sequence[Observation]
) -> Path:
    """Write the page of a handle, with prices or without; return its path. Raises as `CostReport.html`."""
    target = page_path(path)
    if source is None:
        raise ReportError(
            "this report was not made by a handle, so there are no weights to draw. Write the page of a handle: "
            "handle.report().html(path)."
        )
    write_page(page(source(prices, history)), target)
    return target


def _redundancy_note(rule: RuleCost) -> str:
    names = ", ".join(rule.shared_with)
    return f"   (redundant with {names}: only changes of all together count)" if names else ""


def _step_note(counts: StepCounts) -> str:
    notes = [
        f"{number:,} {kind}"
        for number, kind in (
            (counts.shortened, "shortened"),
            (counts.refused, "refused"),
            (counts.slow, "with a slow way back to the equations"),
        )
        if number
    ]
    return f"{counts.steps:,}, of which {', '.join(notes)}" if notes else f"{counts.steps:,}, all of them in full"


def _distance_note(stationarity: float) -> str:
    return "" if stationarity < 0.1 else ": far from an optimum, so the figures say little yet"
