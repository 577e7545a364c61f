"""Store nodes as an ordered table, each made of weights and of earlier nodes, and restore them with the same names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, get_args

from affinet.language.affine import Affine
from affinet.language.calculus.terms import Parameter
from affinet.language.expression import Expression
from affinet.language.nodes import Kind, Node, node
from affinet.language.nonlinear import MOST_EXPONENT
from affinet.language.opaque import FindFunction, Opaque
from affinet.language.wording import Word
from affinet.system.malformed import MOST, Malformed, fields, integer, items, shown, text
from affinet.system.stored.packing import Arrays, Restored
from affinet.system.stored.restoring import restored_expression
from affinet.system.stored.storing import stored_expression

_KINDS: Mapping[str, Kind] = {kind: kind for kind in get_args(Kind)}

Shape = tuple[int, ...]


def stored_node(each: Node, numbers: Mapping[str, int], arrays: Arrays) -> dict[str, Any]:
    """The table of a node. Its name and its shape are not stored, since both follow from its operands."""
    operands = [stored_expression(Expression(operand), numbers, arrays) for operand in each.operands]
    table: dict[str, Any] = {"kind": each.kind, "operands": operands}
    if each.opaque is not None:
        return table | {
            "function": each.opaque.name,
            "shapes": [list(s) for s in each.opaque.shapes],
            "count": each.size,
        }
    return table | {"exponent": each.exponent} if each.kind == "power" else table


def restored_nodes(
    value: object, weights: Sequence[Parameter], arrays: Restored, find_function: FindFunction
) -> list[Node]:
    """The nodes of a file, in order. Raises Malformed.

    An expression in a file refers to weights and nodes by number, the nodes behind the weights. The operands of a node
    can name earlier nodes only, so that no node is made of itself.
    """
    nodes: list[Node] = []
    names = {weight.name for weight in weights}
    for number, table in enumerate(items(value, "nodes")):
        made = _restore(table, f"node {number}", [*weights, *nodes], arrays, find_function)
        if made.name in names:
            raise Malformed(f"node {number} is stored twice, or has the name of a weight")
        names.add(made.name)
        nodes.append(made)
    if not nodes or sum(max(each.size, 1) for each in nodes) > MOST:
        raise Malformed("there are no nodes, or they have more entries than 64 bits count")
    return nodes


def _restore(
    value: object, where: str, parameters: Sequence[Parameter], arrays: Restored, find_function: FindFunction
) -> Node:
    table = fields(value, where, ("kind", "operands"), ("exponent", "function", "shapes", "count"))
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
    opaque = _opaque(table, kind, operands, where, find_function)
    shapes = tuple(operand.shape for operand in operands)
    shape = _shape(kind, shapes, where) if opaque is None else (opaque.count,)
    if prod(shape) > MOST:
        raise Malformed(f"{where} has more entries than 64 bits count")
    made = node(kind, shape, operands, Word(where), exponent, opaque).terms[0].parameter
    assert isinstance(made, Node)
    return made


def _opaque(
    table: Mapping[str, Any], kind: Kind, operands: Sequence[Affine], where: str, find_function: FindFunction
) -> Opaque | None:
    """The function of a node that calls one. Raises Malformed."""
    keys = {"function", "shapes", "count"} & table.keys()
    if len(keys) != (3 if kind == "function" else 0):
        raise Malformed(f"{where} lacks its function, or has one and is of another kind")
    if kind != "function":
        return None
    name = text(table["function"], f"function of {where}")
    shapes = tuple(
        tuple(integer(n, f"shapes of {where}", 0, MOST) for n in items(shape, f"shapes of {where}"))
        for shape in items(table["shapes"], f"shapes of {where}")
    )
    count = integer(table["count"], f"count of {where}", 1, MOST)
    if len(operands) != 1 or operands[0].shape != (sum(map(prod, shapes)),):
        raise Malformed(f"{where} is a function of other shapes than its operand")
    return find_function(name, shapes, count)


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
