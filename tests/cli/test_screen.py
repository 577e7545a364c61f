from __future__ import annotations

import io

import pytest
from rich.console import Console

from affinet.cli.screen import Screen

PLAN = """\
rule  equations  kept as
────  ─────────  ───────────────
a     1          3 entries fixed

Words that go on below."""


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (80, PLAN),
        (
            20,
            "rule  equations  ke…\n────  ─────────  ──…\na     1          3 …\n\nWords that go on\nbelow.",
        ),
    ],
)
def test_a_plan_on_a_terminal_is_cut_and_its_sentences_end_with_a_word(width: int, shown: str) -> None:
    screen = Screen(Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None))
    screen.say_plan(PLAN)
    assert [line.rstrip() for line in screen.results.file.getvalue().splitlines()] == shown.splitlines()  # type: ignore[attr-defined]


def test_a_plan_in_a_pipe_is_as_it_is() -> None:
    screen = Screen(Console(file=io.StringIO(), width=20, force_terminal=False))
    screen.say_plan(PLAN)
    assert screen.results.file.getvalue() == PLAN + "\n"  # type: ignore[attr-defined]
