from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from affinet.blocks.interval import Interval
from affinet.cli.run_summary import Outcome, RunSummary
from affinet.cli.runs.finished import SUMMARY, read_summary, write_summary
from affinet.report.cost import Trainable

OUTCOME = Outcome(0.1 + 0.2, 1 / 3, 1e-7, Trainable(5, 6), 5, 2.5, 0.5)


@pytest.mark.parametrize("plain", [OUTCOME, None])
@pytest.mark.parametrize("free", [5, Interval(4, 5)])
def test_a_summary_comes_back_as_it_was(tmp_path: Path, plain: Outcome | None, free: int | Interval) -> None:
    summary = RunSummary("R²", 10, 0.0, replace(OUTCOME, free=free), plain)
    write_summary(tmp_path, summary, {})
    assert read_summary(tmp_path) == summary


@pytest.mark.parametrize("change", [lambda text: text[:-9], lambda text: text.replace("[", "[1,"), lambda text: "[]"])
def test_a_summary_that_is_none_counts_as_missing(tmp_path: Path, change: object) -> None:
    assert read_summary(tmp_path) is None
    write_summary(tmp_path, RunSummary("R²", 10, 0.0, replace(OUTCOME, free=Interval(4, 5)), None), {})
    text = (tmp_path / SUMMARY).read_text(encoding="utf-8")
    (tmp_path / SUMMARY).write_text(change(text), encoding="utf-8")  # type: ignore[operator]
    assert read_summary(tmp_path) is None
