"""Nodes: arrays that nonlinear functions make of weights, which expressions read like one more weight.

A node has a name made from its content, so that the same function of the same expressions is one node. Every operation
of the affine language works on nodes unchanged: `(w**2).sum(dim=1)` is a sum over the entries of the node `w**2`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from affinet.errors import RuleError
from affinet.language.affine import Affine, from_constant, from_parameter, reword
from affinet.language.calculus.marked import Marked
from affinet.language.calculus.terms import Parameter, Source, Term, without_repetitions
from affinet.language.constants import Constant
from affinet.language.opaque import MissingFunction, Opaque
from affinet.language.wording import Wording

Kind = Literal[
    "multiply",
    "matmul",
    "power",
    "sin",
    "cos",
    "tanh",
    "exp",
    "log",
    "sqrt",
    "reciprocal",
    "det",
    "inverse",
    "function",
]
ELEMENTWISE: tuple[Kind, ...] = ("sin", "cos", "tanh", "exp", "log", "sqrt", "reciprocal")
"""Functions of one number; `multiply` and `power` work entry by entry, too."""


@dataclass(frozen=True, eq=False, slots=True)
class Node(Parameter):
    """The array `kind(operands)` of shape `shape`; `exponent` is that of a power, and 0 for other kinds.

    The operands of `multiply` have the shape of the node. The kind `function` has its function in `opaque`, and one
    operand, all numbers that the function reads in one row.
    """

    kind: Kind
    operands: tuple[Affine, ...]
    exponent: int = 0
    opaque: Opaque | None = None


def node(
    kind: Kind,
    shape: tuple[int, ...],
    operands: tuple[Affine, ...],
    wording: Wording,
    exponent: int = 0,
    opaque: Opaque | None = None,
) -> Affine:
    """All entries of a node, as an expression."""
    digest = hashlib.sha256(f"{kind} {exponent} {shape}".encode())
    if opaque is not None:
        digest.update(f"{opaque.name!r} {opaque.key}".encode())
    for operand in operands:
        _add_affine(digest, operand)
    made = Node(f"{kind}#{digest.hexdigest()[:24]}", shape, kind, operands, exponent, opaque)
    expression = from_parameter(made)
    epsilon = max(operand.epsilon for operand in operands)
    return reword(Affine(shape, expression.terms, 0.0, epsilon, wording), wording)


def nodes_of(*affines: Affine) -> list[Node]:
    """All nodes that expressions read, each once, and after those that it is made of.

    Without recursion: a product that a loop wrote nests as deep as the loop is long.
    """
    listed: dict[str, Node] = {}
    pending = [(node, False) for affine in reversed(affines) for node in reversed(_nodes_in(affine))]
    while pending:
        node, operands_are_listed = pending.pop()
        if node.name in listed:
            continue
        if operands_are_listed:
            listed[node.name] = node
            continue
        pending.append((node, True))
        inner = [each for operand in node.operands for each in _nodes_in(operand)]
        pending += [(each, False) for each in reversed(inner) if each.name not in listed]
    return list(listed.values())


def opaque_functions(affines: Iterable[Affine]) -> dict[str, Opaque]:
    """Name → function that expressions call without the language looking into it.

    Errors: `RuleError` where two of them have one name, under which a file could not tell them apart.
    """
    functions: dict[str, Opaque] = {}
    for each in nodes_of(*affines):
        if each.opaque is not None and functions.setdefault(each.opaque.name, each.opaque).key != each.opaque.key:
            raise RuleError(
                f"two functions of equations have the name {each.opaque.name!r}. Give one of them another: "
                f'affinet.equations(function, weights, count=…, name="…").'
            )
    return functions


def missing_functions(affines: Iterable[Affine]) -> tuple[str, ...]:
    """The names of functions that expressions call and that were not given to the plan that was read."""
    read = (each.opaque for each in nodes_of(*affines))
    return tuple(sorted({opaque.name for opaque in read if isinstance(opaque, MissingFunction)}))


def weights_of(affines: Iterable[Affine]) -> Iterator[Parameter]:
    """The weights that expressions read, those under nodes included; some of them several times."""
    affines = list(affines)
    for affine in (*affines, *(operand for each in nodes_of(*affines) for operand in each.operands)):
        yield from (term.parameter for term in affine.terms if not isinstance(term.parameter, Node))


def is_curved(affine: Affine) -> bool:
    """Whether the expression reads a node, so that it is not affine in the weights."""
    return any(isinstance(term.parameter, Node) for term in affine.terms)


def ones_like(affine: Affine, wording: Wording) -> Affine:
    """The constant 1 in the shape of an expression."""
    return from_constant(Constant(1.0, affine.shape, affine.epsilon, wording))


def same(first: Affine, second: Affine) -> bool:
    """Whether two expressions are made of the same numbers."""
    digests = hashlib.sha256(), hashlib.sha256()
    for digest, affine in zip(digests, (first, second), strict=True):
        _add_affine(digest, affine)
    return digests[0].digest() == digests[1].digest()


def _nodes_in(affine: Affine) -> list[Node]:
    """The nodes that the terms of an expression name, without those under other nodes."""
    return [term.parameter for term in affine.terms if isinstance(term.parameter, Node)]


def _add_affine(digest: hashlib._Hash, affine: Affine) -> None:
    digest.update(f"affine {affine.shape} {len(affine.terms)}".encode())
    _add_array(digest, np.asarray(affine.constant, np.float64))
    for term in affine.terms:
        _add_term(digest, term)


def _add_term(digest: hashlib._Hash, term: Term) -> None:
    digest.update(f"{term.parameter.name} {term.parameter.shape} {term.offset} {term.scalar!r} {term.start}".encode())
    for variable in term.variables:
        digest.update(f"variable {variable.size}".encode())
        _add_source(digest, variable.source)
        for axis, positions in variable.outputs:
            digest.update(f"axis {axis}".encode())
            _add_source(digest, positions)
    for factor in term.factors:
        digest.update(f"factor {factor.variables} {factor.values.shape}".encode())
        _add_array(digest, factor.values)


def _add_source(digest: hashlib._Hash, source: Source) -> None:
    if isinstance(source, int):
        digest.update(f"step {source}".encode())
    elif isinstance(source, Marked):
        digest.update(f"mask {source.places} {source.step}".encode() + source.bits.tobytes())
    else:
        _add_array(digest, np.asarray(source, np.int64))


def _add_array(digest: hashlib._Hash, values: np.ndarray) -> None:
    """The numbers of an array, without axes along which it repeats, in memory of the size that the array takes.

    Nothing of how it lies in memory counts, unless it overlaps itself as a Toeplitz matrix does; -0.0 counts as 0.0.
    """
    smallest = values[tuple(slice(0, 1) if step == 0 else slice(None) for step in values.strides)]
    numbers = without_repetitions(smallest)
    if numbers is not smallest:
        digest.update(f"overlapping {smallest.shape} {[step // values.itemsize for step in smallest.strides]}".encode())
    else:
        for axis, size in enumerate(numbers.shape):
            first = numbers.take([0], axis) if size > 1 else numbers
            numbers = first if size > 1 and (numbers == first).all() else numbers
        digest.update(str(numbers.shape if numbers.size != 1 else ()).encode())
    digest.update(np.ascontiguousarray(numbers + numbers.dtype.type(0)).tobytes())
