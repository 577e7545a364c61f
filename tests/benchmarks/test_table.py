"""Figures as they are shown, verdicts, and what is replaced in a document."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.growth import exponents
from benchmarks.results import GrowthRow, Outcome, Row, Run, outcomes
from benchmarks.table import refresh, sections, shown, verdict
from benchmarks.workload import Figure, Target

DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"
CPU = {"device": "cpu"}


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (1.0449, "×", "1.04 ×"),
        (12.0, "s", "12 s"),
        (0.0123, "s", "12.3 ms"),
        (4.5e-6, "s", "4.5 µs"),
        (12_345.0, "B", "12.3 kB"),
        (7.0, "B", "7 B"),
        (1.0, "", "1"),
        (None, "s", "–"),
    ],
)
def test_figures_are_shown_to_three_digits(value: float | None, unit: str, said: str) -> None:
    assert shown(value, unit) == said


def test_a_target_is_met_not_met_or_not_measured() -> None:
    targets = (Target(Figure.EAGER, 1.25), Target(Figure.STEP, 1.1), Target(Figure.EXTRA, 5e6))
    said = [verdict(outcome) for outcome in outcomes(targets, {Figure.EAGER: 1.2, Figure.STEP: 1.2})]
    assert said == [
        "eager step 1.20 × ≤ 1.25 ×: met",
        "step 1.20 × ≤ 1.10 ×: not met",
        "extra memory – ≤ 5 MB: not measured",
    ]


def test_a_workload_that_failed_is_a_row_that_says_so() -> None:
    text = sections(Run(CPU, rows=(Row("a", "all of it", failed="failed: MemoryError"),)))["workloads"]
    assert "| all of it (failed: MemoryError) | – |" in text


def test_only_what_stands_between_the_markers_is_replaced(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("before\n<!-- a -->\nold\n<!-- end of a -->\nafter\n", encoding="utf-8")
    refresh(document, {"a": r"new \1"})
    assert document.read_text(encoding="utf-8") == "before\n<!-- a -->\n\nnew \\1\n<!-- end of a -->\nafter\n"
    with pytest.raises(ValueError, match="has 0 places marked 'b'"):
        refresh(document, {"b": "x"})


def test_the_page_has_a_place_for_every_part_of_a_run() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    growth = tuple(GrowthRow("ties", size, 1, size * 1e-6, size * 1e-7) for size in (10**5, 10**6))
    rows = (Row("a", "a", outcomes=(Outcome("step", 1.0, 1.0),)),)
    for name in sections(Run(CPU, rows, growth=growth, imports={"import affinet": 0.1})):
        assert text.count(f"<!-- {name} -->") == text.count(f"<!-- end of {name} -->") == 1
    assert "<!-- peers -->" in text
    assert "<!-- workloads-gpu -->" in text


def test_exponents_are_slopes_of_the_larger_sizes() -> None:
    rows = [GrowthRow("ties", size, 1, size**1.0 + 1e9 * (size < 1e5), size**0.5) for size in (10**4, 10**5, 10**7)]
    assert exponents(rows)["ties"] == pytest.approx((1.0, 0.5))


@pytest.mark.parametrize(("load", "said"), [("0.3", False), ("2.4", True), ("unknown", False)])
def test_a_busy_machine_is_said_to_be_busy(load: str, said: bool) -> None:
    text = sections(Run({"device": "cpu", "load": load}, rows=(Row("a", "a"),)))["workloads"]
    assert ("its ratios say little" in text) is said
