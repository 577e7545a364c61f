"""The derivatives of nonlinear equations at given weights, as sparse rows, and the system of linear rules they make."""

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
from affinet.language.products import from_left
from affinet.language.rearranging import reshape
from affinet.language.wording import Word
from affinet.planning.curved.lowering import LoweredStep, lower
from affinet.system.rows import concatenate
from affinet.system.system import Rule, System


def linearized(system: System, weights: Mapping[str, np.ndarray]) -> System:
    """The system in which each nonlinear equation is replaced by its linear part at the weights, numbered as before."""
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
    return _evaluated(system, numbers, weights)[0]


def sizes_of_terms(system: System, numbers: Sequence[int], weights: Mapping[str, np.ndarray]) -> Floats:
    """The sums of the magnitudes of the terms of the equations of the numbered rules, constants included."""
    return _evaluated(system, numbers, weights)[1]


def _evaluated(
    system: System, numbers: Sequence[int], weights: Mapping[str, np.ndarray]
) -> tuple[sparse.csr_array, Floats]:
    lowered = lower(system, numbers, concatenate([]), lambda rows: rows)
    entries = [np.asarray(weights[p.name], np.float64).reshape(-1) for p in system.layout.parameters]
    z = np.concatenate([np.zeros(0), *entries])
    width = len(z)
    slope = sparse.eye_array(width, format="csr")
    steps = sorted(lowered.steps, key=lambda step: step.first)
    with np.errstate(all="ignore"):
        for step in steps:
            matrices = [operand.matrix(len(z)) for operand in step.operands]
            values = [matrix @ z - operand.rhs for matrix, operand in zip(matrices, step.operands, strict=True)]
            made, outer = _derivatives(step, values)
            inner = sum((weights_of @ (matrix @ slope) for weights_of, matrix in zip(outer, matrices, strict=True)), 0)
            z = np.concatenate([z, made])
            slope = sparse.vstack([slope, inner], format="csr")
    outputs = lowered.equations.matrix(len(z))
    return sparse.csr_array(outputs @ slope), abs(outputs) @ np.abs(z) + np.abs(lowered.equations.rhs)


def _derivatives(step: LoweredStep, values: list[Floats]) -> tuple[Floats, list[sparse.csr_array]]:
    """The numbers of a step, and their derivatives by the numbers of each operand."""
    first, xp = values[0], NumPy()
    match step.kind:
        case "affine":
            return first, [_diagonal(np.ones(len(first)))]
        case "multiply":
            return first * values[1], [_diagonal(values[1]), _diagonal(first)]
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


def _diagonal(values: Floats) -> sparse.csr_array:
    return sparse.csr_array(sparse.diags_array(values, format="csr"))


def _linear_rule(system: System, rule: Rule, derivatives: sparse.csr_array, weights: Mapping[str, np.ndarray]) -> Rule:
    """The rule `c(w₀) + J (w − w₀) == 0` in the shape of a nonlinear one."""
    wording, total = Word(rule.name), _constant(rule, evaluate(rule.expression, weights))
    for parameter, start in zip(system.layout.parameters, system.layout.starts, strict=True):
        part = derivatives[:, start : start + parameter.size].tocoo()
        if not part.nnz:
            continue
        matrix = SparseMatrix(part.row, part.col, part.data, part.shape, rule.expression.epsilon, wording)
        flat = reshape(weight(parameter).affine, (parameter.size,), wording)
        moved = reshape(from_left(matrix, flat), rule.shape, wording)
        at = (part @ np.asarray(weights[parameter.name], np.float64).reshape(-1)).reshape(rule.shape)
        total = add(total, replace(moved, constant=-at if rule.shape else -float(at)))
    return replace(rule, expression=Expression(total))


def _constant(rule: Rule, values: Floats) -> Affine:
    constant = values if rule.shape else float(values)
    return assemble(rule.shape, (), constant, rule.expression.epsilon, Word(rule.name))


__all__ = ["derivatives_at", "linearized", "sizes_of_terms"]
