"""Gather what a run has on disk into the contents of its page, and say what is missing."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from affinet.cli.reports.changed_files import changed_files, notes_on_files
from affinet.cli.reports.run_metrics import Metrics, curves_of, measured_stationarity, read_metrics
from affinet.cli.reports.run_pictures import pictures_of_run
from affinet.cli.run_summary import Outcome, RunSummary, shown_count, shown_score
from affinet.cli.runs.finished import SUMMARY, read_summary
from affinet.cli.runs.locking import WRITER
from affinet.cli.runs.runfolder import METRICS, MODEL, PLAN_TEXT, holds_run
from affinet.cli.runs.start_record import JOB, START_RECORD, StartRecord
from affinet.cli.words import counted, shell_word
from affinet.errors import RunError
from affinet.report.pages.contents import Comparison, Contents, Figure, Prices, State
from affinet.report.pages.shown_numbers import shown_number, with_minus_signs
from affinet.report.plan_text import split_plan_text
from affinet.report.priced_rules import prices_of

AT_OPTIMUM = "stationarity, 0 at an optimum"


def contents_of_run(run: Path) -> Contents:
    """The contents of the page of the run in a folder: all that can be read. Raises RunError where there is no run."""
    if not run.is_dir() or not holds_run(run):
        what = "does not exist" if not run.exists() else "is a file" if not run.is_dir() else "does not hold a run"
        raise RunError(
            f"{run} {what}, so there is nothing to report. Train one: affinet train JOB.toml --out {shell_word(run)}"
        )
    metrics, summary, record = read_metrics(run), read_summary(run), _start_record(run)
    state, lead = _state(run, metrics, summary)
    pictures, note, unread = pictures_of_run(run)
    words = split_plan_text(_text(run / PLAN_TEXT))
    changed = changed_files(run, record)
    notes = notes_on_files(run, changed, finished=summary is not None, drawn=bool(pictures))
    missing = [metrics.damage, *unread, *notes]
    if summary is None and (run / SUMMARY).exists():
        missing.append(
            f"{SUMMARY} cannot be read: it is damaged. It is written again by affinet train --resume {shell_word(run)}"
        )
    if summary is not None and summary.prices is None:
        missing.append(summary.no_prices or "This run has no prices of rules: an older affinet did not compute them.")
    if not words.table:
        missing.append(f"{PLAN_TEXT} is missing or empty: what the rules do is not known in words.")
    return Contents(
        title=_title(run, record),
        state=state,
        lead=lead,
        figures=_figures(metrics, summary, changed),
        sentences=words.sentences,
        plan=words.table,
        findings=words.findings,
        pictures=pictures,
        pictures_note=note,
        curves=curves_of(metrics, summary),
        prices=None if summary is None else _prices(summary),
        comparison=None if summary is None else _comparison(summary),
        missing=tuple(sentence for sentence in missing if sentence),
        versions=_versions(record),
        job=_text(run / JOB),
    )


def _title(run: Path, record: StartRecord | None) -> str:
    name = run.resolve().name
    job = Path(record.name).stem if record is not None else ""
    return name if not job or job == name else f"{name} ({job})"


def _state(run: Path, metrics: Metrics, summary: RunSummary | None) -> tuple[State, str]:
    epochs = counted(len(metrics.epochs), "epoch")
    if summary is not None:
        return "finished", with_minus_signs(summary.cost())
    writer = _writer(run)
    finished = f"{epochs} finished so far" if metrics.epochs else "no epoch is finished yet"
    if writer is not None:
        return "training", f"This run is unfinished: process {writer} is training it, and {finished}."
    return "unfinished", (
        f"This run is unfinished: {finished}, and the comparison without rules is missing. Resume it: affinet train "
        f"--resume {shell_word(run)}"
    )


def _figures(metrics: Metrics, summary: RunSummary | None, changed: list[str]) -> tuple[Figure, ...]:
    """The figures at the top. Those of a finished run are from its summary: its metrics may be lost or cut."""
    if summary is not None:
        violation = "largest violation of a rule" + (", when the run ended" if MODEL in changed else "")
        figures = [
            Figure(with_minus_signs(shown_score(summary.score_name, summary.rules.score)), summary.score_name),
            Figure(shown_number(summary.rules.loss), "loss, last epoch"),
            Figure(shown_number(summary.rules.violation, 2), violation),
            Figure(shown_count(summary.rules.free), f"free numbers of {summary.rules.trained.out_of:,}"),
        ]
        if summary.prices is not None and summary.prices.rules:
            figures.append(Figure(shown_number(summary.prices.stationarity, 2), AT_OPTIMUM))
        elif METRICS not in changed and (observed := measured_stationarity(metrics)):
            figures.append(Figure(shown_number(observed[-1][1], 2), AT_OPTIMUM))
        if metrics.epochs and METRICS not in changed:
            figures.append(Figure(f"{metrics.epochs[-1]:,.0f}", "epochs"))
        return tuple(figures)
    figures = []
    if metrics.scores:
        figures.append(
            Figure(with_minus_signs(shown_score(metrics.score_name, metrics.scores[-1])), metrics.score_name)
        )
    if losses := metrics.columns.get("loss"):
        figures.append(Figure(shown_number(losses[-1]), "loss, last epoch"))
    if violations := metrics.columns.get("largest_violation", ()):
        figures.append(Figure(shown_number(max(violations), 2), "largest violation of a rule"))
    if observed := measured_stationarity(metrics):
        figures.append(Figure(shown_number(observed[-1][1], 2), f"{AT_OPTIMUM}, after epoch {observed[-1][0]:,.0f}"))
    return (*figures, Figure(f"{len(metrics.epochs):,}", "epochs"))


def _prices(summary: RunSummary) -> Prices | None:
    return (
        None
        if summary.prices is None
        else prices_of(summary.prices, "At the last weights, for the mean loss of all rows to train on")
    )


def _comparison(summary: RunSummary) -> Comparison:
    def texts(outcome: Outcome | None) -> list[str]:
        if outcome is None:
            return ["diverged", *["–"] * 4]
        return [
            shown_number(outcome.loss, 4),
            with_minus_signs(shown_score(summary.score_name, outcome.score)),
            shown_number(outcome.violation, 2),
            shown_count(outcome.free),
            f"{outcome.seconds:.1f}",
        ]

    names = ("loss", summary.score_name, "largest violation", "free numbers", "seconds")
    rows = tuple(zip(names, texts(summary.rules), texts(summary.plain), strict=True))
    return Comparison(with_minus_signs(f"{summary.cost()} {summary.training()}"), rows)


def _versions(record: StartRecord | None) -> tuple[tuple[str, str], ...]:
    if record is None:
        return ()
    written = record.written_by.partition(" ")
    versions = [(written[0], written[2]), *record.versions.items(), ("threads", f"{record.threads:,}")]
    return (*versions, ("processes", f"{record.processes:,}")) if record.processes > 1 else tuple(versions)


def _start_record(run: Path) -> StartRecord | None:
    with suppress(OSError, ValueError):
        return StartRecord.model_validate_json((run / START_RECORD).read_bytes())
    return None


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", errors="replace")
    except OSError:
        return ""


def _writer(run: Path) -> int | None:
    """The number of the process that trains a run; None where there is none any more."""
    try:
        number = int((run / WRITER).read_text(encoding="ascii"))
        os.kill(number, 0)
    except (OSError, ValueError, OverflowError):
        return None
    return number
