"""Every plan of the table comes back from a file bit for bit, however it was read."""

from __future__ import annotations

from pathlib import Path

import pytest

from affinet import Plan
from tests.contract.building import LIMITS, PATHS, plan_of
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.contract.comparing import equal_plans
from tests.limits import plan_within


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("path", PATHS)
def test_a_saved_plan_comes_back(case: Case, path: str, tmp_path: Path) -> None:
    plan = plan_of(case.name, path)
    plan.save(tmp_path / "plan")
    loaded = plan_within(Plan.load(tmp_path / "plan").system, **LIMITS[path])
    assert equal_plans(loaded, plan) == ""
    assert str(loaded) == str(plan)
    assert [(rule.name, rule.text) for rule in loaded.system.rules] == [
        (rule.name, rule.text) for rule in plan.system.rules
    ]
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "plan").read_bytes()
