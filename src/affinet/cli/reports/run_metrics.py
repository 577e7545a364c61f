"""Read the metrics of a run, as far as they are whole, and turn them into curves."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from affinet.cli.run_summary import RunSummary, shown_score
from affinet.cli.runs.runfolder import METRICS, SCORES, STATIONARITY
from affinet.report.pages.contents import Curve
from affinet.report.pages.shown_numbers import shown_number, with_minus_signs

WITHOUT = "without rules"
SCORE_NAMES = {column: name for name, column in SCORES.items()} | {"score": "score"}
"""Column → the score's name; an older affinet wrote `score`."""


@dataclass(frozen=True)
class Metrics:
    """Column → numbers, of the epochs whose rows are whole; `damage` is a sentence about the others, or empty."""

    columns: Mapping[str, Sequence[float]]
    damage: str = ""

    @property
    def epochs(self) -> Sequence[float]:
        """The numbers of the epochs."""
        return self.columns.get("epoch", ())

    @property
    def score_name(self) -> str:
        """`accuracy`, `R²`, or empty where there is no score."""
        return next((SCORE_NAMES[column] for column in self.columns if column in SCORE_NAMES), "")

    @property
    def scores(self) -> Sequence[float]:
        """The score of each epoch."""
        return next((values for column, values in self.columns.items() if column in SCORE_NAMES), ())


def read_metrics(run: Path) -> Metrics:
    """The metrics of a run; without columns where the file is missing."""
    path = run / METRICS
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return Metrics({}, f"{path.name} is missing: losses, scores and violations over epochs are not known.")
    except OSError as error:
        return Metrics({}, f"{path.name} cannot be read: {error.strerror or error}.")
    lines = [line for line in csv.reader(io.StringIO(text)) if line]
    if not lines or lines[0][:1] != ["epoch"] or len(set(lines[0])) != len(lines[0]):
        return Metrics({}, f"{path.name} does not begin as metrics do, with a line of names from `epoch` on.")
    rows = [row for line in lines[1:] if (row := _numbers(lines[0], line)) is not None]
    broken = len(lines) - 1 - len(rows)
    columns = {name: tuple(row[k] for row in rows) for k, name in enumerate(lines[0])}
    damage = f"{broken:,} of {len(lines) - 1:,} rows of {path.name} cannot be read, and are left out." if broken else ""
    return Metrics(columns, damage)


def measured_stationarity(metrics: Metrics) -> list[tuple[float, float]]:
    """Epoch and stationarity, of the epochs after which it was measured."""
    pairs = zip(metrics.epochs, metrics.columns.get(STATIONARITY, ()), strict=False)
    return [(epoch, value) for epoch, value in pairs if math.isfinite(value)]


def curves_of(metrics: Metrics, summary: RunSummary | None) -> tuple[Curve, ...]:
    """Loss, score, violation and stationarity over epochs, compared with the end of the training without rules.

    Without rules there is no stationarity.
    """
    if not metrics.epochs:
        return ()
    plain = None if summary is None else summary.plain
    curves = []
    if losses := metrics.columns.get("loss"):
        sentence = f"Mean loss on the rows to train on: {_change(losses)}."
        curves.append(_curve("Loss", sentence, metrics, losses, None if plain is None else plain.loss))
    if metrics.scores:
        name = metrics.score_name
        title = name[:1].upper() + name[1:]
        first, last = (with_minus_signs(shown_score(name, metrics.scores[k])) for k in (0, -1))
        sentence = f"On the rows to test on: {first} after the first epoch, {last} after the last."
        scores = [100.0 * score for score in metrics.scores] if name == "accuracy" else metrics.scores
        reference = None if plain is None else plain.score * (100.0 if name == "accuracy" else 1.0)
        title = "Accuracy, in percent" if name == "accuracy" else title
        curves.append(_curve(title, sentence, metrics, scores, reference, logarithmic=False))
    if violations := metrics.columns.get("largest_violation"):
        finite = [value for value in violations if math.isfinite(value)]
        largest = shown_number(max(finite), 2) if finite else "not known"
        sentence = f"Of any rule after any step of an epoch; at most {largest}."
        reference = None if plain is None else plain.violation
        curves.append(_curve("Largest violation", sentence, metrics, violations, reference))
    if measured := measured_stationarity(metrics):
        curves.append(_stationarity_curve(measured))
    return tuple(curves)


def _stationarity_curve(measured: list[tuple[float, float]]) -> Curve:
    """The curve of the epochs after which stationarity was measured.

    Its scale is logarithmic, also where the numbers hardly differ: their last digits say nothing.
    """
    (first, _), (last, _) = measured[0], measured[-1]
    values = [value for _, value in measured]
    change = f"{shown_number(values[0], 2)} after epoch {first:,.0f}"
    if len(measured) > 1:
        change += f", {shown_number(values[-1], 2)} after epoch {last:,.0f}"
    sentence = f"The share of the gradient, over all rows to train on, that the rules leave; 0 at an optimum: {change}."
    return Curve(
        "Stationarity",
        sentence,
        "epoch",
        tuple(epoch for epoch, _ in measured),
        tuple(values),
        logarithmic=min(values) > 0.0,
    )


def _is_wide(values: Sequence[float], reference: float | None = None) -> bool:
    """Whether a logarithmic scale shows numbers better: all are above zero, and they differ by a factor of 20."""
    positive = [value for value in values if math.isfinite(value) and value > 0.0]
    if reference is not None and reference > 0.0:
        positive.append(reference)
    return len(positive) >= len(values) and max(positive, default=1.0) > 20.0 * min(positive, default=1.0)


def _curve(
    title: str,
    sentence: str,
    metrics: Metrics,
    values: Sequence[float],
    reference: float | None,
    *,
    logarithmic: bool = True,
) -> Curve:
    is_logarithmic = logarithmic and _is_wide(values, reference)
    compared = None if reference is None or not math.isfinite(reference) else (WITHOUT, reference)
    return Curve(title, sentence, "epoch", tuple(metrics.epochs), tuple(values), is_logarithmic, compared)


def _change(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{shown_number(values[0])} after one epoch"
    return f"{shown_number(values[0])} in the first epoch, {shown_number(values[-1])} in the last"


def _numbers(names: list[str], cells: list[str]) -> list[float] | None:
    """The numbers of a row, nan where stationarity was not measured; None for a row that is not whole."""
    if len(cells) != len(names):
        return None
    try:
        return [
            math.nan if name == STATIONARITY and not cell else float(cell)
            for name, cell in zip(names, cells, strict=True)
        ]
    except ValueError:
        return None
