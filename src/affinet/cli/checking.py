"""Run `affinet check`: show the plan of a job's rules, its findings, and how many numbers of the network stay free."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from affinet.analysis.findings.overlooked import Overlooked
from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.run_summary import shown_count
from affinet.cli.screen import Screen
from affinet.cli.trainings.row_scaling import units_sentence
from affinet.cli.trainings.rules import free_numbers
from affinet.cli.trainings.untried import Planned, planned_untried
from affinet.cli.words import counted, listed
from affinet.errors import NothingToTrainWarning, UnknownWeightError
from affinet.language.expression import Expression
from affinet.language.weights import names_in
from affinet.plans.explanation import explain as explanation_of
from affinet.plans.explanation import parse_entry
from affinet.system.system import System


def explain(job: JobFile, entries: Sequence[str], screen: Screen) -> None:
    """Show why each of these entries of the network's weights has its value or its freedom.

    Raises what `check` raises, UnknownWeightError for a weight that the network does not have, and what
    `affinet.explain` raises for an index that does not fit.
    """
    rules = _planned(job).rules

    def find(name: str) -> Expression:
        if name not in rules.weights:
            raise UnknownWeightError(name, names_in(rules.weights))
        symbol: Expression = rules.weights[name]
        return symbol

    expressions = [parse_entry(entry, find) for entry in entries]
    for expression in expressions:
        screen.say(f"{explanation_of(rules.plan, expression)}{_feature_line(expression)}")
    if rules.left_out:
        screen.say(f"Without {listed([repr(name) for name in rules.left_out], 4)}, which training approaches alone.")


def _feature_line(expression: Expression) -> str:
    """The line about the feature that an entry of the first weight is about, or an empty text."""
    term = expression.terms[0] if expression.size == 1 and len(expression.terms) == 1 else None
    features = term.parameter.labels[-1] if term is not None and term.parameter.labels else None
    if term is None or features is None:
        return ""
    column = term.offset % len(features)
    return f"\n  column {column} is about the feature {features[column]!r:.100}"


def check(job: JobFile, screen: Screen) -> None:
    """Show the plan with its findings, state that the rules can hold together, and how many numbers they leave free.

    Raises what `preparing.prepare` raises: InfeasibleError where the rules contradict each other.
    """
    planned = _planned(job)
    rules, numbers = planned.rules, planned.numbers
    plan = rules.plan
    rank, redundant, free = (
        shown_count(count) for count in (plan.rank, plan.redundant, free_numbers(numbers, plan.rank))
    )
    findings = sum(not isinstance(finding, Overlooked) for finding in plan.findings)
    screen.say_plan(f"{rules}\n")
    if not rules.system.every:
        screen.say(f'The network has {counted(numbers, "number")}. A rule is a line below [rules]: name = "rule".')
        return
    if rules.left_out:
        screen.say(f"Training approaches {listed([repr(name) for name in rules.left_out], 4)} alone, without a plan.")
    if not plan.system.every:
        return
    screen.say(f"No contradictions: {_rows_text(plan.system)}, rank {rank}, redundant {redundant}.")
    screen.say(f"{counted(findings, 'finding')} to look at, above." if findings else "Nothing else to look at.")
    screen.say(units_sentence(has_classes=planned.task == "classification", has_text=planned.has_text))
    for notice in planned.notices:
        screen.say(notice)
    within = ", within the inequalities" if plan.inequalities else ""
    screen.say(f"Of the network's {counted(numbers, 'number')} {free} {'is' if free == '1' else 'are'} free{within}.")


def _rows_text(system: System) -> str:
    """How many equations and inequalities the rules have."""
    equations = counted(system.equations, "equation")
    if not system.inequalities:
        return equations
    inequalities = "1 inequality" if system.inequalities == 1 else f"{system.inequalities:,} inequalities"
    return f"{equations}, {inequalities}" if system.equations else inequalities


def _planned(job: JobFile) -> Planned:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NothingToTrainWarning)  # a finding reports it
        return planned_untried(job) or _planned_after_trial(job)


def _planned_after_trial(job: JobFile) -> Planned:
    """The plan after a step on throw-away copies of network and optimizer."""
    from affinet.cli.trainings.preparation import prepare

    prepared = prepare(job)
    data = prepared.data
    has_text = bool(data.scaling.encoding.categories)
    return Planned(prepared.rules, prepared.numbers, data.task, has_text, data.notices)
