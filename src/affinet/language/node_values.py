"""The numbers of nodes, in NumPy and float64: what the functions of weights are at given weights."""

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
    if node.kind == "power":
        return np.asarray(operands[0] ** node.exponent)
    try:
        return np.asarray(FUNCTIONS[node.kind](operands[0]))
    except np.linalg.LinAlgError:  # the inverse of a singular matrix
        return np.full(node.shape, np.nan)
