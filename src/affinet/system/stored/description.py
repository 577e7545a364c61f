"""Convert a system of rules to the description and the arrays of a file, and back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from affinet.language.affine import Values
from affinet.language.calculus.terms import Parameter
from affinet.language.nodes import Node, is_curved, nodes_of, opaque_functions, weights_of
from affinet.language.opaque import FindFunction, MissingFunction
from affinet.language.sense import Norm, Sense, Spectrum, unbounded
from affinet.system.layout import Layout
from affinet.system.magnitudes import without_zeros
from affinet.system.malformed import MOST, Malformed, fields, integer, items, number, shown, text
from affinet.system.stored.node_table import restored_nodes, stored_node
from affinet.system.stored.origins import ORIGIN_KEYS, restored_origin, stored_origin
from affinet.system.stored.packing import Array, Arrays, Restored
from affinet.system.stored.restoring import (
    restored_expression,
    restored_parameter,
    restored_radius,
    restored_values,
)
from affinet.system.stored.storing import stored_expression, stored_values
from affinet.system.system import Rule, System
from affinet.system.tolerance import Tolerance

Table = dict[str, Any]

INEQUALITY_KEYS = ("sense", "norm", "radius", "matrix")
"""Keys of rules that only files of the fourth format or later hold."""

NODES = "nodes"
"""The key of the nodes, which only files of the fifth format hold."""


def described(system: System) -> tuple[Table, list[Array]]:
    """A description with the loop-nest terms of every rule, and the rows of numbers that its arrays are views of.

    Raises RuleError where two functions have one name.
    """
    arrays = Arrays()
    weights = system.layout.parameters
    affines = [rule.expression.affine for rule in system.every]
    opaque_functions(affines)
    nodes = nodes_of(*affines)
    numbers = {read.name: number for number, read in enumerate((*weights, *nodes))}
    names = {weight.name for weight in weights}
    node_tables = [stored_node(node, numbers, arrays) for node in nodes]
    rules = [_store_rule(rule, numbers, names, arrays) for rule in system.every]
    rows, views = arrays.packed()
    tolerance = system.tolerance
    return {
        "tolerance": {"epsilon": tolerance.epsilon, "factor": tolerance.factor, "frozen": tolerance.frozen},
        "parameters": [{"name": weight.name, "shape": [*weight.shape]} for weight in weights],
        **({NODES: node_tables} if nodes else {}),
        "rules": rules,
        "views": [view.table() for view in views],
    }, rows


def system_of(description: object, rows: Sequence[Array], find_function: FindFunction = MissingFunction) -> System:
    """The system that `described` described. Raises Malformed for anything that it never writes."""
    table = fields(description, "the description", ("tolerance", "parameters", "rules", "views"), (NODES,))
    arrays = Restored.of(rows, table["views"])
    parameters = [
        restored_parameter(value, f"parameter {k}") for k, value in enumerate(items(table["parameters"], "parameters"))
    ]
    names = [parameter.name for parameter in parameters]
    if names != sorted(set(names)) or sum(max(parameter.size, 1) for parameter in parameters) > MOST:
        raise Malformed("the parameters are not in the order of their names, or have more entries than 64 bits count")
    nodes = restored_nodes(table[NODES], parameters, arrays, find_function) if NODES in table else []
    rules = tuple(
        _restore_rule(value, f"rule {k}", parameters, nodes, arrays)
        for k, value in enumerate(items(table["rules"], "rules"))
    )
    if len(nodes_of(*(rule.expression.affine for rule in rules))) < len(nodes):
        raise Malformed("there are nodes that no rule reads")
    if len({rule.name for rule in rules}) < len(rules):
        raise Malformed("two rules have one name")
    if sum(max(rule.equations, rule.expression.size) for rule in rules) > MOST:
        raise Malformed("the rules have more equations than 64 bits count")
    reduced = tuple(replace(rule, expression=without_zeros(rule.expression)) for rule in rules)
    unread = _weights_read(rules) - _weights_read(reduced)
    layout = Layout(tuple(parameter for parameter in parameters if parameter.name not in unread))
    affine, curved = (tuple(rule for rule in reduced if rule.curved is side) for side in (False, True))
    return System(affine, layout, _tolerance(table["tolerance"]), curved=curved)


def _weights_read(rules: Iterable[Rule]) -> set[str]:
    return {weight.name for weight in weights_of(rule.expression.affine for rule in rules)}


def _store_rule(rule: Rule, numbers: Mapping[str, int], weights: Collection[str], arrays: Arrays) -> Table:
    table: Table = {"text": rule.text, "expression": stored_expression(rule.expression, numbers, arrays)}
    if rule.titled:
        table["name"] = rule.name
    if rule.sense != "==":
        table["sense"] = rule.sense
    if rule.norm is not None:
        table["radius"] = stored_values(rule.radius, arrays)
        if isinstance(rule.norm, Spectrum):
            table |= {"norm": rule.norm.kind, "matrix": [rule.norm.rows, rule.norm.columns]}
        else:
            table["norm"] = rule.norm
    if rule.size is not None:
        table["size"] = stored_values(rule.size, arrays)
    table |= stored_origin(rule, weights)
    return table


def _restore_rule(
    value: object, where: str, weights: Sequence[Parameter], nodes: Sequence[Node], arrays: Restored
) -> Rule:
    table = fields(value, where, ("text", "expression"), ("name", "size", *ORIGIN_KEYS, *INEQUALITY_KEYS))
    wording = text(table["text"], f"text of {where}")
    sense = _sense(table.get("sense", "=="), where) if "sense" in table else "=="
    infinite = None if sense == "==" or "norm" in table else -unbounded(sense)
    expression = restored_expression(table["expression"], where, [*weights, *nodes], arrays, infinite)
    if "norm" in table and is_curved(expression.affine):
        raise Malformed(f"{where} is a ball that reads nodes")
    norm, radius = _ball(table, where, sense, expression.shape, arrays)
    size = restored_values(table["size"], f"size of {where}", expression.shape, arrays) if "size" in table else None
    name = text(table.get("name", wording), f"name of {where}")
    names = {weight.name for weight in weights}
    origin, constants = restored_origin(table, where, wording, names, sense)
    return Rule(name, wording, expression, origin, size, constants, sense, norm, radius)


def _sense(value: object, where: str) -> Sense:
    """The sense of an inequality; a file does not write that of an equation. Raises Malformed."""
    match value:
        case "<=" | ">=":
            return value
    raise Malformed(f'sense of {where} is {shown(value)}, not "<=" or ">="')


def _ball(
    table: Mapping[str, Any], where: str, sense: Sense, shape: tuple[int, ...], arrays: Restored
) -> tuple[Norm | None, Values]:
    """The norm and the radius of a ball, None and 0 for other rules. Raises Malformed."""
    if not {"norm", "radius", "matrix"}.intersection(table):
        return None, 0.0
    is_matrix = table.get("norm") in ("spectral", "negative")
    if (
        sense != "<="
        or not shape
        or "radius" not in table
        or not (is_matrix or type(table.get("norm")) is int)
        or is_matrix != ("matrix" in table)
    ):
        raise Malformed(f'{where} is not a ball, which has a norm, a radius, an axis and the sense "<="')
    norm: Norm
    is_cone = table["norm"] == "negative"
    radius = restored_radius(table["radius"], f"radius of {where}", shape[:-1], arrays, zero=is_cone)
    if is_matrix:
        norm = _spectrum(table, where, shape, radius)
    else:
        norm = 1 if integer(table["norm"], f"norm of {where}", 1, 2) == 1 else 2
    return norm, radius


def _spectrum(table: Mapping[str, Any], where: str, shape: tuple[int, ...], radius: Values) -> Spectrum:
    """The measure of matrices. Raises Malformed."""
    sizes = items(table["matrix"], f"matrix of {where}")
    kind = table["norm"]
    rows, columns = (integer(size, f"matrix of {where}", 0, MOST) for size in (*sizes, -1, -1)[:2])
    is_cone = kind == "negative"
    if len(sizes) != 2 or rows * columns != shape[-1] or (is_cone and (rows != columns or np.any(radius))):
        raise Malformed(f"matrix of {where} has other entries than its expression, or a radius that it has not")
    return Spectrum(kind, rows, columns)


def _tolerance(value: object) -> Tolerance:
    table = fields(value, "tolerance", ("epsilon", "factor", "frozen"))
    return Tolerance(
        number(table["epsilon"], "epsilon of the tolerance", 1e-300, 1.0),
        number(table["factor"], "factor of the tolerance", 1.0, 1e12),
        number(table["frozen"], "frozen of the tolerance", 0.0, 1.0),
    )
