"""Every place of the package that raises, warns, or makes an error for others to raise; read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import affinet

PACKAGE = Path(affinet.__file__).parent

Span = tuple[int, int | None, int, int | None]
"""First line, last line, first column, last column: of a statement in the source, and of an instruction that runs."""


@dataclass(frozen=True)
class Site:
    """A statement that raises, a call that warns, or a call that makes an error outside of such a statement."""

    file: str
    function: str
    words: str
    span: Span

    @property
    def key(self) -> str:
        """What stays the same when lines move: file, function and the beginning of the statement."""
        return f"{self.file} {self.function}: {self.words:.60}"

    def __str__(self) -> str:
        return f"{self.file}:{self.span[0]} {self.function}: {self.words:.140}"


@cache
def sites() -> tuple[Site, ...]:
    """All sites of the package, but for errors.py, whose lines are reached through the others."""
    trees = {
        path: ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "errors.py"
    }
    kinds = _error_classes([*trees.values(), ast.parse((PACKAGE / "errors.py").read_text(encoding="utf-8"))])
    return tuple(
        Site(str(path.relative_to(PACKAGE)), function, ast.unparse(node), span_of(node))
        for path, tree in trees.items()
        for function, node in _found(tree, "", kinds)
    )


@cache
def _sites_of(file: str) -> tuple[Site, ...]:
    return tuple(site for site in sites() if site.file == file)


def site_at(path: str, span: Span) -> Site | None:
    """The site whose statement is exactly this piece of a file."""
    return next((site for site in _sites_of(_shown(path)) if site.span == span), None)


def site_around(path: str, span: Span) -> Site | None:
    """The site that this piece of a file is part of."""
    return next((site for site in _sites_of(_shown(path)) if _within(span, site.span)), None)


def _shown(path: str) -> str:
    return str(Path(path).relative_to(PACKAGE)) if Path(path).is_relative_to(PACKAGE) else ""


def _within(inner: Span, outer: Span) -> bool:
    starts = (outer[0], outer[2]) <= (inner[0], inner[2])
    return starts and (inner[1] or 0, inner[3] or 0) <= (outer[1] or 0, outer[3] or 0)


def span_of(node: ast.stmt | ast.expr) -> Span:
    """Where a node stands, as the instructions compiled from it say."""
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def _error_classes(trees: list[ast.Module]) -> set[str]:
    """The names of all classes of exceptions that the package defines."""
    bases = {
        node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    found = {"Exception", "UserWarning", "RuntimeWarning", "KeyboardInterrupt"}
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return found & bases.keys()


def _found(node: ast.AST, function: str, kinds: set[str]) -> Iterator[tuple[str, ast.stmt | ast.expr]]:
    """Sites below a node with the function around them; nothing inside a site is another one."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Raise):
            if child.exc is not None:
                yield function, child
        elif isinstance(child, ast.Call) and _makes_or_warns(child, kinds):
            yield function, child
        elif isinstance(child, ast.FunctionDef | ast.ClassDef):
            yield from _found(child, f"{function}.{child.name}".lstrip("."), kinds)
        else:
            yield from _found(child, function, kinds)


def _makes_or_warns(call: ast.Call, kinds: set[str]) -> bool:
    called = ast.unparse(call.func)
    return called == "warnings.warn" or called.partition(".")[0] in kinds
