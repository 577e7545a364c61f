"""What every error has in common: a message that a terminal may be shown."""

from __future__ import annotations

import pytest

import affinet
from affinet import Plan
from affinet.errors import AffinetError, NothingToTrainWarning, UnknownWeightError, visible
from affinet.report.cost import CostReport, RuleCost

HOSTILE = "x\x1b[2J\r\u202e\x9b\ud800"
SHOWN = r"x\x1b[2J\r\u202e\x9b\ud800"


def test_what_a_terminal_would_obey_is_escaped_and_everything_else_is_kept() -> None:
    assert visible(HOSTILE) == SHOWN
    assert visible("α == β\n\t…") == "α == β\n\t…"
    assert str(AffinetError(HOSTILE)) == SHOWN
    assert SHOWN in str(UnknownWeightError("a", [HOSTILE]))
    assert str(AffinetError(HOSTILE).located(2, 1)) == f"line 2, column 1: {SHOWN}"


def test_names_in_plans_and_contradictions_are_shown_escaped() -> None:
    w = affinet.weights({"a": (2,), HOSTILE: (2,)})
    plan = affinet.plan([(w.a[0] == 1).named(HOSTILE), w[HOSTILE] == 0])
    first, second = str(plan).splitlines()[2:4]
    assert first.startswith(r"x\x1b[2J \u202e\x9b\ud800  ")
    assert second.startswith(r"x\x1b[2J \u202e\x9b\ud800 == 0  ")
    assert "\x1b" not in str(plan)
    with pytest.raises(affinet.InfeasibleError, match=r"x.x1b\[2J") as caught:
        affinet.plan([(w.a[0] == 1).named(HOSTILE), w.a[0] == 2])
    assert "\x1b" not in str(caught.value)
    assert isinstance(plan, Plan)


def test_names_in_warnings_and_in_reports_are_shown_escaped() -> None:
    assert str(NothingToTrainWarning(HOSTILE, 1, [HOSTILE])).count(SHOWN) == 2
    assert SHOWN in str(CostReport((RuleCost(HOSTILE, 1.0, 1.0, ()),), 0.0))
