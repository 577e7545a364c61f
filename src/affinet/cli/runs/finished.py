"""What a finished run came to, kept in its folder, so that it is told again without training again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, ValidationError

from affinet.blocks.interval import Interval
from affinet.cli.jobs.job import Table
from affinet.cli.runs.durable import write_text
from affinet.cli.summary import Outcome, RunSummary
from affinet.training.baking import Trainable

SUMMARY = "summary.json"


class _Outcome(Table):
    loss: float
    score: float
    largest_violation: float
    trained_numbers: int
    numbers: int
    free_numbers: int | list[int]
    seconds: float
    measuring_seconds: float = 0.0  # runs of earlier versions did not say


class _Summary(Table):
    score_name: str
    test_rows: int
    trivial_score: float
    with_rules: _Outcome
    without_rules: _Outcome | None
    sha256: dict[str, str] = Field(default_factory=dict)  # runs of earlier versions did not say


def write_summary(run: Path, summary: RunSummary, digests: Mapping[str, str]) -> None:
    """Keep `summary` in the folder of a run, and the digests of its other files by their names."""
    said = _Summary(
        score_name=summary.score_name,
        test_rows=summary.test_rows,
        trivial_score=summary.trivial,
        with_rules=_said(summary.rules),
        without_rules=None if summary.plain is None else _said(summary.plain),
        sha256=dict(digests),
    )
    write_text(run / SUMMARY, said.model_dump_json(indent=2) + "\n")


def read_summary(run: Path) -> RunSummary | None:
    """What `write_summary` kept; None where the run has not come that far, or the file is not as it was written."""
    try:
        said = _Summary.model_validate_json((run / SUMMARY).read_bytes())
        plain = None if said.without_rules is None else _outcome(said.without_rules)
        return RunSummary(said.score_name, said.test_rows, said.trivial_score, _outcome(said.with_rules), plain)
    except (OSError, ValidationError, TypeError):
        return None


def read_digests(run: Path) -> dict[str, str]:
    """The digests that `write_summary` kept, none where there is nothing to read."""
    try:
        return _Summary.model_validate_json((run / SUMMARY).read_bytes()).sha256
    except (OSError, ValidationError):
        return {}


def digest_of_file(path: Path) -> str:
    """SHA-256 of what a file holds; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _said(outcome: Outcome) -> _Outcome:
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


def _outcome(said: _Outcome) -> Outcome:
    free = said.free_numbers
    return Outcome(
        said.loss,
        said.score,
        said.largest_violation,
        Trainable(said.trained_numbers, said.numbers),
        free if isinstance(free, int) else Interval(*free),
        said.seconds,
        said.measuring_seconds,
    )
