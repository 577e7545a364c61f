"""What docs/architecture.md promises of the house, held by a machine."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from affinet.blocks.kinds import AnyBlock
from tests.test_style import ROOT, shown
from tools import wording

SOURCES = sorted((ROOT / "src" / "affinet").rglob("*.py"))
KINDS = frozenset(kind.__name__ for kind in get_args(AnyBlock))
HOMES = frozenset(kind.__module__ for kind in get_args(AnyBlock))
REGISTERS = (
    "src/affinet/kernels/bases/choosing.py",
    "src/affinet/kernels/torch/measuring.py",
    "src/affinet/kernels/torch/preparing.py",
    "src/affinet/planning/compilation.py",
    "src/affinet/planning/shards/division.py",
)
"""The kernel and the basis of a kind; how a form is measured and what planning does with it, where rules were read."""

MOST_VAGUE = 64
"""Names that say nothing, half of them in compiled loops and the verb `taken` of a block."""


def kinds_asked_for(path: Path) -> Iterator[tuple[ast.AST, bool]]:
    """Each `match` and `isinstance` on a kind of block, and whether the type checker sees that no kind lacks."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module in HOMES]
    imported = {name.name for node in modules for name in node.names} & KINDS
    imported |= KINDS if path.parent.name == "blocks" else set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Match):
            classes = [part.cls for case in node.cases for part in ast.walk(case) if isinstance(part, ast.MatchClass)]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            classes = [part for part in ast.walk(node.args[1]) if isinstance(part, ast.expr)]
        else:
            continue
        if {ast.unparse(each).rpartition(".")[2] for each in classes} & imported:
            yield node, "assert_never" in ast.unparse(node)


def test_kinds_are_asked_for_where_they_are_registered_and_nowhere_else() -> None:
    """A block answers every question about itself: `blocks/block.py`. A new kind is a new file and a line in these."""
    found = {shown(path): list(kinds_asked_for(path)) for path in SOURCES}
    asked = {path: nodes for path, nodes in found.items() if nodes}
    assert tuple(sorted(asked)) == REGISTERS
    for path, nodes in asked.items():
        assert len(nodes) == 1, f"{path} asks {len(nodes)} times of which kind a block is"
        assert nodes[0][1], f"{path} gives a new kind a silent default: end the match in assert_never"


def test_every_kind_has_a_file_of_its_own() -> None:
    homes = [kind.__module__ for kind in get_args(AnyBlock)]
    assert len(set(homes)) == len(homes)
    assert all(home.startswith("affinet.blocks.") for home in homes)


def test_no_two_files_have_one_name() -> None:
    names = Counter(path.name for path in SOURCES if path.name != "__init__.py")
    assert not [name for name, count in names.items() if count > 1]


def test_names_say_what_values_are() -> None:
    vague = list(wording.vague_names(SOURCES))
    assert len(vague) <= MOST_VAGUE, "\n".join(map(str, vague))


def test_no_sentence_has_to_be_decoded() -> None:
    phrases = list(wording.decoded_sentences([*SOURCES, *wording.documents()]))
    assert not phrases, "\n".join(map(str, phrases))


def test_module_docstrings_say_what_the_file_holds_or_does() -> None:
    openings = list(wording.vague_openings(SOURCES))
    assert not openings, "\n".join(map(str, openings))
