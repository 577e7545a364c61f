"""Replace some weights in an expression by constants, and bound the rounding of the constant that comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from operator import add, is_

import numpy as np

from affinet.errors import ConstantError
from affinet.language.affine import Affine, assemble, broadcast, combine_constants
from affinet.language.calculus.terms import Floats, Parameter, Term, is_identity, lower
from affinet.language.constants import EXACT, SparseMatrix, compact, read_constant
from affinet.language.evaluation import affine_value, read_weights, term_value
from affinet.language.expression import Expression
from affinet.language.node_values import node_size, node_value
from affinet.language.nodes import Node, nodes_of
from affinet.language.nonlinear import made_again
from affinet.language.products import from_left
from affinet.language.rearranging import reshape
from affinet.language.wording import Word, say


def substitute(expression: Expression, values: Mapping[str, object]) -> Expression:
    """Replace the weights named in `values` by these constants; products with them become affine.

    `epsilon` includes the spacing of the values' dtype: a rule on frozen float32 weights holds to float32.
    Errors: `ConstantError` for a function of the constants that has no finite value.
    """
    return substitute_with_size(expression, values)[0]


def substitute_with_size(expression: Expression, values: Mapping[str, object]) -> tuple[Expression, Floats]:
    """As `substitute`, and the magnitudes to which the rounding of the new constant is relative.

    The magnitudes have the shape of the expression, with axes along which they repeat at size one. They are the sum of
    the magnitudes that the constant is added up from; those of nodes are by the first-order analysis of rounding.
    """
    parts = _Parts(values)
    for node in nodes_of(expression.affine):
        parts.add(node)
    return Expression(parts.affine(expression.affine)), parts.size(expression.affine)


@dataclass(frozen=True, slots=True)
class _Known:
    """The numbers of a constant weight or node, the magnitudes for their rounding, and the epsilon of their dtype."""

    numbers: Floats
    sizes: Floats
    epsilon: float


@dataclass(frozen=True, slots=True)
class _Parts:
    """The weights and nodes that have become constants, and expressions in place of nodes that have changed."""

    values: Mapping[str, object]
    known: dict[str, _Known] = field(default_factory=dict)
    changed: dict[str, Affine] = field(default_factory=dict)

    def add(self, node: Node) -> None:
        """Find out what becomes of a node, whose own nodes were added before it."""
        operands = tuple(self.affine(operand) for operand in node.operands)
        if all(map(is_, operands, node.operands)):
            return
        if any(operand.terms for operand in operands):
            self.changed[node.name] = made_again(node, operands)
            return
        numbers = [affine_value(operand, {}) for operand in operands]
        value = node_value(node, numbers)
        if not np.isfinite(value).all():
            raise ConstantError(
                f"{node.kind} of ({', '.join(say(operand.wording) for operand in node.operands)}) is not finite at the "
                f"values of the weights that are constants."
            )
        sizes = node_size(node, numbers, value, [self.size(operand) for operand in node.operands])
        self.known[node.name] = _Known(value, sizes, max(operand.epsilon for operand in operands))

    def affine(self, affine: Affine) -> Affine:
        """The expression after the substitution; the same object where nothing in it has changed."""
        terms: list[Term] = []
        constant, epsilon = affine.constant, affine.epsilon
        for term in affine.terms:
            if known := self._read(term.parameter):
                numbers = term_value(term, affine.shape, read_weights(term, {term.parameter.name: known.numbers}))
                constant = combine_constants(constant, compact(numbers), add)
                epsilon = max(epsilon, known.epsilon)
            elif (changed := self.changed.get(term.parameter.name)) is not None:
                part = _applied(term, changed, affine.shape)
                terms += part.terms
                constant = combine_constants(constant, part.constant, add)
                epsilon = max(epsilon, part.epsilon)
            else:
                terms.append(term)
        if len(terms) == len(affine.terms) and all(map(is_, terms, affine.terms)):
            return affine
        return assemble(affine.shape, terms, constant, epsilon, affine.wording)

    def size(self, affine: Affine) -> Floats:
        """The sum of the magnitudes that the constant of an expression is added up from."""
        total: Floats = np.abs(np.asarray(affine.constant, np.float64))
        for term in affine.terms:
            positive = replace(
                term,
                scalar=abs(term.scalar),
                factors=tuple(replace(factor, values=np.abs(factor.values)) for factor in term.factors),
            )
            if known := self._read(term.parameter):
                sizes = known.sizes.reshape(-1)
            elif (changed := self.changed.get(term.parameter.name)) is not None:
                sizes = np.abs(np.broadcast_to(changed.constant, changed.shape)).reshape(-1)
            else:
                continue
            total = total + term_value(positive, affine.shape, sizes)
        return total

    def _read(self, parameter: Parameter) -> _Known | None:
        name = parameter.name
        if name not in self.known and name in self.values and not isinstance(parameter, Node):
            constant = read_constant(self.values[name])
            numbers = np.broadcast_to(np.asarray(constant.values, np.float64), constant.shape)
            self.known[name] = _Known(numbers, np.abs(numbers), constant.epsilon)
        return self.known.get(name)


def _applied(term: Term, node: Affine, shape: tuple[int, ...]) -> Affine:
    """The part of an expression of shape `shape` that a term adds, where the node that it reads is an expression."""
    if is_identity(term, shape):
        return node
    unshifted = isinstance(node.constant, float) and node.constant == 0.0
    if len(node.terms) == 1 and unshifted and is_identity(node.terms[0], node.shape):
        return assemble(shape, [replace(term, parameter=node.terms[0].parameter)], 0.0, node.epsilon, node.wording)
    smallest = tuple(1 if start is None else n for start, n in zip(term.start, shape, strict=True))
    places, entries, coefficients = lower(term, smallest)
    matrix = SparseMatrix(
        *_added_up(places, entries, coefficients, node_size=int(np.prod(node.shape))),
        (int(np.prod(smallest)), int(np.prod(node.shape))),
        EXACT,
        Word("entries"),
    )
    flat = reshape(node, (matrix.shape[1],), node.wording)
    return broadcast(reshape(from_left(matrix, flat), smallest, node.wording), shape)


def _added_up(
    places: np.ndarray, entries: np.ndarray, coefficients: Floats, node_size: int
) -> tuple[np.ndarray, np.ndarray, Floats]:
    """Triples with each pair once and without zeros."""
    pairs, inverse = np.unique(places.astype(np.int64) * node_size + entries, return_inverse=True)
    sums = np.bincount(inverse.reshape(-1), coefficients, len(pairs))
    pairs, sums = pairs[sums != 0.0], sums[sums != 0.0]
    return pairs // node_size, pairs % node_size, sums
