"""All cases by what the user was doing, and the page made from them."""

from __future__ import annotations

from pathlib import Path

from tests.errors import (
    attaching,
    constants,
    damaged_plans,
    expressions,
    families,
    groups_and_matrices,
    naming_weights,
    plan_files,
    planning,
    reparametrizing,
    shapes,
    steps,
    texts,
)
from tests.errors.case import cases_of

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
ROOMS = (naming_weights, constants, expressions, shapes, texts, families, groups_and_matrices, planning, plan_files, damaged_plans, attaching, steps, reparametrizing)
CASES = [case for room in ROOMS for case in cases_of(room)]


def page() -> str:
    return ""
