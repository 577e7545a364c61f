"""Read the public names of a module from its source, with their signatures and docstrings, where it cannot be imported.

`affinet.optax` and `affinet.keras` import libraries that need not be installed where the page of names is written.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import affinet

PACKAGE = Path(affinet.__file__).parent


@dataclass(frozen=True)
class Member:
    """A public member of a class; without a signature it is a property."""

    name: str
    signature: str | None
    docstring: str


@dataclass(frozen=True)
class Definition:
    """A public function, or a class with its fields and members."""

    name: str
    signature: str
    docstring: str
    is_class: bool = False
    fields: tuple[str, ...] = ()
    members: tuple[Member, ...] = ()
    is_exception: bool = False


def definitions(module: str) -> Iterator[Definition]:
    """The names in `__all__` of `affinet.<module>`, in alphabetical order."""
    tree = _parsed(f"affinet.{module}")
    homes = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names
    }
    for name in sorted(_listed(tree), key=str.lower):
        yield _definition(name, _parsed(homes[name]) if name in homes else tree)


def _parsed(module: str) -> ast.Module:
    path = PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def _listed(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    raise ValueError("the module has no __all__")


def _definition(name: str, tree: ast.Module) -> Definition:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return Definition(name, _signature(node), ast.get_docstring(node) or "")
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _class(node)
    raise ValueError(f"{name} is not defined where it is imported from")


def _class(node: ast.ClassDef) -> Definition:
    functions = [part for part in node.body if isinstance(part, ast.FunctionDef)]
    made = next((_signature(part) for part in functions if part.name == "__init__"), "()")
    decorated = [ast.unparse(part) for part in node.decorator_list]
    has_fields = any(word.startswith("dataclass") for word in decorated) or "NamedTuple" in map(ast.unparse, node.bases)
    fields = [ast.unparse(part.target) for part in node.body if isinstance(part, ast.AnnAssign)] if has_fields else []
    members = [
        Member(part.name, None if _is_property(part) else _signature(part), ast.get_docstring(part) or "")
        for part in functions
        if not part.name.startswith("_") and not any(ast.unparse(d).endswith(".setter") for d in part.decorator_list)
    ]
    public = tuple(field for field in fields if not field.startswith("_"))
    return Definition(node.name, made, ast.get_docstring(node) or "", True, public, tuple(members))


def _is_property(node: ast.FunctionDef) -> bool:
    return any(ast.unparse(part) in ("property", "cached_property") for part in node.decorator_list)


def _signature(node: ast.FunctionDef) -> str:
    """As `inspect.signature` shows it, without types of parameters: `(rules, *, tolerance=None) -> Plan`."""
    bare = ast.parse(ast.unparse(node)).body[0]
    assert isinstance(bare, ast.FunctionDef)
    arguments = bare.args
    for group in (arguments.posonlyargs, arguments.args, arguments.kwonlyargs):
        for argument in group:
            argument.annotation = None
    for several in (arguments.vararg, arguments.kwarg):
        if several is not None:
            several.annotation = None
    arguments.args = [argument for argument in arguments.args if argument.arg not in ("self", "cls")]
    returned = "" if node.returns is None else ast.unparse(node.returns)
    return f"({ast.unparse(arguments)})" + ("" if returned in ("", "Any", "None") else f" -> {returned}")
