"""STYLE: files, functions and entries of the changelog that have grown too long, vague file names, stale pages.

One test per rule, over all files: a parametrized test per file took longer to collect than to run, and finds no more.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tools import api_page

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


def test_paths_that_the_makefile_names_are_there() -> None:
    """`make quick` and `make rounding` name files: a renamed one must not fall out of them unseen."""
    named = re.findall(r"tests/[\w/]+(?:\.py)?", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert len(named) > 10
    missing = [path for path in named if not path.startswith("tests/fuzz/findings") and not (ROOT / path).exists()]
    assert not missing, f"the Makefile names {', '.join(missing)}"


def test_entries_of_the_changelog_are_short() -> None:
    """Of the version that is being written and of the newest one; a version just cut leaves the first section empty."""
    sections = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("\n## ")[1:]
    assert sections[0].startswith("[Unreleased]")
    entries = [entry.split("\n\n")[0].rstrip() for section in sections[:2] for entry in section.split("\n- ")[1:]]
    assert entries
    long = [entry for entry in entries if entry.count("\n") >= LONGEST_ENTRY]
    assert not long, f"{len(long)} entries have more than {LONGEST_ENTRY} lines; say what a user notices: {long[0]}"
    twice = {entry for entry in entries if entries.count(entry) > 1}
    assert not twice, f"a merge has left these twice: {', '.join(twice)}"


def test_the_index_lists_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    missing = [page.name for page in sorted((ROOT / "docs").glob("*.md")) if f"]({page.name})" not in index]
    assert missing == ["index.md"], f"docs/index.md does not list {', '.join(missing)}"


def test_the_list_of_public_names_is_current() -> None:
    written = api_page.PAGE.read_text(encoding="utf-8")
    assert written == api_page.page(), "docs/api.md is stale: run `python -m tools.api_page`"


BELOW_REPORTS = (
    "language",
    "system",
    "blocks",
    "planning",
    "analysis",
    "plans",
    "kernels",
    "training",
    "report",
    "adapters",
)
SHOWING_TEXT = {
    "report/plan_text.py": {"rules_without_plan"},
    "system/system.py": {"titled", "_name_rules"},
    "system/stored/description.py": {"_store_rule"},
    "system/stored/origins.py": {"stored_origin"},
    "analysis/diagnosis/explaining.py": {"explain", "_explain_inequalities"},
    "analysis/diagnosis/contradiction_text.py": {"_label", "_indexed_text"},
    "plans/explanation.py": {"__str__", "_balls", "_curved"},
    "analysis/unreached.py": {"unreached"},
}
"""Functions outside of `language/`, which makes the texts of rules, that read one: to show it, to store it, or to name
a rule by it. A rule's `origin` says what made it, and nothing is decided by its text; a new function belongs here only
if it shows the text."""
ALLOWED_COMPARISONS = {"system/system.py": {"titled"}}
"""Whether a rule is shown by a name of its own."""


def reads_of_text(path: Path) -> list[tuple[str, ast.AST, ast.AST]]:
    """The function, the node `….text` and the node around it, of every place that reads an attribute `text`."""
    found: list[tuple[str, ast.AST, ast.AST]] = []

    def visit(node: ast.AST, function: str, around: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef):
            function = node.name
        if isinstance(node, ast.Attribute) and node.attr == "text" and isinstance(node.ctx, ast.Load):
            found.append((function, node, around))
        for inner in ast.iter_child_nodes(node):
            visit(inner, function, node)

    tree = ast.parse(path.read_text(encoding="utf-8"))
    visit(tree, "", tree)
    return found


def branches(node: ast.AST, around: ast.AST) -> bool:
    """Whether a text is compared, searched, split, measured or tested where it is read."""
    if isinstance(around, ast.Call) and node in around.args:
        called = around.func
        if isinstance(called, ast.Attribute):
            return called.attr in ("match", "search", "fullmatch", "findall", "finditer", "split", "sub", "startswith")
        return isinstance(called, ast.Name) and called.id in ("len", "bool", "any", "all", "hash")
    if isinstance(around, ast.If | ast.While | ast.IfExp):
        return node is around.test
    return isinstance(around, ast.Compare | ast.Attribute | ast.Subscript | ast.UnaryOp | ast.Match | ast.For)


BELOW = [path for folder in BELOW_REPORTS for path in sorted((ROOT / "src" / "affinet" / folder).rglob("*.py"))]


def test_nothing_below_reports_is_decided_by_the_text_of_a_rule() -> None:
    wrong = []
    for path in BELOW:
        inside = path.relative_to(ROOT / "src" / "affinet").as_posix()
        for function, node, around in reads_of_text(path):
            unknown = not inside.startswith("language/") and function not in SHOWING_TEXT.get(inside, ())
            decides = branches(node, around) and function not in ALLOWED_COMPARISONS.get(inside, ())
            if unknown or decides:
                wrong.append(f"{inside}:{getattr(node, 'lineno', 0)} in {function or 'the module'}")
    assert not wrong, f"the text of a rule is for showing, its origin for deciding: {', '.join(wrong)}"


def test_decisions_by_text_are_seen(tmp_path: Path) -> None:
    decisions = (
        'rule.text.startswith("share(")', 'rule.text == "a"', '"share(" in rule.text', "re.search(p, rule.text)",
        "rule.text[:3]", "x if rule.text else y", "not rule.text", "len(rule.text)", "p.fullmatch(rule.text)",
    )  # fmt: skip
    for code in decisions:
        (tmp_path / "module.py").write_text(code, encoding="utf-8")
        ((_, node, around),) = reads_of_text(tmp_path / "module.py")
        assert branches(node, around), code
