"""STYLE: files, functions and entries of the changelog that have grown too long, and files named after nothing.

One test per rule, over all files: a parametrized test per file took longer to collect than to run, and finds no more.
"""

from __future__ import annotations

import ast
from pathlib import Path

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


def test_there_are_files_to_read() -> None:
    assert len(FILES) > 100
    assert len(PACKAGES) > 10


def test_files_stay_short() -> None:
    lengths = {shown(path): path.read_text(encoding="utf-8").count("\n") for path in FILES}
    long = [f"{path} has {lines} lines" for path, lines in lengths.items() if lines > LONGEST_FILE]
    assert not long, f"{'; '.join(long)}: split it where it holds two ideas"


def test_functions_stay_short() -> None:
    long = [
        f"{shown(path)}: {node.name} ({node.end_lineno - node.lineno + 1} lines)"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= LONGEST_FUNCTION
    ]
    assert not long, f"functions over {LONGEST_FUNCTION} lines: {', '.join(long)}"


def test_files_are_named_after_what_they_do() -> None:
    words = {shown(path): path.stem.strip("_").lower().split("_") for path in FILES}
    vague = [path for path, parts in words.items() if any(part in NAMED_AFTER_NOTHING for part in parts)]
    assert not vague, f"these names say no idea: {', '.join(vague)}"


def test_every_room_is_a_package() -> None:
    missing = [shown(folder) for folder in PACKAGES if not (folder / "__init__.py").is_file()]
    assert not missing, f"no __init__.py, which the import contract needs, in {', '.join(missing)}"


def test_entries_of_the_changelog_are_short() -> None:
    unreleased = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("\n## ")[1]
    entries = [entry.split("\n\n")[0].rstrip() for entry in unreleased.split("\n- ")[1:]]
    assert entries
    long = [entry for entry in entries if entry.count("\n") >= LONGEST_ENTRY]
    assert not long, f"{len(long)} entries have more than {LONGEST_ENTRY} lines; say what a user notices: {long[0]}"
