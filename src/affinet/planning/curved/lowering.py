"""Write nonlinear equations out as steps over single numbers: entries, then the numbers that each node makes.

Columns below the size of the layout are entries of weights. Those above are numbers that steps compute, in the order of
the steps; a small product of matrices is written out as products of numbers and their sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from affinet.blocks.programs.equation_program import LargeStepKind
from affinet.language.affine import Affine
from affinet.language.calculus.terms import Floats, Integers, Parameter
from affinet.language.forecast import forecast
from affinet.language.node_values import node_value
from affinet.language.nodes import ELEMENTWISE, Node, nodes_of
from affinet.language.opaque import Opaque
from affinet.system.layout import Layout
from affinet.system.rows import PAIR_BYTES, Rows, concatenate
from affinet.system.system import Rule, System, coefficients

OverFree = Callable[[Rows], Rows]


@dataclass(frozen=True)
class ProductShape:
    """Products of `matrices` pairs: (rows, terms) by (terms, columns)."""

    matrices: int
    rows: int
    terms: int
    columns: int

    def lines(self, operand: int, numbers: Integers) -> Integers:
        """The row of the left operand, or the column of the right one, that each number of the product reads."""
        line, column = np.divmod(numbers, self.columns)
        return line if operand == 0 else np.asarray(line // self.rows * self.columns + column)

    def lines_of(self, operand: int) -> int:
        """The count of the lines of an operand."""
        return self.matrices * (self.rows if operand == 0 else self.columns)

    def entries(self, operand: int, lines: Integers) -> Integers:
        """The places of the entries of lines in the operand (lines, terms)."""
        terms = np.arange(self.terms)
        if operand == 0:
            return np.asarray(lines[:, None] * self.terms + terms)
        matrix, column = np.divmod(lines, self.columns)
        return np.asarray((matrix[:, None] * self.terms + terms) * self.columns + column[:, None])


@dataclass(frozen=True, eq=False)
class LoweredStep:
    """The numbers `kind(operands)` of the columns from `first` on; a right-hand side of an operand is minus a constant.

    The matrices of `det` and `inverse` have `size` rows and columns: their entries are the rows of the operand. All
    rows of the operand are read by each number of `function`. Products of matrices have a `shape`.
    """

    kind: LargeStepKind
    exponent: int
    size: int
    first: int
    count: int
    operands: tuple[Rows, ...]
    opaque: Opaque | None = None
    shape: ProductShape | None = None

    @property
    def unit(self) -> int:
        """The numbers that belong together: of one matrix of `inverse`, all of `function`, otherwise one."""
        return {"inverse": self.size**2, "function": self.count}.get(self.kind, 1)

    def rows_of(self, numbers: Integers, operand: int = 0) -> Integers:
        """The rows of an operand that these numbers of the step need (whole units)."""
        if self.shape is not None:
            lines = np.unique(self.shape.lines(operand, numbers))
            return self.shape.entries(operand, lines).ravel()
        if self.kind == "det":
            return np.asarray((numbers[:, None] * self.size**2 + np.arange(self.size**2)).ravel())
        if self.kind == "function":
            return np.arange(self.operands[0].count if len(numbers) else 0)
        return numbers

    def per_row(self, of_numbers: Integers) -> Integers:
        """What belongs to each number of the step (one or more whole units), for each of their `rows_of`."""
        if self.kind == "det":
            return np.repeat(of_numbers, self.size**2)
        if self.kind == "function":
            return np.repeat(of_numbers[:1], self.operands[0].count)
        return of_numbers


@dataclass(frozen=True, eq=False)
class Lowered:
    """The steps, and the equations over all columns; `equations` has the linear ones that share entries, too.

    `sided` marks those of them that are inequalities `≤`, in a system whose nonlinear ones were turned so. The rows
    `inequalities`, `g · w ≤ h` over entries, belong to the components of equations.
    """

    width: int
    steps: tuple[LoweredStep, ...]
    equations: Rows
    sided: np.ndarray
    inequalities: Rows = field(default_factory=lambda: concatenate([]))

    def turned(self, system: System) -> Lowered:
        """With inequalities `≥` as `≤`, and without those whose bound is infinite."""
        rows = self.equations
        signs = np.array([rule.sign for rule in system.every])[rows.rule]
        sides = np.where(signs < 0.0, -1.0, 1.0)
        turned = replace(rows, values=rows.values * sides[rows.row_of_each()], rhs=rows.rhs * sides)
        bounded = np.flatnonzero((signs == 0.0) | (turned.rhs < np.inf))
        return replace(self, equations=turned.select(bounded), sided=signs[bounded] != 0.0)


def lower(system: System, numbers: Sequence[int], linear: Rows, over_free: OverFree) -> Lowered:
    """The numbered nonlinear rules and linear equations that share entries with them, over entries that are not fixed.

    Rules that bound lengths are read as those that bound squares of lengths.

    Raises TooLargeError.
    """
    expressions = [squared_length(rule) if rule.norm else rule.expression.affine for rule in map(system.rule, numbers)]
    nodes = _all_nodes(expressions)
    most = system.limits.most_written_products
    layout = _extended(system.layout, nodes, most)
    lowering = _Lowering(layout, over_free, system.tolerance.cancellation, numbers[0], most)
    steps = [step for node in nodes for step in lowering.steps(node)]
    parts = [lowering.rows(affine, number) for affine, number in zip(expressions, numbers, strict=True)]
    equations = concatenate([linear, *parts])
    return Lowered(layout.size, tuple(steps), equations, np.zeros(equations.count, bool))


def squared_length(rule: Rule) -> Affine:
    """`Σ x² − radius²` of a rule that bounds the length of x along its last axis."""
    radius = np.broadcast_to(np.asarray(rule.radius, np.float64), rule.shape)
    return ((rule.expression**2).sum(dim=-1) - radius**2).affine


def _all_nodes(expressions: Sequence[Affine]) -> list[Node]:
    by_name: dict[str, Node] = {}
    for expression in expressions:
        for node in nodes_of(expression):
            by_name.setdefault(node.name, node)
    return list(by_name.values())


def _extended(layout: Layout, nodes: Sequence[Node], most: int) -> Layout:
    """The layout, with the numbers of the nodes behind the weights; products before those that are written out."""
    parameters: list[Parameter] = list(layout.parameters)
    for node in nodes:
        if node.kind == "matmul" and not _stays_whole(node, most):
            parameters.append(_products_of(node))
        parameters.append(node)
    return Layout(tuple(parameters))


def _shape_of(node: Node) -> ProductShape:
    *stack, rows, terms = node.operands[0].shape
    return ProductShape(prod(stack), rows, terms, node.shape[-1])


def _stays_whole(node: Node, most: int) -> bool:
    """Whether a product of two matrices has more than `most` products of numbers; vectors have few per entry."""
    shape = _shape_of(node)
    return min(shape.rows, shape.columns) > 1 and shape.rows * shape.terms * shape.columns > most


def _products_of(node: Node) -> Parameter:
    return Parameter(f"products of {node.name}", (*node.shape, node.operands[0].shape[-1]))


class _Lowering:
    """`first` is the number of a rule, under which operands are read: several rules may share a node.

    `most` products of numbers per matrix are written out.
    """

    def __init__(self, layout: Layout, over_free: OverFree, cancellation: float, first: int, most: int) -> None:
        self._layout, self._over_free, self._cancellation = layout, over_free, cancellation
        self._first, self._most = first, most
        self._constants: tuple[Integers, Floats] = np.zeros(0, np.int64), np.zeros(0)

    def rows(self, affine: Affine, number: int) -> Rows:
        """One row per entry of an expression; the right-hand side is minus the constant."""
        forecast("a nonlinear rule, read one number at a time,", _pairs(affine), item_bytes=PAIR_BYTES)
        rows = coefficients(self._layout, (number,), (affine.shape,), (affine.terms,), self._cancellation)
        constant = np.broadcast_to(np.asarray(affine.constant, np.float64), affine.shape).reshape(-1)
        return self._over_variable(self._over_free(replace(rows, rhs=-constant, size=np.abs(constant))))

    def steps(self, node: Node) -> list[LoweredStep]:
        first = self._layout.start(node)
        if node.kind == "matmul":
            return self._products(node, first)
        operands = tuple(self.rows(operand, self._first) for operand in node.operands)
        size = node.operands[0].shape[-1] if node.kind in ("det", "inverse") else 0
        if node.kind in ("multiply", "power", *ELEMENTWISE):
            self._note_constants(node, first, operands)
        return [LoweredStep(node.kind, node.exponent, size, first, node.size, operands, node.opaque)]

    def _note_constants(self, node: Node, first: int, operands: tuple[Rows, ...]) -> None:
        """Note the numbers of a node that are made of fixed entries alone: without them more cells have one form."""
        places = np.flatnonzero(np.all([operand.lengths == 0 for operand in operands], axis=0))
        if len(places):
            values = node_value(node, [-operand.rhs[places] for operand in operands])
            places, values = places[np.isfinite(values)], values[np.isfinite(values)]
            columns, former = self._constants
            self._constants = np.concatenate([columns, first + places]), np.concatenate([former, values])

    def _over_variable(self, rows: Rows) -> Rows:
        """The rows over what is not constant; constants move to the right-hand sides."""
        columns, values = self._constants  # ascending, since nodes are written out in the order of their columns
        places = np.minimum(np.searchsorted(columns, rows.columns), max(len(columns) - 1, 0))
        known = columns[places] == rows.columns if len(columns) else np.zeros(len(rows.columns), bool)
        if not known.any():
            return rows
        row, parts = rows.row_of_each(), rows.values[known] * values[places[known]]
        rhs = rows.rhs - np.bincount(row[known], parts, rows.count)
        size = rows.magnitude + np.bincount(row[known], np.abs(parts), rows.count)
        bounds = np.concatenate([[0], np.cumsum(np.bincount(row[~known], minlength=rows.count))])
        return Rows(bounds, rows.columns[~known], rows.values[~known], rhs, rows.rule, rows.index, size)

    def _products(self, node: Node, first: int) -> list[LoweredStep]:
        left, right = (self.rows(operand, self._first) for operand in node.operands)
        shape = _shape_of(node)
        if _stays_whole(node, self._most):
            return [LoweredStep("matmul", 0, 0, first, node.size, (left, right), None, shape)]
        products = _products_of(node)
        forecast(f"the products of {node.kind}", products.size, item_bytes=2 * PAIR_BYTES)
        numbers = np.arange(node.size)
        of_left, of_right = (shape.entries(operand, shape.lines(operand, numbers)).ravel() for operand in (0, 1))
        start = self._layout.start(products)
        sums = _sums(start, node.size, shape.terms)
        return [
            LoweredStep("multiply", 0, 0, start, products.size, (left.select(of_left), right.select(of_right))),
            LoweredStep("affine", 0, 0, first, node.size, (sums,)),
        ]


def _sums(first: int, count: int, length: int) -> Rows:
    """Row k is the sum of the columns `first + k·length …`."""
    zero: Floats = np.zeros(count)
    index = np.arange(count)
    columns = first + np.arange(count * length)
    return Rows(
        np.arange(count + 1) * length, columns, np.ones(count * length), zero, np.zeros(count, np.int64), index, zero
    )


def _pairs(affine: Affine) -> int:
    return sum(term.count for term in affine.terms) + prod(affine.shape)
