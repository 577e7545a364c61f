"""Programs of nonlinear equations in equal cells: how the numbers of a cell are computed, and their derivatives.

A cell has `width` entries. Each step computes further numbers from those before it, and the outputs are affine in all
of them: the equations are `outputs = 0`. Derivatives are taken backwards, from each output to the entries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from affinet.blocks.convex import numbers_of_cells
from affinet.blocks.namespace import Array, Namespace
from affinet.language.calculus.terms import Floats, Integers
from affinet.language.nodes import Kind
from affinet.language.opaque import Opaque


@dataclass(frozen=True, eq=False)
class AffineMap:
    """`y_i = Σ_l values_il · z[columns_il] + constant_i`, rows padded to one length by coefficients of zero.

    `columns` (rows, length) is the same in all cells; `values` (cells or 1, rows, length), `constant` (cells or 1,
    rows).
    """

    columns: Integers
    values: Floats
    constant: Floats

    @property
    def rows(self) -> int:
        return len(self.columns)

    def only(self, cells: Integers) -> AffineMap:
        """The map of some cells."""
        return AffineMap(
            self.columns, numbers_of_cells(self.values, cells, 3), numbers_of_cells(self.constant, cells, 2)
        )

    def apply(self, xp: Namespace, z: Array) -> Array:
        """`y` (cells, rows) from all numbers so far (cells, count)."""
        return _reduced(xp, self._terms(xp, z)) + xp.array(self.constant, z)

    def sizes(self, xp: Namespace, z: Array) -> Array:
        """The sums of the magnitudes of the terms of `y`."""
        return _reduced(xp, abs(self._terms(xp, z))) + abs(xp.array(self.constant, z))

    def pulled(self, xp: Namespace, y: Array, count: int) -> Array:
        """The transposed map on vectors (cells, vectors, rows): the first `count` numbers (cells, vectors, count)."""
        places, values = self._transposed(count)
        if not places.shape[1]:
            return xp.broadcast(xp.array(0.0, y), (y.shape[0], y.shape[1], count))
        weighted = xp.take(y, places) * xp.array(values[:, None], y)
        return _reduced(xp, weighted)

    def _terms(self, xp: Namespace, z: Array) -> Array:
        return xp.take(z, self.columns) * xp.array(self.values, z)

    def _transposed(self, count: int) -> tuple[Integers, Floats]:
        """For each column, the rows that read it (count, length), and their coefficients (cells or 1, count, length).

        The arrays of one count are kept, so that they become constants of the array library once.
        """
        known = self._pulls.get(count)
        if known is None:
            known = self._pulls[count] = _transpose(self.columns, self.values, count)
        return known

    @cached_property
    def _pulls(self) -> dict[int, tuple[Integers, Floats]]:
        return {}


StepKind = Kind | Literal["affine"]
"""The kinds of nodes, except that products of matrices are sums of products."""


@dataclass(frozen=True, eq=False)
class Step:
    """Numbers `kind(operands)`; `size` is that of the matrices of `det` and `inverse`, whose entries are row-major.

    A step of the kind `function` calls `opaque`; its program has one cell.
    """

    kind: StepKind
    exponent: int
    size: int
    operands: tuple[AffineMap, ...]
    opaque: Opaque | None = None

    @property
    def count(self) -> int:
        """The count of its numbers."""
        rows = self.operands[0].rows
        if self.opaque is not None:
            return self.opaque.count
        return rows // self.size**2 if self.kind == "det" else rows


@dataclass(frozen=True, eq=False)
class CellProgram:
    """The equations `outputs(entries, numbers of the steps) = 0` of each cell."""

    cells: int
    width: int
    steps: tuple[Step, ...]
    outputs: AffineMap

    def only(self, cells: Integers) -> CellProgram | None:
        """The program of some cells; None where it calls functions, which are written for all of them."""
        if any(step.opaque is not None for step in self.steps):
            return None
        steps = tuple(replace(step, operands=tuple(each.only(cells) for each in step.operands)) for step in self.steps)
        return CellProgram(len(cells), self.width, steps, self.outputs.only(cells))

    @property
    def derivatives(self) -> int:
        """Numbers in the derivatives of all equations by the entries and by the numbers of the steps."""
        return self.cells * self.outputs.rows * (self.width + sum(step.count for step in self.steps))

    def values(self, xp: Namespace, w: Array) -> Array:
        """The left sides of the equations (cells, rows) at entries (cells, width)."""
        return self.outputs.apply(xp, self.numbers(xp, w))

    def numbers(self, xp: Namespace, w: Array) -> Array:
        """The entries and the numbers of all steps (cells, count)."""
        return self._numbers(xp, w)[0]

    def linearized(self, xp: Namespace, w: Array) -> tuple[Array, Array, Array]:
        """Left sides (cells, rows), sizes of their terms (cells, rows), and derivatives (cells, rows, width)."""
        z, operands = self._numbers(xp, w)
        magnitudes = abs(z)
        stages = np.cumsum([self.width, *(step.count for step in self.steps)])
        unit = xp.array(np.eye(self.outputs.rows)[None], w)
        pulled = self.outputs.pulled(xp, xp.broadcast(unit, (w.shape[0], *unit.shape[1:])), int(stages[-1]))
        for step, values, first in reversed(list(zip(self.steps, operands, stages, strict=False))):
            count = int(first)
            vectors, made = pulled[..., count : count + step.count], z[:, count : count + step.count]
            pulled = pulled[..., :count]
            if step.opaque is not None:
                _, sizes, derivatives = step.opaque.linearized(values[0][0])
                magnitudes = xp.put(magnitudes, np.arange(count, count + step.count), sizes)
                weighted_operands = [xp.matmul(vectors, derivatives)]
            else:
                weighted_operands = _pull(xp, step, values, made, vectors)
            for operand, weighted in zip(step.operands, weighted_operands, strict=True):
                pulled = pulled + operand.pulled(xp, weighted, count)
        return self.outputs.apply(xp, z), self.outputs.sizes(xp, magnitudes), pulled

    def _numbers(self, xp: Namespace, w: Array) -> tuple[Array, list[list[Array]]]:
        """The entries and the numbers of all steps (cells, count), and the operands of each step."""
        z, operands = w, []
        for step in self.steps:
            operands.append([operand.apply(xp, z) for operand in step.operands])
            z = xp.concat([z, _made(xp, step, operands[-1])])
        return z, operands


def _made(xp: Namespace, step: Step, operands: Sequence[Array]) -> Array:
    first = operands[0]
    match step.kind:
        case "multiply":
            return first * operands[1]
        case "power":
            return first**step.exponent
        case "sqrt":
            return first**0.5
        case "reciprocal":
            return 1.0 / first
        case "det":
            return xp.determinant(_matrices(xp, step, first))
        case "inverse":
            return xp.reshape(xp.inverse(_matrices(xp, step, first)), first.shape)
        case "affine":
            return first
        case "function":
            assert step.opaque is not None
            return xp.reshape(step.opaque.values(first[0]), (1, step.count))
    return xp.function(step.kind, first)


def _pull(xp: Namespace, step: Step, operands: Sequence[Array], made: Array, vectors: Array) -> list[Array]:
    """Vectors (cells, vectors, count) over the numbers of a step, pulled back to its operands."""
    first, spread = operands[0], _per_vector
    match step.kind:
        case "multiply":
            return [vectors * spread(xp, operands[1]), vectors * spread(xp, first)]
        case "power":
            return [vectors * spread(xp, step.exponent * first ** (step.exponent - 1))]
        case "det":
            cofactors = xp.cofactors(_matrices(xp, step, first))
            count = step.count
            weights = xp.reshape(cofactors, (first.shape[0], 1, count, step.size**2))
            products = xp.reshape(vectors, (*vectors.shape, 1)) * weights
            return [xp.reshape(products, (*vectors.shape[:2], count * step.size**2))]
        case "inverse":
            square = (first.shape[0], 1, first.shape[1] // step.size**2, step.size, step.size)
            turned = xp.permute(xp.reshape(made, square), (0, 1, 2, 4, 3))
            matrices = xp.reshape(vectors, (*vectors.shape[:2], *square[2:]))
            pulled = -xp.matmul(xp.matmul(turned, matrices), turned)
            return [xp.reshape(pulled, vectors.shape)]
        case "affine":
            return [vectors]
    return [vectors * spread(xp, DERIVATIVES[step.kind](xp, first, made))]


DERIVATIVES: dict[str, Callable[[Namespace, Array, Array], Array]] = {
    "sin": lambda xp, x, y: xp.function("cos", x),
    "cos": lambda xp, x, y: -xp.function("sin", x),
    "tanh": lambda xp, x, y: 1.0 - y * y,
    "exp": lambda xp, x, y: y,
    "log": lambda xp, x, y: 1.0 / x,
    "sqrt": lambda xp, x, y: 0.5 / y,
    "reciprocal": lambda xp, x, y: -y * y,
}
"""Derivatives of functions of one number, from the number and the value."""


def _per_vector(xp: Namespace, x: Array) -> Array:
    """Numbers (cells, count) as factors of vectors (cells, vectors, count)."""
    return xp.reshape(x, (x.shape[0], 1, x.shape[1]))


def _matrices(xp: Namespace, step: Step, x: Array) -> Array:
    return xp.reshape(x, (x.shape[0], x.shape[1] // step.size**2, step.size, step.size))


def _reduced(xp: Namespace, terms: Array) -> Array:
    """The sums along the last axis, which is removed."""
    if terms.shape[-1] == 1:
        return xp.reshape(terms, terms.shape[:-1])
    return xp.reshape(xp.sum(terms, (terms.ndim - 1,)), terms.shape[:-1])


def _transpose(columns: Integers, values: Floats, count: int) -> tuple[Integers, Floats]:
    length = columns.shape[1]
    used = np.flatnonzero((values != 0.0).any(axis=0).ravel())
    column, row = columns.ravel()[used], used // max(length, 1)
    order = np.argsort(column, kind="stable")
    column, row, used = column[order], row[order], used[order]
    lengths = np.bincount(column, minlength=count)
    within = np.arange(len(column)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    longest = int(lengths.max(initial=0))
    places = np.zeros((count, longest), np.int64)
    pulled = np.zeros((len(values), count, longest))
    places[column, within] = row
    pulled[:, column, within] = values.reshape(len(values), -1)[:, used]
    return places, pulled
