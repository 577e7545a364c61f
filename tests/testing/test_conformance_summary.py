"""A summary counts what holds, what fails and what is declined, and its badge and JSON say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

import affinet
import affinet.testing
from affinet.errors import UnsupportedWeightError
from affinet.testing import Case, Summary, Verdict

Arrays = Mapping[str, np.ndarray]
BADGE = Path(__file__).parents[2] / "docs" / "conformance.svg"


def projector(case: Case, weights: Arrays) -> Any:
    return case.plan.projector(weights)


def only_sums(case: Case, weights: Arrays) -> Any:
    if "sums of rows" not in case.name:
        affinet.testing.equations(case)  # declines
        raise ZeroDivisionError("a bug")
    return projector(case, weights)


def named(*names: str) -> list[Case]:
    return [case for case in affinet.testing.cases() if case.name in names]


def test_affinet_conforms_and_its_badge_in_the_docs_is_a_fact() -> None:
    cases = affinet.testing.cases()
    summary = affinet.testing.summarize(projector, library="affinet", version=affinet.__version__, only=cases)
    assert summary.conforms == ("linear equations", "inequalities", "nonlinear equations")
    assert sum(tally.total for tally in summary.tallies.values()) == len(cases)
    assert BADGE.read_text(encoding="utf-8") == summary.badge()


def test_failing_and_declined_cases_are_counted_with_the_reason() -> None:
    some = named("sums of rows", "tied weights", "simplex", "unit rows")
    summary = affinet.testing.summarize(only_sums, library="half", version="2", only=some)
    equations, simplex = summary.tallies["linear equations"], summary.tallies["inequalities"]
    assert (equations.holding, equations.failing, equations.declined, equations.left_out) == (1, 1, 0, 15)
    assert (simplex.holding, simplex.failing, simplex.declined, simplex.left_out) == (0, 0, 1, 4)
    assert summary.conforms == ()
    assert "case 'tied weights' in float32: ZeroDivisionError: a bug" in str(summary)
    assert "half 2: linear equations 1/17" in summary.badge()
    content = json.loads(summary.to_json())
    assert content["kinds"]["linear equations"] == {
        "holding": 1, "failing": 1, "declined": 0, "left_out": 15, "conforms": False,
    }  # fmt: skip
    outcomes = {(each["case"], each["dtype"]): each["outcome"] for each in content["verdicts"]}
    assert outcomes["sums of rows", "float64"] == "holds"
    assert outcomes["tied weights", "float64"] == "fails"
    assert outcomes["simplex", "float32"] == "declined"
    assert content["affinet"] == affinet.__version__


def test_a_case_holds_only_where_it_holds_in_every_dtype() -> None:
    def verdict(case: str, dtype: str, outcome: Any) -> Verdict:
        return Verdict(case, "linear equations", dtype, outcome)

    pairs = [("a", "holds", "holds"), ("b", "holds", "fails"), ("c", "declined", "holds"), ("d", "declined", "fails")]
    both = ("float32", "float64")
    verdicts = [verdict(name, dtype, each) for name, *two in pairs for dtype, each in zip(both, two, strict=True)]
    tally = Summary("any", "1", (*verdicts, verdict("e", "float64", "holds"))).tallies["linear equations"]
    assert (tally.holding, tally.failing, tally.declined, tally.left_out) == (1, 2, 1, 1 + 17)
    assert not tally.conforms


def test_a_part_of_the_cases_or_one_dtype_does_not_conform() -> None:
    for options in ({"only": named("simplex", "order")}, {"dtypes": ["float64"]}):
        summary = affinet.testing.summarize(projector, library="part", version="1", **options)  # type: ignore[arg-type]
        assert summary.conforms == ()
        assert not any(tally.failing or tally.declined for tally in summary.tallies.values())
        assert "#226d38" not in summary.badge()  # green


def test_a_kind_that_is_declined_as_a_whole_is_not_on_the_badge() -> None:
    def declining(case: Case, weights: Arrays) -> Any:
        affinet.testing.equations(case)
        return projector(case, weights)

    summary = affinet.testing.summarize(declining, library="linear", version="1")
    assert summary.conforms == ("linear equations",)
    assert "linear 1: linear equations 17/17<" in summary.badge()
    assert "#226d38" in summary.badge()
    assert "no case" in Summary("any", "1", ()).badge()


def test_problems_leave_out_cases_that_differ_in_planning_alone() -> None:
    names = [case.name for case in affinet.testing.problems()]
    assert not [name for name in names if " as of " in name]
    assert {re.sub(" as of .*", "", case.name) for case in affinet.testing.cases()} == set(names)


def test_equations_give_the_projection_of_the_case() -> None:
    (case,) = named("matrix times weight")
    A, b = affinet.testing.equations(case)
    flat = np.concatenate([case.weights[name].ravel() for name in case.shapes])
    moved = flat - np.linalg.lstsq(A, A @ flat - b, rcond=None)[0]
    wanted = np.concatenate([case.projection[name].ravel() for name in case.shapes])
    np.testing.assert_allclose(moved, wanted, atol=1e-12)


def test_another_dtype_is_refused_and_not_a_failure() -> None:
    with pytest.raises(UnsupportedWeightError, match="float32 and float64"):
        affinet.testing.summarize(projector, library="a", version="1", only=named("simplex"), dtypes=["float16"])


def test_a_badge_of_any_name_is_an_image_with_a_title() -> None:
    summary = affinet.testing.summarize(projector, library='<b> & "c"', version="1", only=named("simplex"))
    tree = ET.fromstring(summary.badge())
    title = tree.findtext("{http://www.w3.org/2000/svg}title")
    assert title == f'affinet {affinet.__version__} conformance: <b> & "c" 1: inequalities 1/5'
    assert tree.get("aria-label") == title
    assert tree.get("role") == "img"
