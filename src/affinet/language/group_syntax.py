"""Read a representation, such as `SO(3).T(2) + 2 * SO(3).T(1)`, from its syntax tree by a whitelist; no code is run."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable

from affinet.language import groups
from affinet.language.forecast import limited
from affinet.language.groups.representation import MOST_AXES, Group, Representation
from affinet.language.misread import Misread, attempt, suggestion

GROUPS: dict[str, Callable[..., Group]] = {
    name: getattr(groups, name) for name in groups.__all__ if name not in ("Group", "Representation")
}

MODULE = "groups"
"""The prefix that text may put before a group, as Python does: `groups.SO(3)`."""

LEAST_BYTES = 2**22
"""Bytes that generators may always take; with an axis of n entries they may take 64 n² if that is more."""

SYNTAX = (
    "a representation is written as tensors of a group, SO(3).T(p, q), a sum a + b, copies 3 * a, a product a @ b, a "
    "power a**2 or a dual a.dual"
)


def is_representation(node: ast.expr) -> bool:
    """Whether an argument is written as a representation, and not as a list of generators."""
    return isinstance(node, ast.Call | ast.Attribute | ast.BinOp | ast.Name)


def read_representation(node: ast.expr, widest: int) -> Representation:
    """Read a representation from its syntax tree; `widest` is the longest axis of the weight that it will act on.

    A space with more entries than that fits no axis, and is refused before it is made.
    Errors: `Misread` for syntax outside the language, `Located` for errors of the language.
    """
    way_out = "Take a smaller group, or write its generators as lists."
    with limited(0, way_out, limit=max(LEAST_BYTES, min(64 * widest**2, 2**29))):
        return _read(node, widest)


def _read(node: ast.expr, widest: int) -> Representation:
    match node:
        case ast.Call(func=ast.Attribute(value=group, attr="T")):
            return _tensors(node, _group(group), widest)
        case ast.Attribute(value=space, attr="dual"):
            a = _read(space, widest)
            return _make(node, a.size, widest, lambda: a.dual)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            a, b = _read(left, widest), _read(right, widest)
            return _make(node, a.size + b.size, widest, lambda: a + b)
        case ast.BinOp(left=left, op=ast.MatMult(), right=right):
            a, b = _read(left, widest), _read(right, widest)
            return _make(node, a.size * b.size, widest, lambda: a @ b)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            count, a = _integer(left, "the number of copies, as in 3 * a,"), _read(right, widest)
            return _make(node, count * a.size, widest, lambda: count * a)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            a, count = _read(left, widest), _integer(right, "the power, as in a**2,")
            return _make(node, a.size ** min(max(count, 0), MOST_AXES + 1), widest, lambda: a**count)
        case ast.Call() | ast.Name() | ast.Attribute():
            name = str(_group(node))
            raise Misread(node, f"{name} is a group, and a rule needs a space that it acts on: write {name}.T(1)")
    raise Misread(node, f"this is not a representation of a group: {SYNTAX}")


def _make(node: ast.AST, size: int, widest: int, make: Callable[[], Representation]) -> Representation:
    """Call `make` for a representation of `size` entries. Errors: `Misread` where no axis is so long."""
    if size > widest:
        raise Misread(
            node, f"{ast.unparse(node):.60} has more entries than the {widest:,} of the longest axis of the weight"
        )
    representation: Representation = attempt(node, make)
    return representation


def _tensors(node: ast.Call, group: Group, widest: int) -> Representation:
    values = _integers(node, f"{group}.T", group.T)
    axes = sum(min(max(value, 0), MOST_AXES + 1) for value in values)
    return _make(node, group.size**axes, widest, lambda: group.T(*values))


def _group(node: ast.expr) -> Group:
    match node:
        case ast.Call(func=ast.Attribute(value=inner, attr="named"), args=[ast.Constant(str(name))], keywords=[]):
            return _group(inner).named(name)
        case ast.Call(func=function) if (name := _plain_name(function)) in GROUPS:
            group: Group = attempt(node, GROUPS[name], *_integers(node, name, GROUPS[name]))
            return group
        case ast.Call(func=function) if name := _plain_name(function):
            raise Misread(node, f"there is no group {name}.{suggestion(name, GROUPS)} {known_groups()}")
        case _ if (name := _plain_name(node)) in GROUPS:
            raise Misread(node, f"{name} is a group: write {_call(name)}")
        case ast.Attribute(attr="T"):
            raise Misread(node, "T is a method: write .T(p) or .T(p, q)")
    raise Misread(node, f"this is not a group. {known_groups()}; {SYNTAX}")


def _plain_name(node: ast.expr) -> str:
    """The name in `SO` and in `groups.SO`; empty for anything else."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id=module), attr=name) if module == MODULE:
            return name
    return ""


def known_groups() -> str:
    """All groups, as they are written."""
    return f"Groups: {', '.join(map(_call, GROUPS))}"


def _call(name: str) -> str:
    return f"{name}({', '.join(inspect.signature(GROUPS[name]).parameters)})"


def _integers(node: ast.Call, name: str, function: Callable[..., object]) -> list[int]:
    """The arguments of a group or of `T` in their order, by position or by name."""
    signature = inspect.signature(function)
    positional = [_integer(argument, f"an argument of {name}") for argument in node.args]
    by_name = {str(keyword.arg): _integer(keyword.value, f"an argument of {name}") for keyword in node.keywords}
    try:
        arguments = signature.bind(*positional, **by_name)
    except TypeError as error:
        raise Misread(node, f"{name}: {error}. It takes ({', '.join(signature.parameters)})") from None
    arguments.apply_defaults()
    return list(arguments.args)


def _integer(node: ast.expr, description: str) -> int:
    match node:
        case ast.Constant(int(value)) if not isinstance(value, bool):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(int(value))) if not isinstance(value, bool):
            return -value
    raise Misread(node, f"{description} must be an integer, such as 3")
