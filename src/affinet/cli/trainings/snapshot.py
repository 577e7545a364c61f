"""Hold what a training changes after an epoch, as arrays and JSON values: one form for all frameworks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Packed:
    """A JSON value, and the tensors or NumPy arrays that it refers to by number."""

    content: Any
    tensors: Sequence[Any]


@dataclass(frozen=True)
class Snapshot:
    """A network by the names of its arrays, its optimizer, the states of random numbers, and what was learned.

    `learned` are the multipliers and faces of blocks with inequalities, or what an augmented Lagrangian keeps; None
    where nothing is learned, or where the optimizer holds it. All arrays are tensors of torch, or all are of NumPy.
    """

    network: Mapping[str, Any]
    optimizer: Packed
    random: Packed
    learned: Packed | None = None
