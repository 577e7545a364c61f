"""The derivatives of nonlinear rules at given weights, as sparse rows, and the system of linear rules they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy import sparse

from affinet.blocks.cell_programs import DERIVATIVES
from affinet.blocks.namespace import NumPy
from affinet.language.affine import Affine, assemble
from affinet.language.arithmetic import add
from affinet.language.calculus.terms import Floats
from affinet.language.constants import SparseMatrix
from affinet.language.evaluation import evaluate
from affinet.language.expression import Expression, weight
from affinet.language.forecast import forecast
from affinet.language.products import from_left
from affinet.language.rearranging import reshape
from affinet.language.wording import Word
from affinet.planning.curved.large_components import large_program
from affinet.planning.curved.lowering import LoweredStep, lower
from affinet.system.rows import concatenate
from affinet.system.system import Rule, System

WRITTEN_BYTES = 24
"""Memory for one derivative of a product of matrices: its place, and its value twice."""


def linearized(system: System, weights: Mapping[str, np.ndarray]) -> System:
    """The system in which each nonlinear rule is replaced by its linear part at the weights, numbered as before."""
    if not system.curved:
        return system
    numbers = list(system.curved_rules)
    derivatives = derivatives_at(system, numbers, weights)
    first = np.cumsum([0, *(system.rule(number).equations for number in numbers)])
    rules = tuple(
        _linear_rule(system, system.rule(number), derivatives[start:end].tocsr(), weights)
        for number, start, end in zip(numbers, first, first[1:], strict=False)
    )
    return replace(system, rules=system.rules + rules, curved=())


def derivatives_at(system: System, numbers: Sequence[int], weights: Mapping[str, np.ndarray]) -> sparse.csr_array:
    """`∂c/∂w` of the equations of the numbered rules, one rule after the other, by the columns of the layout."""
    lowered = lower(system, numbers, concatenate([]), lambda rows: rows)
    z = _entries(system, weights)
    slope = sparse.eye_array(len(z), format="csr")
    steps = sorted(lowered.steps, key=lambda step: step.first)
    with np.errstate(all="ignore"):
        for step in steps:
            matrices = [operand.matrix(len(z)) for operand in step.operands]
            values = [matrix @ z - operand.rhs for matrix, operand in zip(matrices, step.operands, strict=True)]
            made, outer = _derivatives(step, values)
            inner = sum((weights_of @ (matrix @ slope) for weights_of, matrix in zip(outer, matrices, strict=True)), 0)
            z = np.concatenate([z, made])
            slope = sparse.vstack([slope, inner], format="csr")
    return sparse.csr_array(lowered.equations.matrix(len(z)) @ slope)


def sizes_and_reach(
    system: System, numbers: Sequence[int], weights: Mapping[str, np.ndarray], spacing: Floats
) -> tuple[Floats, Floats]:
    """The sums of the magnitudes of the terms of each equation of the numbered rules, and how far entries move it.

    The sums include constants. Moves of the entries by `spacing` change an equation by `Σ_j |∂c/∂w_j| spacing_j` where
    it reads each entry once; where it reads one in several ways, their changes are added without signs. Nothing is
    written out, so that products of large matrices are multiplied.
    """
    lowered = lower(system, numbers, concatenate([]), lambda rows: rows)
    every = np.ones(lowered.width, bool)
    program = large_program(lowered, every, np.arange(lowered.equations.count), system.layout.size)
    with np.errstate(all="ignore"):
        at = program.numbers(_entries(system, weights))
        return program.sizes(at), program.bound(at.slopes, spacing, 1)


def _entries(system: System, weights: Mapping[str, np.ndarray]) -> Floats:
    """The entries of all weights, in the order of the layout's columns."""
    entries = [np.asarray(weights[p.name], np.float64).reshape(-1) for p in system.layout.parameters]
    return np.concatenate([np.zeros(0), *entries])


def _derivatives(step: LoweredStep, values: list[Floats]) -> tuple[Floats, list[sparse.csr_array]]:
    """The numbers of a step, and their derivatives by the numbers of each operand."""
    first, xp = values[0], NumPy()
    match step.kind:
        case "affine":
            return first, [_diagonal(np.ones(len(first)))]
        case "multiply":
            return first * values[1], [_diagonal(values[1]), _diagonal(first)]
        case "matmul":
            return _matrix_product(step, values)
        case "power":
            return first**step.exponent, [_diagonal(step.exponent * first ** (step.exponent - 1))]
        case "det":
            matrices = first.reshape(-1, step.size, step.size)
            cofactors, area = xp.cofactors(matrices).ravel(), step.size**2
            bounds = np.arange(len(matrices) + 1) * area
            return xp.determinant(matrices), [sparse.csr_array((cofactors, np.arange(len(first)), bounds))]
        case "function":
            assert step.opaque is not None
            made, _, derivatives = step.opaque.linearized(first)
            return made, [sparse.csr_array(derivatives)]
        case "inverse":
            inverses = xp.inverse(first.reshape(-1, step.size, step.size))
            blocks = [-np.kron(inverse, inverse.T) for inverse in inverses]
            return inverses.ravel(), [sparse.csr_array(sparse.block_diag(blocks, format="csr"))]
    made = {"sqrt": np.sqrt, "reciprocal": np.reciprocal}.get(step.kind, getattr(np, step.kind))(first)
    return made, [_diagonal(np.asarray(DERIVATIVES[step.kind](xp, first, made)))]


def _matrix_product(step: LoweredStep, values: list[Floats]) -> tuple[Floats, list[sparse.csr_array]]:
    shape = step.shape
    assert shape is not None
    forecast("the derivatives of a product of matrices", 2 * step.count * shape.terms, item_bytes=WRITTEN_BYTES)
    numbers = np.arange(step.count)
    places = [shape.entries(operand, shape.lines(operand, numbers)) for operand in (0, 1)]
    factors = [value[place] for value, place in zip(values, places, strict=True)]
    bounds = np.arange(step.count + 1) * shape.terms
    derivatives = [
        sparse.csr_array((factor.ravel(), place.ravel(), bounds), shape=(step.count, len(value)))
        for factor, place, value in zip(reversed(factors), places, values, strict=True)
    ]
    return (factors[0] * factors[1]).sum(axis=1), derivatives


def _diagonal(values: Floats) -> sparse.csr_array:
    return sparse.csr_array(sparse.diags_array(values, format="csr"))


def _linear_rule(system: System, rule: Rule, derivatives: sparse.csr_array, weights: Mapping[str, np.ndarray]) -> Rule:
    """The rule `c(w₀) + J (w − w₀) == 0` in the shape of a nonlinear one, and in its sense."""
    wording, total = Word(rule.name), _constant(rule, np.zeros(rule.shape))
    values = evaluate(rule.expression, weights)  # infinite where an inequality has no bound
    for parameter, start in zip(system.layout.parameters, system.layout.starts, strict=True):
        part = derivatives[:, start : start + parameter.size].tocoo()
        if not part.nnz:
            continue
        matrix = SparseMatrix(part.row, part.col, part.data, part.shape, rule.expression.epsilon, wording)
        flat = reshape(weight(parameter).affine, (parameter.size,), wording)
        moved = reshape(from_left(matrix, flat), rule.shape, wording)
        at = (part @ np.asarray(weights[parameter.name], np.float64).reshape(-1)).reshape(rule.shape)
        total, values = add(total, moved), values - at
    return replace(rule, expression=Expression(replace(total, constant=values if rule.shape else float(values))))


def _constant(rule: Rule, values: Floats) -> Affine:
    constant = values if rule.shape else float(values)
    return assemble(rule.shape, (), constant, rule.expression.epsilon, Word(rule.name))


__all__ = ["derivatives_at", "linearized", "sizes_and_reach"]
