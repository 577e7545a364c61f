"""All cases by what the user was doing, and the page made from them."""

from __future__ import annotations

from pathlib import Path

from tests.errors import (
    constants,
    expressions,
    families,
    groups_and_matrices,
    naming_weights,
    shapes,
    texts,
)
from tests.errors.case import cases_of

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
ROOMS = (naming_weights, constants, expressions, shapes, texts, families, groups_and_matrices)
CASES = [case for room in ROOMS for case in cases_of(room)]


def page() -> str:
    return ""
