"""Compute the numbers of nodes, in NumPy and float64, and the magnitudes to which their rounding is relative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from affinet.language.calculus.terms import Floats
from affinet.language.nodes import Kind, Node

FUNCTIONS: dict[Kind, Callable[[Floats], Any]] = {
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "reciprocal": np.reciprocal,
    "det": np.linalg.det,
    "inverse": np.linalg.inv,
}


@np.errstate(all="ignore")  # a function without a value there gives nan or inf, as it does for tensors
def node_value(node: Node, operands: list[Floats]) -> Floats:
    """The numbers of a node from those of its operands; nan or inf where the function has no value."""
    if node.kind == "multiply":
        return np.asarray(operands[0] * operands[1])
    if node.kind == "matmul":
        return np.asarray(operands[0] @ operands[1])
    if node.kind == "function":
        assert node.opaque is not None
        return np.asarray(node.opaque.values(operands[0]), np.float64)
    if node.kind == "power":
        return np.asarray(operands[0] ** node.exponent)
    try:
        return np.asarray(FUNCTIONS[node.kind](operands[0]))
    except np.linalg.LinAlgError:  # the inverse of a singular matrix
        return np.full(node.shape, np.nan)


@np.errstate(all="ignore")
def node_size(node: Node, operands: list[Floats], value: Floats, sizes: list[Floats]) -> Floats:
    """The magnitude to which the rounding of a node's finite `value` is relative, from those of its operands.

    By first-order analysis: the derivatives' magnitudes times those of the operands, and the value's own magnitude.
    """
    x, size = operands[0], np.broadcast_to(sizes[0], operands[0].shape)
    match node.kind:
        case "multiply":
            return np.asarray(np.abs(x) * sizes[1] + size * np.abs(operands[1]))
        case "matmul":
            return np.asarray(np.abs(x) @ np.broadcast_to(sizes[1], operands[1].shape) + size @ np.abs(operands[1]))
        case "power":
            return np.asarray(node.exponent * np.abs(x) ** (node.exponent - 1) * size)
        case "sin" | "cos" | "tanh":
            return np.asarray(size + np.abs(value))
        case "exp":
            return np.asarray(value * (1.0 + size))
        case "log":
            return np.asarray(size / np.abs(x) + np.abs(value))
        case "sqrt":
            return np.asarray(np.where(value > 0.0, 0.5 * size / value, np.sqrt(size)) + value)
        case "reciprocal":
            return np.asarray(size * value**2 + np.abs(value))
        case "function":
            assert node.opaque is not None
            _, own_sizes, derivatives = node.opaque.linearized(x)
            return np.asarray(np.abs(derivatives) @ size + own_sizes)
        case "inverse":
            return np.asarray(np.abs(value) @ size @ np.abs(value) + np.abs(value))
        case "det":  # by Hadamard's bound, a column at a time, which needs no inverse of a singular matrix
            lengths = np.linalg.norm(size, axis=-2)
            return np.asarray(x.shape[-1] * np.prod(lengths, axis=-1))
