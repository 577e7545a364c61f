"""What a basis is: the homogeneous part `N v` of the entries of one block, from its free numbers v."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affinet.language.calculus.terms import Integers

Kind = Literal["orthonormal", "free"]
"""`orthonormal`: NᵀN = I. `free`: N has an identity among its rows, so that each free number is one of the weights."""


SELECTING = torch.int32 if torch.__version__ >= "2.14" else torch.int64
"""Integers that torch selects by. It selects by 32-bit ones up to ten times as fast; torch 2.5 to 2.7 refuse them under
vmap, 2.14 takes them, and the versions between were not tried."""

Positions = Integers | NDArray[np.bool_]
"""Row-major positions in one parameter, or a mask over it, flat."""


@dataclass(frozen=True, eq=False)
class Place:
    """Where a run of entries lies: positions in one parameter, row-major, or all of it in order (None).

    Entries that no free number reaches may be given by a mask over the parameter.
    """

    name: str
    positions: Positions | None
    size: int

    @classmethod
    def of(cls, name: str, positions: Integers, entries: int) -> Place:
        """The place of positions in a parameter of so many entries."""
        whole = len(positions) == entries and bool((positions == np.arange(entries)).all())
        return cls(name, None if whole else positions, len(positions))


class Basis(Protocol):
    """Linear, with constants made in float64 and cast once a dtype and device.

    Every method computes in the dtype of what it is given, and is made of torch operations that autograd, torch.func
    and the compiler know.
    """

    @property
    def free(self) -> int:
        """How many numbers of the block are free."""

    @property
    def places(self) -> tuple[Place, ...]:
        """Where the entries lie; `linear` gives one flat tensor for each."""

    def linear(self, v: Tensor) -> tuple[Tensor, ...]:
        """`N v`, flat, one tensor a place."""

    def adjoint(self, gradients: tuple[Tensor, ...]) -> Tensor:
        """`Nᵀ g` of shape (free,). Law: `⟨adjoint(g), v⟩ == ⟨g, linear(v)⟩`."""

    def picked(self, entries: tuple[Tensor, ...]) -> Tensor:
        """The v of entries that are `N v`. Law: `picked(linear(v)) == v`."""


class Constant:
    """Numbers in float64 or integers, and the tensors made of them, by device and dtype."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = np.ascontiguousarray(values)
        self._made: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def like(self, x: Tensor) -> Tensor:
        """The numbers in the dtype of x, on its device."""
        return self._tensor(x.device, x.dtype)

    def index(self, x: Tensor, dtype: torch.dtype = SELECTING) -> Tensor:
        """Integers on the device of x."""
        return self._tensor(x.device, dtype)

    def _tensor(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        found = self._made.get((device, dtype))
        if found is None:
            found = torch.as_tensor(self.values, dtype=dtype, device=device)
            self._made[device, dtype] = found
        return found
