"""STYLE: files, functions and entries of the changelog that have grown too long, and files named after nothing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST_FILE = 600
LONGEST_FUNCTION = 60
LONGEST_ENTRY = 2
NAMED_AFTER_NOTHING = ("util", "utils", "helper", "helpers", "base", "common", "manager", "misc")
FILES = sorted(path for folder in ("src", "tools", "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py"))
PACKAGES = sorted({path.parent for path in (ROOT / "src" / "affinet").rglob("*.py")})


def shown(path: Path) -> str:
    """The path as a reader of the repository says it."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    assert lines <= LONGEST_FILE, f"{shown(path)} has {lines} lines: split it where it holds two ideas"
    long = [
        f"{node.name} ({node.end_lineno - node.lineno + 1} lines)"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= LONGEST_FUNCTION
    ]
    assert not long, f"{shown(path)}: functions over {LONGEST_FUNCTION} lines: {', '.join(long)}"


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_files_are_named_after_what_they_do(path: Path) -> None:
    words = path.stem.strip("_").lower().split("_")
    vague = [word for word in words if word in NAMED_AFTER_NOTHING]
    assert not vague, f"{shown(path)}: {vague[0]!r} names no idea"


@pytest.mark.parametrize("folder", PACKAGES, ids=shown)
def test_every_room_is_a_package(folder: Path) -> None:
    assert (folder / "__init__.py").is_file(), f"{shown(folder)} has no __init__.py: the import contract cannot see it"


def test_entries_of_the_changelog_are_short() -> None:
    unreleased = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("\n## ")[1]
    entries = [entry.split("\n\n")[0].rstrip() for entry in unreleased.split("\n- ")[1:]]
    assert entries
    long = [entry for entry in entries if entry.count("\n") >= LONGEST_ENTRY]
    assert not long, f"{len(long)} entries have more than {LONGEST_ENTRY} lines; say what a user notices: {long[0]}"
