"""Run `affinet verify`: check whether the weights in a file satisfy the rules of a plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from affinet.analysis.rule_values import Numbers, Weight
from affinet.cli.files.modelfile import open_model
from affinet.cli.screen import Screen
from affinet.cli.words import counted, listed
from affinet.errors import TooLargeError
from affinet.language.forecast import BACKED, GROWTH, limited
from affinet.report.verification import MOST_AT_ONCE, Verdict, verify
from affinet.system.stored.planfile import read_system
from affinet.system.system import Rule

WIDEST = 8
"""Most bytes of an entry in a file of weights."""
EQUATION_BYTES = 32
"""Bytes of what is computed of an equation, counted as if all were at once."""


@dataclass(frozen=True)
class CountedWeights:
    """The weights that `read` returns, and a sentence about each that has NaN or infinite entries."""

    read: Callable[[frozenset[str]], Mapping[str, Weight]]
    facts: dict[str, str] = field(default_factory=dict)

    def __call__(self, names: frozenset[str]) -> Mapping[str, Weight]:
        """The weights of these names; NaN and infinities are counted at the first reading."""
        weights = self.read(names)
        for name in sorted(weights.keys() - self.facts.keys()):
            numbers = weights[name].numbers
            counts = {"NaN": _count(np.isnan, numbers), "infinity": _count(np.isinf, numbers)}
            parts = [f"{kind} in {count:,} of its {numbers.size:,} entries" for kind, count in counts.items() if count]
            self.facts[name] = f"{name} holds {' and '.join(parts)}." if parts else ""
        return weights

    @property
    def sentences(self) -> list[str]:
        """One sentence per weight with NaN or infinite entries."""
        return [_printable(fact) for fact in self.facts.values() if fact]


def verify_file(model: Path, plan: Path, screen: Screen) -> bool:
    """Show how far the weights in `model` are from each rule of `plan`; return whether all rules hold.

    Only weights that the rules use are read, one rule at a time, and nothing is planned. Raises
    PlanFileError, ModelFileError, and TooLargeError for a rule too large to be counted.
    """
    system = read_system(plan)
    for rule in system.every:
        _check_equations(rule, system.layout.size)
    with open_model(model) as file:
        file.check(system.layout)
        with limited(WIDEST * system.layout.size, "Split the rule into parts."):
            weights = CountedWeights(file.weights)
            verdicts = list(verify(system, weights))
    if verdicts:
        screen.show(_table(verdicts))
        screen.say("")
    screen.say(conclusion(verdicts))
    if weights.sentences:
        screen.say(
            f"{' '.join(weights.sentences)} The training diverged, or the file is damaged: take weights from before."
        )
    return all(verdict.holds for verdict in verdicts)


def _check_equations(rule: Rule, weights: int) -> None:
    """Refuse a rule of far more equations than there are weights: a few bytes of a plan can state very many."""
    most = max(BACKED, GROWTH * WIDEST * weights)
    if (needed := EQUATION_BYTES * rule.expression.size) > most:
        subject = f'rule "{_printable(rule.name)}" of {rule.equations:,} equations'
        raise TooLargeError(subject, needed, most, "Split the rule into parts.")


def conclusion(verdicts: list[Verdict]) -> str:
    """All verdicts in one sentence."""
    noun = _noun(verdicts)
    violated = [verdict for verdict in verdicts if not verdict.holds]
    if not verdicts:
        return "The plan has no rules, so there is nothing to check."
    if functions := sorted({name for verdict in verdicts for name in verdict.functions}):
        verifiable = [verdict for verdict in verdicts if not verdict.functions]
        unknown = counted(len(verdicts) - len(verifiable), "rule")
        fact = f"{unknown} cannot be verified without {listed(functions)}, which a plan file does not hold."
        return f"{fact} {conclusion(verifiable)}" if verifiable else fact
    if not violated:
        worst = max(verdict.roundings for verdict in verdicts)
        return f"The rules hold: no {noun} is off by more than {worst:.2g} times the rounding of the weights in it."
    verb = "does" if len(violated) == 1 else "do"
    fact = f"{len(violated)} of {counted(len(verdicts), 'rule')} {verb} not hold"
    measured = [verdict for verdict in violated if math.isfinite(verdict.largest)]
    if not measured:
        return f"{fact}, and no distance can be given."
    bounds = " or ".join(f"{bound:g}" for bound in sorted({verdict.bound for verdict in measured}))
    return f"{fact}: an {noun} is off by more than {bounds} times the rounding of the weights in it."


def _count(test: Callable[[Any], Any], numbers: Numbers) -> int:
    """How many numbers a test is true for, without an array of its answers for all of them."""
    starts = range(0, numbers.size, MOST_AT_ONCE)
    return sum(int(np.count_nonzero(test(numbers[start : start + MOST_AT_ONCE]))) for start in starts)


def _noun(verdicts: list[Verdict]) -> str:
    return "equation" if all(verdict.sense == "==" for verdict in verdicts) else "equation or inequality"


def _table(verdicts: list[Verdict]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("rule", overflow="fold")
    for heading in ("equations" if _noun(verdicts) == "equation" else "rows", "largest violation", "times rounding"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for verdict in verdicts:
        verdict_text = "holds" if verdict.holds else "cannot be verified" if verdict.functions else "does not hold"
        figures = (f"{verdict.equations:,}", f"{verdict.largest:.2g}", f"{verdict.roundings:.2g}")
        table.add_row(Text(_printable(verdict.name)), *figures, verdict_text)
    return table


def _printable(name: str) -> str:
    """A name from a file, with control characters replaced: a terminal would obey them."""
    return "".join(letter if letter.isprintable() else "�" for letter in name)
