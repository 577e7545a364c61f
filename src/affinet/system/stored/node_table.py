"""Store nodes as an ordered table, each made of weights and of earlier nodes, and restore them with the same names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, get_args

from affinet.language.calculus.terms import Parameter
from affinet.language.expression import Expression
from affinet.language.nodes import Kind, Node, node
from affinet.language.nonlinear import MOST_EXPONENT
from affinet.language.wording import Word
from affinet.system.malformed import MOST, Malformed, fields, integer, items, shown
from affinet.system.stored.packing import Arrays, Restored
from affinet.system.stored.restoring import restored_expression
from affinet.system.stored.storing import stored_expression

_KINDS: Mapping[str, Kind] = {kind: kind for kind in get_args(Kind)}

Shape = tuple[int, ...]


def stored_node(each: Node, numbers: Mapping[str, int], arrays: Arrays) -> dict[str, Any]:
    """The table of a node. Its name and its shape are not stored, since both follow from its operands."""
    operands = [stored_expression(Expression(operand), numbers, arrays) for operand in each.operands]
    table: dict[str, Any] = {"kind": each.kind, "operands": operands}
    return table | {"exponent": each.exponent} if each.kind == "power" else table


def restored_nodes(value: object, weights: Sequence[Parameter], arrays: Restored) -> list[Node]:
    """The nodes of a file, in order. Raises Malformed.

    An expression in a file refers to weights and nodes by number, the nodes behind the weights. The operands of a node
    can name earlier nodes only, so that no node is made of itself.
    """
    nodes: list[Node] = []
    names = {weight.name for weight in weights}
    for number, table in enumerate(items(value, "nodes")):
        made = _restore(table, f"node {number}", [*weights, *nodes], arrays)
        if made.name in names:
            raise Malformed(f"node {number} is stored twice, or has the name of a weight")
        names.add(made.name)
        nodes.append(made)
    if not nodes or sum(max(each.size, 1) for each in nodes) > MOST:
        raise Malformed("there are no nodes, or they have more entries than 64 bits count")
    return nodes


def _restore(value: object, where: str, parameters: Sequence[Parameter], arrays: Restored) -> Node:
    table = fields(value, where, ("kind", "operands"), ("exponent",))
    if not isinstance(table["kind"], str) or table["kind"] not in _KINDS:
        raise Malformed(f"kind of {where} is {shown(table['kind'])}, not one of {', '.join(_KINDS)}")
    kind = _KINDS[table["kind"]]
    if ("exponent" in table) != (kind == "power"):
        raise Malformed(f"{where} is a power without an exponent, or has an exponent and is not a power")
    exponent = integer(table["exponent"], f"exponent of {where}", 2, MOST_EXPONENT) if kind == "power" else 0
    operands = tuple(
        restored_expression(operand, f"operand {k} of {where}", parameters, arrays).affine
        for k, operand in enumerate(items(table["operands"], f"operands of {where}"))
    )
    if not all(operand.terms for operand in operands):
        raise Malformed(f"{where} has an operand without weights")
    shape = _shape(kind, tuple(operand.shape for operand in operands), where)
    if prod(shape) > MOST:
        raise Malformed(f"{where} has more entries than 64 bits count")
    made = node(kind, shape, operands, Word(where), exponent).terms[0].parameter
    assert isinstance(made, Node)
    return made


def _shape(kind: Kind, shapes: tuple[Shape, ...], where: str) -> Shape:
    """The shape of a node of operands with these shapes. Raises Malformed for operands that do not fit its kind."""
    match kind, shapes:
        case "multiply", (left, right) if left == right:
            return left
        case "matmul", (left, right) if len(left) == len(right) >= 2 and left[:-2] == right[:-2]:
            if left[-1] == right[-2]:
                return (*left[:-1], right[-1])
        case (("det" | "inverse"), (square,)) if len(square) >= 2 and square[-1] == square[-2]:
            return square[:-2] if kind == "det" else square
        case (("power" | "sin" | "cos" | "tanh" | "exp" | "log" | "sqrt" | "reciprocal"), (single,)):
            return single
    raise Malformed(f"{where} is a {kind} of operands of the shapes {f'{list(shapes)}':.80}, which do not fit")
