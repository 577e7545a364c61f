"""Notebooks are kept without outputs and without traces of a machine, and `make docs` executes all of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tools.run_notebooks import faults

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def cells_of(path: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return cells


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_no_outputs_and_no_traces_of_a_machine(path: Path) -> None:
    assert json.loads(path.read_text(encoding="utf-8"))["metadata"] == METADATA
    code = [cell for cell in cells_of(path) if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in cells_of(path)}) == len(cells_of(path))
    assert sum("assert " in "".join(cell["source"]) for cell in code) >= len(code) / 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_exercise_has_a_hidden_solution(path: Path) -> None:
    text = ["".join(cell["source"]) for cell in cells_of(path)]
    exercises = next(each for each in text if each.startswith("## Exercises"))
    solutions = next(each for each in text if each.startswith("## Solutions"))
    numbers = re.findall(r"^(\d)\. ", exercises, re.MULTILINE)
    summaries = re.findall(r"<details><summary>(.*)</summary>", solutions)
    assert numbers == sorted(re.findall(r"\d", " ".join(summaries)))
    (computed,) = [cell for cell in cells_of(path) if "solution" in cell["metadata"].get("tags", ())]
    assert computed["metadata"]["jupyter"] == {"source_hidden": True}


def test_make_docs_executes_every_notebook() -> None:
    assert NOTEBOOKS
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\ndocs: ")[1].split("\n\n")[0]
    assert "python -m tools.run_notebooks build/notebooks docs/notebooks/*.ipynb" in recipe
    assert "make docs" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_errors_and_warnings_are_faults() -> None:
    error = {"output_type": "error", "ename": "AssertionError", "evalue": "off", "traceback": ["line 3"]}
    warning = {"output_type": "stream", "name": "stderr", "text": "UserWarning: slow"}
    printed = {"output_type": "stream", "name": "stdout", "text": "1.0"}
    outputs: list[list[dict[str, Any]]] = [[printed], [error], [warning]]
    cells = [{"cell_type": "markdown"}, *({"cell_type": "code", "outputs": each} for each in outputs)]
    assert list(faults({"cells": cells})) == [
        "cell 3 raises AssertionError: off\nline 3",
        "cell 4 warns: UserWarning: slow",
    ]
