from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Command, changed, job_of
from tests.report.pages.html_checks import Page, checked


def report_of(run: Path) -> Page:
    return checked((run / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def run(affinet: Command, folder: Path) -> Path:
    """The folder of a finished run."""
    job_of(changed(), folder)
    result = affinet("train", "job.toml", "--out", "run")
    assert result.exit_code == 0, result.output
    return folder / "run"


def test_a_finished_run_has_a_page_with_all_its_parts(affinet: Command, run: Path) -> None:
    result = affinet("report", "run")
    assert result.exit_code == 0, result.output
    assert result.stdout == "The report is in run/report.html: open it in a browser.\n"
    page = report_of(run)
    for heading in ("The rules, in words", "The weights, and the rules drawn on them", "The training"):
        assert heading in page.shown
    assert '"a tie" ties 1 pair of weights: 1 fewer free number.' in page.shown
    assert "2 tied in 1 group" in page.shown
    assert "With and without the rules" in page.shown
    assert 'says = "hidden1.weight[0, 1] == hidden1.weight[2, 0]"' in page.shown
    assert "What is missing" not in page.shown
    again = affinet("report", "run", "--out", "run/again.html")
    assert again.exit_code == 0, again.output
    assert (run / "again.html").read_bytes() == (run / "report.html").read_bytes()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("metrics.csv", "metrics.csv is missing"),
        ("model.safetensors", "model.safetensors is missing"),
        ("plan.safetensors", "plan.safetensors is missing"),
        ("plan.txt", "plan.txt is missing"),
        ("summary.json", "This run is unfinished"),
    ],
)
@pytest.mark.parametrize("damage", [None, b"", b"\xff\x00 damaged \x80" * 20])
def test_a_missing_or_damaged_file_is_named_and_the_others_are_shown(
    affinet: Command, run: Path, name: str, sentence: str, damage: bytes | None
) -> None:
    if damage is None:
        (run / name).unlink()
    else:
        (run / name).write_bytes(damage)
    result = affinet("report", "run")
    assert result.exit_code == 0, result.output
    page = report_of(run)
    assert (sentence if damage is None else name.partition(".")[0]) in page.shown
    assert "Job and versions" in page.shown


def test_a_run_that_has_only_begun_says_that_it_is_unfinished(affinet: Command, folder: Path) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "job.toml").write_text(changed())
    result = affinet("report", "run")
    assert result.exit_code == 0, result.output
    page = report_of(folder / "run")
    assert "no epoch is finished yet" in page.shown
    assert "affinet train --resume run" in page.shown
    assert "metrics.csv is missing" in result.stdout


def test_rows_that_are_not_whole_are_left_out(affinet: Command, run: Path) -> None:
    metrics = (run / "metrics.csv").read_text()
    (run / "metrics.csv").write_text(f"{metrics}4,0.5,")
    affinet("report", "run")
    assert "1 of 4 rows of metrics.csv cannot be read, and are left out." in report_of(run).shown


def test_a_folder_without_a_run_and_a_page_that_cannot_be_written_end_with_2(affinet: Command, run: Path) -> None:
    for words in (("report", "nowhere"), ("report", "run", "--out", "run"), ("report", "run", "--out", "run/plan.txt")):
        result = affinet(*words)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: ")
