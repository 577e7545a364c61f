"""Gather what a handle of torch knows into the contents of a page: rules, weights, prices, and observed steps."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from affinet._version import __version__
from affinet.analysis.prices import quickly_priced
from affinet.language.dtensors import is_distributed
from affinet.plans.plan import Plan
from affinet.report.cost import CostReport
from affinet.report.observation import Observation
from affinet.report.observed_curves import observed_curves
from affinet.report.pages.contents import Contents, Figure, Picture
from affinet.report.pages.rule_marks import RuleReader
from affinet.report.pages.sampling import panel_of, sample_of, weights_drawn
from affinet.report.pages.shown_numbers import shown_number
from affinet.report.plan_text import PlanText, rules_without_plan, split_plan_text
from affinet.report.priced_rules import prices_of
from affinet.system.system import System

NO_HISTORY = (
    "How violation and stationarity went over steps is not known: watch = handle.watch() keeps them, and "
    "html(path, history=watch.history) draws them."
)
NO_PRICES = (
    "What the rules cost is not known, since no gradients were captured: call handle.capture() before a step, or "
    "handle.report(loss_fn).html(path)."
)

TOO_MANY = (
    "What the rules cost was not computed: of {:,} pairs of a row and an entry that takes minutes. "
    "handle.report().html(path) computes it."
)


@dataclass(frozen=True)
class HandleView:
    """What a page needs of a handle: the name of its model, its rules, and how to read its present weights.

    `plan` is None where no plan holds any of the rules. `violation` is asked for when a page is made.
    """

    model: str
    system: System
    plan: Plan | None
    weights: Callable[[Sequence[str]], Mapping[str, Tensor]]
    violation: Callable[[], Mapping[str, float]]
    moved: Mapping[str, float]

    def contents(self, prices: CostReport | None, history: Sequence[Observation]) -> Contents:
        """The contents of the page, with the weights as they are now."""
        pictures, note, unread = self._pictures()
        no_prices = NO_PRICES if self.quickly_priced else TOO_MANY.format(self._pairs())
        missing = [unread, "" if prices else no_prices, "" if history else NO_HISTORY]
        words = self._words()
        return Contents(
            title=f"Rules on {self.model}",
            state="attached",
            lead=self._lead(),
            figures=self._figures(),
            sentences=words.sentences,
            plan=words.table,
            findings=words.findings,
            pictures=pictures,
            pictures_note=note,
            curves=observed_curves(history),
            prices=None if prices is None else prices_of(prices, "For the gradients that the handle was given"),
            missing=tuple(sentence for sentence in missing if sentence),
            versions=(("affinet", __version__), ("torch", torch.__version__), ("Python", platform.python_version())),
        )

    @cached_property
    def quickly_priced(self) -> bool:
        """Whether prices take seconds and not minutes."""
        return quickly_priced(self.system)

    def _pairs(self) -> int:
        return sum(rule.nonzeros for rule in self.system.every)

    def _words(self) -> PlanText:
        if self.plan is None:
            return rules_without_plan(self.system)
        words = split_plan_text(str(self.plan))
        return PlanText(words.table, words.sentences, tuple(map(str, self.plan.findings)))

    def _lead(self) -> str:
        moves = [f"{name} by {shown_number(distance)}" for name, distance in self.moved.items() if distance > 0.0]
        if not moves:
            return "The weights satisfied the rules when these were attached: nothing was moved."
        remainder = f" and {len(moves) - 6:,} more" if len(moves) > 6 else ""
        return f"Attaching the rules moved {', '.join(moves[:6])}{remainder}."

    def _figures(self) -> tuple[Figure, ...]:
        violation = self.violation()
        figures = [Figure(f"{len(violation):,}", "rules")]
        if violation:
            figures.append(Figure(shown_number(max(violation.values()), 2), "largest violation of a rule"))
        if self.plan is not None:
            free = f"{self.plan.free:,}" if isinstance(self.plan.free, int) else str(self.plan.free)
            figures.append(Figure(free, f"free numbers of {self.plan.size:,} in rules"))
        return tuple(figures)

    def _pictures(self) -> tuple[tuple[Picture, ...], str, str]:
        """Pictures of the weights, a note about others, and a sentence about weights that are not at hand."""
        parameters = {parameter.name: parameter for parameter in self.system.layout.parameters}
        names, side = weights_drawn(list(parameters))
        reader, pictures, weights = RuleReader(self.system), [], self.weights(names)
        if any(is_distributed(weight) for weight in weights.values()):
            return (), "", "Weights of which several processes hold parts are not drawn: report a checkpoint of them."
        for name in names:
            weight, sample = weights[name].detach().cpu(), sample_of(parameters[name].shape, side)
            numbers = (weight.float() if weight.dtype == torch.bfloat16 else weight).numpy()
            spacing = torch.finfo(weight.dtype).eps
            panels = (panel_of("Present weights", numbers, sample),)
            pictures.append(reader.picture(parameters[name], sample, panels, spacing))
        note = (
            f"{len(names)} of {len(parameters):,} weights in rules are drawn." if len(names) < len(parameters) else ""
        )
        return tuple(pictures), note, ""
