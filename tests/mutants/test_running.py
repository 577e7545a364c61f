"""The runner of mutation tests: it kills a mutant that a test notices, and reports the one that none does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOY = "def larger(a, b):\n    if a >= b:\n        return a\n    return b\n"
TESTS = """
from toy import larger

def test_the_second():
    assert larger(1, 2) == 2

def test_the_first():
    assert larger(3, 2) == 3
"""
MUTANTS = {
    "as it is": TOY,
    "the smaller": TOY.replace(">=", "<"),
    "equivalent": TOY.replace(">=", ">"),
    "for ever": TOY.replace("return b", "while True: pass"),
    "not to import": TOY + "larger.nothing.at_all\n",
}
# In a process of its own: the one that runs these tests has imported affinet, and a child of it would not do so again.
TRYING = """
import json, sys
from pathlib import Path
from tools.mutants.running import try_out
chosen = ["test_toy.py::test_the_first", "test_toy.py::test_the_second"]
path = Path("toy.py").resolve()
for text in json.loads(sys.argv[1]):
    trial = try_out("toy", path, text, chosen, limit=1.0)
    print(json.dumps([trial.fate, trial.by]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a mutant is tried in a fork")
def test_each_mutant_meets_its_fate(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(TOY)
    (tmp_path / "test_toy.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-c", TRYING, json.dumps(list(MUTANTS.values()))],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    fates = dict(zip(MUTANTS, map(json.loads, done.stdout.splitlines()), strict=True))
    assert fates == {
        "as it is": ["survived", ""],
        "the smaller": ["killed", "test_toy.py::test_the_first"],
        "equivalent": ["survived", ""],
        "for ever": ["out of time", ""],
        "not to import": ["killed", "importing test_toy.py"],
    }
    assert (tmp_path / "toy.py").read_text() == TOY, "nothing is written into the source tree"
