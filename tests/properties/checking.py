"""How near weights are to rules, and which entries rules tie or leave alone, from the dense equations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from tests.oracle import Oracle


def arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.detach().double().numpy().copy() for name, tensor in tensors.items()}


def copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def laid(truth: Oracle, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Arrays end to end, in the order of the oracle's columns."""
    return np.concatenate([np.zeros(0), *(np.asarray(values[p.name], float).ravel() for p in truth.layout.parameters)])


def spacings(truth: Oracle, tensors: Mapping[str, Tensor]) -> np.ndarray:
    """The spacing of the dtype of every column's entry."""
    each = [np.full(p.size, torch.finfo(tensors[p.name].dtype).eps) for p in truth.layout.parameters]
    return np.concatenate([np.zeros(0), *each])


def misses(truth: Oracle, tensors: Mapping[str, Tensor]) -> float:
    """The largest |A w − b|, in spacings of the coarsest dtype in its equation, over the sizes of docs/numerics.md."""
    w, spacing = laid(truth, arrays(tensors)), spacings(truth, tensors)
    if not truth.matrix.any():
        return 0.0
    gap = np.abs(truth.matrix @ w - truth.rhs)
    coarse = ((truth.matrix != 0) * spacing).max(axis=1)
    size = np.abs(truth.matrix) @ np.abs(w) + np.abs(truth.rhs) + np.linalg.norm(w)
    return float((gap / np.where(size * coarse > 0, size * coarse, 1.0)).max())


def condition(truth: Oracle) -> float:
    """The condition number of the equilibrated equations, redundant ones left out; 1 where there are none."""
    sizes = np.linalg.svd(truth.matrix, compute_uv=False) if truth.matrix.any() else np.ones(1)
    return float(sizes[0] / sizes[sizes > 1e-10 * sizes[0]][-1])


def ties(truth: Oracle) -> list[tuple[int, int, float]]:
    """Pairs of columns that one equation makes equal (1) or opposite (−1)."""
    found = []
    for row, rhs in zip(truth.matrix, truth.rhs, strict=True):
        places = np.flatnonzero(row)
        if len(places) == 2 and rhs == 0 and abs(row[places[0]]) == abs(row[places[1]]):
            found.append((int(places[0]), int(places[1]), -float(np.sign(row[places[0]] * row[places[1]]))))
    return found


def dtype_of(truth: Oracle, tensors: Mapping[str, Tensor], column: int) -> torch.dtype:
    starts = list(truth.layout.starts)
    number = max(k for k, start in enumerate(starts) if start <= column)
    return tensors[truth.layout.parameters[number].name].dtype
