"""Compute one large component of nonlinear equations on the host: values, and products with their derivatives.

The component has `width` entries. Each step makes further numbers from those before it, by maps of sparse rows, and the
outputs are affine in all numbers: the equations are `outputs = 0`. A product of matrices is one step.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from scipy import sparse

from affinet.blocks.cell_programs import DERIVATIVES, StepKind
from affinet.blocks.namespace import NumPy
from affinet.language.calculus.terms import Floats
from affinet.language.opaque import Opaque

LargeStepKind = StepKind | Literal["matmul"]


@dataclass(frozen=True, eq=False)
class SparseMap:
    """`y = matrix z + constant`, over the numbers z that come before it."""

    matrix: sparse.csr_array
    constant: Floats

    def apply(self, z: Floats) -> Floats:
        return np.asarray(self.matrix @ z[: self.matrix.shape[1]] + self.constant)

    def times(self, moved: Floats) -> Floats:
        """`matrix z`."""
        return np.asarray(self.matrix @ moved[: self.matrix.shape[1]])

    def transposed(self, y: Floats) -> Floats:
        """`matrixᵀ y`."""
        return np.asarray(self._transpose @ y)

    @cached_property
    def magnitudes(self) -> sparse.csr_array:
        return abs(self.matrix)

    @cached_property
    def squares(self) -> sparse.csr_array:
        return sparse.csr_array(self.matrix.multiply(self.matrix))

    @cached_property
    def _transpose(self) -> sparse.csr_array:
        return sparse.csr_array(self.matrix.T.tocsr())


@dataclass(frozen=True, eq=False)
class LargeStep:
    """Numbers `kind(operands)`.

    `size` is that of the matrices of `det` and `inverse`; `shape` is (rows, terms, columns) of a product of matrices; a
    step of the kind `function` calls `opaque`.
    """

    kind: LargeStepKind
    exponent: int
    size: int
    shape: tuple[int, int, int]
    operands: tuple[SparseMap, ...]
    opaque: Opaque | None = None

    @property
    def count(self) -> int:
        """The count of its numbers."""
        if self.opaque is not None:
            return self.opaque.count
        if self.kind == "matmul":
            return self.shape[0] * self.shape[2]
        rows: int = self.operands[0].matrix.shape[0]
        return rows // self.size**2 if self.kind == "det" else rows

    def evaluated(self, operands: list[Floats]) -> tuple[Floats, Floats, list[Floats]]:
        """Its numbers, the sizes to which their rounding is relative, and the slopes of each operand.

        Slopes are what products with derivatives are computed from.
        """
        if self.opaque is not None:
            values, sizes, derivatives = self.opaque.linearized(operands[0])
            return np.asarray(values), np.asarray(sizes), [np.asarray(derivatives)]
        made = self._made(operands)
        return made, np.abs(made), self._slopes(operands, made)

    def _made(self, operands: list[Floats]) -> Floats:
        first = operands[0]
        match self.kind:
            case "matmul":
                left, right = self._factors(operands)
                return (left @ right).ravel()
            case "multiply":
                return first * operands[1]
            case "power":
                return np.asarray(first**self.exponent)
            case "det":
                return NumPy().determinant(self._matrices(first))
            case "inverse":
                return NumPy().inverse(self._matrices(first)).ravel()
            case "affine":
                return first
            case "sqrt":
                return np.sqrt(first)
            case "reciprocal":
                return np.reciprocal(first)
        return NumPy().function(self.kind, first)

    def _slopes(self, operands: list[Floats], made: Floats) -> list[Floats]:
        first = operands[0]
        match self.kind:
            case "matmul" | "multiply":
                return [operands[1], first]
            case "power":
                return [self.exponent * first ** (self.exponent - 1)]
            case "det":
                return [NumPy().cofactors(self._matrices(first)).ravel()]
            case "inverse":
                return [made]
            case "affine":
                return [np.ones(len(first))]
        return [np.asarray(DERIVATIVES[self.kind](NumPy(), first, made))]

    def times(self, slopes: list[Floats], moved: list[Floats]) -> Floats:
        """The derivative of its numbers along moves of its operands."""
        match self.kind:
            case "matmul":
                left, right = self._factors([slopes[1], slopes[0]])
                of_left, of_right = self._factors(moved)
                return (of_left @ right + left @ of_right).ravel()
            case "det":
                return np.asarray((slopes[0] * moved[0]).reshape(-1, self.size**2).sum(axis=1))
            case "inverse":
                inverses = self._matrices(slopes[0])
                return -(inverses @ self._matrices(moved[0]) @ inverses).ravel()
            case "function":
                return slopes[0] @ moved[0]
        return np.asarray(sum(slope * move for slope, move in zip(slopes, moved, strict=True)))

    def transposed(self, slopes: list[Floats], y: Floats) -> list[Floats]:
        """Vectors over its numbers, pulled back to each operand."""
        match self.kind:
            case "matmul":
                left, right = self._factors([slopes[1], slopes[0]])
                matrix = y.reshape(self.shape[0], self.shape[2])
                return [(matrix @ right.T).ravel(), (left.T @ matrix).ravel()]
            case "det":
                return [slopes[0] * np.repeat(y, self.size**2)]
            case "inverse":
                turned = self._matrices(slopes[0]).transpose(0, 2, 1)
                return [-(turned @ self._matrices(y) @ turned).ravel()]
            case "function":
                return [slopes[0].T @ y]
        return [slope * y for slope in slopes]

    def powered(self, slopes: list[Floats], power: int) -> list[Floats]:
        """The slopes with which `times` computes sums of magnitudes (power 1) or of squares (power 2)."""
        return [np.abs(slope) ** power for slope in slopes]

    def _factors(self, operands: list[Floats]) -> tuple[Floats, Floats]:
        rows, terms, columns = self.shape
        return operands[0].reshape(rows, terms), operands[1].reshape(terms, columns)

    def _matrices(self, x: Floats) -> Floats:
        return x.reshape(-1, self.size, self.size)


class Numbers(NamedTuple):
    """The entries and the numbers of all steps `z`, the sizes to which their rounding is relative, and the slopes."""

    z: Floats
    sizes: Floats
    slopes: list[list[Floats]]


@dataclass(frozen=True, eq=False)
class EquationProgram:
    """The equations `outputs(entries, numbers of the steps) = 0`."""

    width: int
    steps: tuple[LargeStep, ...]
    outputs: SparseMap

    @property
    def equations(self) -> int:
        rows: int = self.outputs.matrix.shape[0]
        return rows

    def numbers(self, x: Floats) -> Numbers:
        """The numbers of all steps at these entries."""
        z, sizes, slopes = x, [np.abs(x)], []
        for step in self.steps:
            made, size, of_step = step.evaluated([operand.apply(z) for operand in step.operands])
            z = np.concatenate([z, made])
            sizes.append(size)
            slopes.append(of_step)
        return Numbers(z, np.concatenate(sizes), slopes)

    def values(self, at: Numbers) -> Floats:
        """The left sides of the equations."""
        return self.outputs.apply(at.z)

    def sizes(self, at: Numbers) -> Floats:
        """The sums of the magnitudes of the terms of the equations."""
        return np.asarray(self.outputs.magnitudes @ at.sizes + np.abs(self.outputs.constant))

    def times(self, slopes: list[list[Floats]], d: Floats) -> Floats:
        """`J d`."""
        moved = np.empty(self.outputs.matrix.shape[1])
        moved[: self.width], first = d, self.width
        for step, of_step in zip(self.steps, slopes, strict=True):
            parts = [operand.times(moved) for operand in step.operands]
            moved[first : first + step.count] = step.times(of_step, parts)
            first += step.count
        return self.outputs.times(moved)

    def transposed(self, slopes: list[list[Floats]], y: Floats) -> Floats:
        """`Jᵀ y`."""
        pulled = self.outputs.transposed(y)
        last = len(pulled)
        for step, of_step in zip(reversed(self.steps), reversed(slopes), strict=True):
            first = last - step.count
            for operand, vector in zip(step.operands, step.transposed(of_step, pulled[first:last]), strict=True):
                pulled[: operand.matrix.shape[1]] += operand.transposed(vector)
            last = first
        return pulled[: self.width].copy()

    def bound(self, slopes: list[list[Floats]], entries: Floats, power: int) -> Floats:
        """`Σ_j |∂c/∂w_j| entries_j`, or with the squares of the derivatives, path by path.

        Where an equation reads an entry in several ways, this is the sum over them, without their signs.
        """
        moved = np.empty(self.outputs.matrix.shape[1])
        moved[: self.width], first = entries, self.width
        for step, of_step in zip(self.steps, slopes, strict=True):
            parts = [(o.magnitudes if power == 1 else o.squares) @ moved[:first] for o in step.operands]
            moved[first : first + step.count] = np.abs(step.times(step.powered(of_step, power), parts))
            first += step.count
        return np.asarray((self.outputs.magnitudes if power == 1 else self.outputs.squares) @ moved)
