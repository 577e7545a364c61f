"""docs/jobs.md has every key of a job, what it takes and its default, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from affinet.cli.jobs.job import READY_MADE_SETS, DataTable, Job, ModelTable, RuleTable, TrainTable
from affinet.cli.trainings.perceptron import ACTIVATIONS

PAGE = Path(__file__).parents[3] / "docs" / "jobs.md"
SECTIONS: dict[str, type[BaseModel]] = {
    "## The tables": Job,
    "### `[data]`": DataTable,
    "### `[model]`": ModelTable,
    "### `[train]`": TrainTable,
    "### `[[rule]]`": RuleTable,
}
SAID_IN_WORDS = {"train", "options", "rule", "rules", "ignore"}
"""Keys whose default is a table or a list."""


def rows(section: str) -> dict[str, list[str]]:
    """Key → what it takes, its default and its meaning, as the table below a heading says."""
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(f"\n{section}\n") == 1
    below = text.split(f"\n{section}\n")[1].split("\n#")[0]
    lines = [line.strip("|").split(" | ") for line in below.splitlines() if line.startswith("| `")]
    return {re.sub(r"[` ]", "", key): [cell.strip() for cell in cells] for key, *cells in lines}


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_has_every_key_of_a_table_and_what_it_takes(section: str) -> None:
    fields = SECTIONS[section].model_fields
    said = rows(section)
    assert list(said) == list(fields)
    for key, (takes, _, means) in said.items():
        assert takes == fields[key].description, key
        assert means, key


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_has_the_defaults(section: str) -> None:
    for key, (_, default, _) in rows(section).items():
        value = SECTIONS[section].model_fields[key].default
        if value is PydanticUndefined:
            assert default == "needed", key
        elif value is not None and key not in SAID_IN_WORDS:
            shown = f'"{value}"' if isinstance(value, str) else f"{value:g}"
            assert default == shown, key
        else:
            assert default not in ("", "needed"), key


def test_the_page_names_what_can_be_chosen_from() -> None:
    assert all(f"`{name}`" in rows("### `[data]`")["source"][2] for name in READY_MADE_SETS)
    assert re.findall(r"`(\w+)`", rows("### `[model]`")["activation"][2]) == list(ACTIVATIONS)
