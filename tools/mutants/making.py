"""The mutants of one file: every small change that mutmut's operators make to code that runs.

Left out, because no test of what affinet does could tell: annotations and type aliases, decorators, imports,
docstrings, assertions (they state what cannot happen), what type checkers alone read (`TYPE_CHECKING`, `cast`,
`assert_never`), and the texts of errors, warnings and forecasts, though not the facts they are given.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import libcst as cst
from libcst.metadata import (
    MetadataWrapper,
    ParentNodeProvider,
    PositionProvider,
    WhitespaceInclusivePositionProvider,
)
from mutmut.mutation.mutators import mutation_operators

UNREAD = (cst.Annotation, cst.Decorator, cst.Import, cst.ImportFrom, cst.Assert, cst.TypeAlias, cst.TypeParameters)
TEXTS = (cst.SimpleString, cst.FormattedString, cst.ConcatenatedString)
TELLING = ("forecast", "warn")
# What mutmut leaves alone as well: `len(None)` and `isinstance(None, …)` are killed by any test.
ALWAYS_KILLED = ("len", "isinstance")


@dataclass(frozen=True)
class Mutant:
    """A file with `new` in place of `text[start:end]`.

    `first` and `last` are the lines of the statement, `before` and `after` the lines that differ, for people.
    """

    file: str
    function: str
    first: int
    last: int
    before: str
    after: str
    start: int
    end: int
    new: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What stays the same when lines are added above."""
        return self.file, self.function, self.before, self.after

    def of(self, text: str) -> str:
        """The changed text of the file."""
        return text[: self.start] + self.new + text[self.end :]


class _Finding(cst.CSTVisitor):  # type: ignore[misc]  # libcst is optional: read as untyped
    """Collects (statement lines, function, original node, changed node) of every place that is mutated."""

    METADATA_DEPENDENCIES = (PositionProvider, ParentNodeProvider)

    def __init__(self) -> None:
        self.found: list[tuple[int, int, str, cst.CSTNode, cst.CSTNode]] = []
        self.names: list[str] = []
        self.telling = 0

    def on_visit(self, node: cst.CSTNode) -> bool:
        if self._left_out(node):
            return False
        if isinstance(node, cst.FunctionDef | cst.ClassDef):
            self.names.append(node.name.value)
        self.telling += _tells(node)
        first, last = self._lines(node)
        for kind, operator in mutation_operators:
            if isinstance(node, kind):
                for changed in operator(node):
                    if not self._changes_nothing_that_runs(node, changed):
                        self.found.append((first, last, ".".join(self.names), node, changed))
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, cst.FunctionDef | cst.ClassDef) and self.names[-1:] == [original_node.name.value]:
            self.names.pop()
        self.telling -= _tells(original_node)

    def _left_out(self, node: cst.CSTNode) -> bool:
        match node:
            case cst.Expr(value=cst.SimpleString() | cst.ConcatenatedString()):
                return True
            case cst.If(test=cst.Name(value="TYPE_CHECKING")):
                return True
            case cst.Call(func=cst.Name(value=name)) if name in ALWAYS_KILLED or name == "assert_never":
                return True
            case cst.Assign() if not self.names and _names_a_type(node.value):
                return True
            case cst.AnnAssign(annotation=cst.Annotation(annotation=cst.Name(value="TypeAlias"))):
                return True
            case cst.Arg() if self._is_the_type_of_a_cast(node):
                return True
        return isinstance(node, UNREAD) or (self.telling > 0 and isinstance(node, TEXTS))

    def _is_the_type_of_a_cast(self, node: cst.Arg) -> bool:
        parent = self.get_metadata(ParentNodeProvider, node)
        return isinstance(parent, cst.Call) and _called(parent) == "cast" and parent.args[0] is node

    def _changes_nothing_that_runs(self, node: cst.CSTNode, changed: cst.CSTNode) -> bool:
        if isinstance(node, cst.Call) and isinstance(changed, cst.Call):
            kept = {id(argument) for argument in changed.args}
            gone = [argument for argument in node.args if id(argument) not in kept]
            if gone and _called(node) == "cast":
                return gone[0] is node.args[0]
            return bool(gone) and self.telling > 0 and all(isinstance(argument.value, TEXTS) for argument in gone)
        if isinstance(node, cst.Match) and isinstance(changed, cst.Match):
            gone_cases = [case for case in node.cases if all(case is not other for other in changed.cases)]
            return any("assert_never" in cst.Module([]).code_for_node(case) for case in gone_cases)
        return False

    def _lines(self, node: cst.CSTNode) -> tuple[int, int]:
        """First and last line of the statement around; of a compound one, of the changed node itself."""
        around: Any = node
        while not isinstance(around, cst.SimpleStatementLine | cst.BaseCompoundStatement | cst.Module):
            around = self.get_metadata(ParentNodeProvider, around)
        where = self.get_metadata(
            PositionProvider, around if isinstance(around, cst.SimpleStatementLine) else node, None
        )
        return (where.start.line, where.end.line) if where else (0, 0)


def mutants_of(file: str, text: str) -> list[Mutant]:
    """All mutants of `text`, in the order they stand in it, none twice."""
    wrapper = MetadataWrapper(cst.parse_module(text))
    finding = _Finding()
    wrapper.visit(finding)
    spans = wrapper.resolve(WhitespaceInclusivePositionProvider)
    starts = [0, *accumulate(len(line) for line in text.splitlines(keepends=True))]
    made: dict[str, Mutant] = {}
    times: Counter[tuple[str, str, str]] = Counter()
    for first, last, function, node, changed in finding.found:
        if isinstance(node, cst.BaseCompoundStatement):
            start, end, new = 0, len(text), _replaced(wrapper.module, node, changed)
        else:
            span = spans[node]
            start, end = (starts[place.line - 1] + place.column for place in (span.start, span.end))
            new = wrapper.module.code_for_node(changed)
        mutated = text[:start] + new + text[end:]
        if mutated != text and mutated not in made and _compiles(mutated):
            before, after = _difference(text, mutated)
            times[function, before, after] += 1
            if times[function, before, after] > 1:
                function = f"{function} ({times[function, before, after]})"
            made[mutated] = Mutant(file, function, first, last, before, after, start, end, new)
    return list(made.values())


def _replaced(module: cst.Module, node: cst.CSTNode, changed: cst.CSTNode) -> str:
    mutated = module.deep_replace(node, changed)
    assert isinstance(mutated, cst.Module)
    code: str = mutated.code
    return code


def _compiles(text: str) -> bool:
    try:
        compile(text, "mutant", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


def _difference(text: str, mutated: str) -> tuple[str, str]:
    """The lines that differ, without their indentation, joined by a space."""
    old, new = text.splitlines(), mutated.splitlines()
    start = _common(old, new)
    end = _common(old[start:][::-1], new[start:][::-1])
    before, after = (" ".join(line.strip() for line in lines[start : len(lines) - end]) for lines in (old, new))
    return before, after


def _common(one: list[str], other: list[str]) -> int:
    """How many lines both begin with."""
    return next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _called(call: cst.Call) -> str:
    return _last_name(call.func) if isinstance(call.func, cst.Name) else ""


def _tells(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Raise) or (isinstance(node, cst.Call) and _last_name(node.func) in TELLING)


def _last_name(node: cst.BaseExpression) -> str:
    match node:
        case cst.Name(value=name) | cst.Attribute(attr=cst.Name(value=name)):
            return str(name)
    return ""


def _names_a_type(value: cst.BaseExpression) -> bool:
    """Whether a value at the top of a file is a type, or types joined by `|`: only annotations read it."""
    match value:
        case cst.BinaryOperation(left=left, operator=cst.BitOr(), right=right):
            return _names_a_type(left) and _names_a_type(right)
        case cst.Subscript(value=kind):
            return _names_a_type(kind)
        case cst.Name(value=name) | cst.Attribute(attr=cst.Name(value=name)):
            return name[:1].isupper() or name in ("int", "float", "str", "tuple", "list", "dict")
    return False
