"""The protocol of a basis, which computes the homogeneous part `N v` of a block's entries from its free numbers v."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affinet.language.calculus.terms import Integers

Kind = Literal["orthonormal", "free"]
"""`orthonormal`: NᵀN = I. `free`: the rows of N include an identity, so that each free number is one of the weights."""


SELECTING = torch.int32 if torch.__version__ >= "2.14" else torch.int64
"""Dtype of indices. torch selects by 32-bit integers up to ten times as fast; torch 2.5 to 2.7 refuse them under vmap,
2.14 accepts them, and the versions between were not tried."""

Positions = Integers | NDArray[np.bool_]
"""Row-major positions in one parameter, or a mask over it, flat."""


@dataclass(frozen=True, eq=False)
class Place:
    """The positions of a group of entries in one parameter, row-major, or None for the entire parameter in order.

    Entries that depend on no free number may be given by a mask over the parameter.
    """

    name: str
    positions: Positions | None
    size: int

    @classmethod
    def of(cls, name: str, positions: Integers, entries: int) -> Place:
        """The place of positions in a parameter with `entries` entries."""
        covers_all = len(positions) == entries and bool((positions == np.arange(entries)).all())
        return cls(name, None if covers_all else positions, len(positions))


class Basis(Protocol):
    """A linear map, with constants computed in float64 and cast once per dtype and device.

    Every method computes in the dtype of its argument, by torch operations that autograd, torch.func and the compiler
    support.
    """

    @property
    def free(self) -> int:
        """Count of the free numbers of the block."""

    @property
    def places(self) -> tuple[Place, ...]:
        """The places of the entries; `linear` returns one flat tensor for each."""

    def linear(self, v: Tensor) -> tuple[Tensor, ...]:
        """`N v`, flat, one tensor per place."""

    def adjoint(self, gradients: tuple[Tensor, ...]) -> Tensor:
        """`Nᵀ g` of shape (free,). Law: `⟨adjoint(g), v⟩ == ⟨g, linear(v)⟩`."""

    def picked(self, entries: tuple[Tensor, ...]) -> Tensor:
        """The v of entries `N v`. Law: `picked(linear(v)) == v`."""


class Constant:
    """Numbers in float64 or integers, and their copies as tensors by device and dtype."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = np.ascontiguousarray(values)
        self._made: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def like(self, x: Tensor) -> Tensor:
        """The numbers in the dtype and on the device of x."""
        return self._tensor(x.device, x.dtype)

    def index(self, x: Tensor, dtype: torch.dtype = SELECTING) -> Tensor:
        """Integers on the device of x."""
        return self._tensor(x.device, dtype)

    def _tensor(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        tensor = self._made.get((device, dtype))
        if tensor is None:
            tensor = torch.as_tensor(self.values, dtype=dtype, device=device)
            self._made[device, dtype] = tensor
        return tensor
