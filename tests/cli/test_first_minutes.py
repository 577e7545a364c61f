"""The commands of the README's path from a table to a rule, in a fresh folder, as a person would type them."""

from __future__ import annotations

import difflib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tools.run_documents import BLOCK, ROOT

HEADING = "## From a table, without Python\n"


def commands_of_readme() -> list[list[str]]:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split(HEADING)[1].split("\n## ")[0]
    lines = [line for found in BLOCK.finditer(section) for line in found["body"].splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def a_table(path: Path) -> None:
    """Flats as an agency lists them: a name, a text, a date, a column with gaps, numbers and a price."""
    dice = np.random.default_rng(5)
    lines = ["Flat;District;Listed on;Area (m²);Rooms;Built;Balcony;Price in €"]
    for row in range(120):
        area, rooms, built = dice.uniform(30, 150), dice.integers(1, 6), dice.integers(1900, 2024)
        price = 900 * area + 8000 * rooms + 150 * (built - 1900) + dice.normal(0, 4000)
        place, year = ("Süd", "Nord", "Mitte")[row % 3], "" if row in (7, 70) else built
        cells = f"No. {row};{place};2024-0{row % 9 + 1}-01;{area:.1f};{rooms};{year};{row % 2 == 0};{price:.2f}"
        lines.append(cells.replace(".", ",").replace("No,", "No."))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def typed(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "importtime", "-m", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)


def modules_of(done: subprocess.CompletedProcess[str]) -> set[str]:
    """The packages that a command imported."""
    return {found[1] for found in re.finditer(r"\| +(\w+)(?:\.[\w.]+)?$", done.stderr, re.MULTILINE)}


def uncommented(text: str, name: str) -> str:
    return text.replace(f'# "{name}"', f'"{name}"')


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    a_table(tmp_path / "data.csv")
    return tmp_path


def test_four_commands_and_one_changed_line_lead_from_a_table_to_a_rule_that_holds(fresh: Path) -> None:
    install, init, *others = commands_of_readme()
    assert install == ["pip", "install", "affinet[cli]"]
    assert [words[:2] for words in (init, *others)] == [
        ["affinet", "init"],
        ["affinet", "train"],
        ["affinet", "report"],
    ]

    written = typed(init, fresh)
    assert written.returncode == 0, written.stderr
    assert "torch" not in modules_of(written)
    assert "polars" in modules_of(written)
    assert "The target is the last column, 'Price in €'." in written.stdout
    left_out = re.findall(r"^Column '(.*)' is left out: ", written.stdout, re.MULTILINE)
    assert left_out == ["Flat", "Listed on", "Built"]
    assert "Column 'District' is text, which becomes 3 features of zeros and ones: 'District=Mitte'" in written.stdout

    job = fresh / "job.toml"
    before = job.read_text(encoding="utf-8")
    job.write_text(uncommented(before, "no weight of the last layer is negative"), encoding="utf-8")
    changes = difflib.unified_diff(before.splitlines(), job.read_text(encoding="utf-8").splitlines(), n=0)
    assert [line[0] for line in changes if line[:3] not in ("---", "+++")] == ["@", "-", "+"]

    for words in others:
        done = typed(words, fresh)
        assert done.returncode == 0, done.stderr
    run = fresh / "runs" / "job"
    assert "no weight of the last layer is negative" in (run / "report.html").read_text(encoding="utf-8")
    assert load_file(run / "model.safetensors")["output.weight"].min() >= 0
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert summary["with_rules"]["largest_violation"] == 0
    assert summary["without_rules"]["largest_violation"] > 0
    assert summary["with_rules"]["score"] > 0  # better than the mean of all prices
