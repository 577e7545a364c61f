"""Write and read the results of a finished run, so that they can be shown again without training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from math import isfinite
from pathlib import Path

from pydantic import Field, ValidationError

from affinet.blocks.interval import Interval
from affinet.cli.jobs.job import Table
from affinet.cli.run_summary import Outcome, RunSummary
from affinet.cli.runs.durable import write_text
from affinet.report.cost import LOOSER, CostReport, RuleCost, Trainable

SUMMARY = "summary.json"
MOST_PRICES, MOST_SHARED = 1000, 20
"""The dearest rules that are stored, and the rules that one of them is redundant with."""


class _Outcome(Table):
    loss: float
    score: float
    largest_violation: float
    trained_numbers: int
    numbers: int
    free_numbers: int | list[int]
    seconds: float
    measuring_seconds: float = 0.0  # missing in runs of earlier versions


class _Price(Table):
    rule: str
    largest_multiplier: float
    change: float
    shared_with: list[str] = Field(default_factory=list)


class _Prices(Table):
    stationarity: float
    loosened_by: float = LOOSER
    rules: int
    dearest: list[_Price]


class _Summary(Table):
    score_name: str
    test_rows: int
    trivial_score: float
    with_rules: _Outcome
    without_rules: _Outcome | None
    prices: _Prices | None = None  # missing in runs of earlier versions
    no_prices: str = ""
    sha256: dict[str, str] = Field(default_factory=dict)  # missing in runs of earlier versions


def write_summary(run: Path, summary: RunSummary, digests: Mapping[str, str]) -> None:
    """Write `summary` to the folder of a run, and the digests of its other files by their names."""
    content = _Summary(
        score_name=summary.score_name,
        test_rows=summary.test_rows,
        trivial_score=summary.trivial,
        with_rules=_outcome_table(summary.rules),
        without_rules=None if summary.plain is None else _outcome_table(summary.plain),
        prices=_prices_table(summary.prices),
        no_prices=summary.no_prices,
        sha256=dict(digests),
    )
    write_text(run / SUMMARY, content.model_dump_json(indent=2) + "\n")


def read_summary(run: Path) -> RunSummary | None:
    """The summary that `write_summary` wrote; None where the file is missing or damaged."""
    try:
        content = _Summary.model_validate_json((run / SUMMARY).read_bytes())
        plain = None if content.without_rules is None else _read_outcome(content.without_rules)
        with_rules, prices = _read_outcome(content.with_rules), _read_prices(content.prices)
        figures = content.score_name, content.test_rows, content.trivial_score
        return RunSummary(*figures, with_rules, plain, prices, content.no_prices)
    except (OSError, ValidationError, TypeError):
        return None


def read_digests(run: Path) -> dict[str, str]:
    """The digests that `write_summary` wrote; empty where the file is missing or damaged."""
    try:
        return _Summary.model_validate_json((run / SUMMARY).read_bytes()).sha256
    except (OSError, ValidationError):
        return {}


def digest_of_file(path: Path) -> str:
    """SHA-256 of the content of a file; an empty text where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _prices_table(prices: CostReport | None) -> _Prices | None:
    """The dearest rules: a list of all could be longer than the weights."""
    if prices is None or not all(isfinite(x) for rule in prices.rules for x in (rule.largest, rule.change)):
        return None
    dearest = [
        _Price(
            rule=rule.name,
            largest_multiplier=rule.largest,
            change=rule.change,
            shared_with=list(rule.shared_with[:MOST_SHARED]),
        )
        for rule in prices.rules[:MOST_PRICES]
    ]
    return _Prices(stationarity=prices.stationarity, rules=prices.count or len(prices.rules), dearest=dearest)


def _read_prices(content: _Prices | None) -> CostReport | None:
    if content is None:
        return None
    rules = [
        RuleCost(price.rule, price.largest_multiplier, price.change, tuple(price.shared_with))
        for price in content.dearest
    ]
    return CostReport(tuple(rules), content.stationarity, count=content.rules)


def _outcome_table(outcome: Outcome) -> _Outcome:
    free = outcome.free
    return _Outcome(
        loss=outcome.loss,
        score=outcome.score,
        largest_violation=outcome.violation,
        trained_numbers=outcome.trained.numbers,
        numbers=outcome.trained.out_of,
        free_numbers=free if isinstance(free, int) else [free.low, free.high],
        seconds=outcome.seconds,
        measuring_seconds=outcome.measuring,
    )


def _read_outcome(content: _Outcome) -> Outcome:
    free = content.free_numbers
    return Outcome(
        content.loss,
        content.score,
        content.largest_violation,
        Trainable(content.trained_numbers, content.numbers),
        free if isinstance(free, int) else Interval(*free),
        content.seconds,
        content.measuring_seconds,
    )
