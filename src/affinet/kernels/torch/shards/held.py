"""The box of a distributed weight that this process holds, and where its entries are in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from affinet.errors import UnsupportedWeightError
from affinet.language.calculus.terms import Integers
from affinet.language.dtensors import is_distributed, local_part

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@dataclass(frozen=True)
class Held:
    """Entries `offset + i`, `i < sizes`, along each axis of a weight of `shape`; perhaps none of them."""

    shape: tuple[int, ...]
    offset: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of entries."""
        return prod(self.sizes)

    def find(self, positions: Integers) -> Integers:
        """The row-major place in the box of each position of the weight, −1 for positions outside it."""
        if self.sizes == self.shape:
            return positions
        if not self.size:
            return np.full(len(positions), -1, np.int64)
        inside, place = np.ones(len(positions), bool), np.zeros(len(positions), np.int64)
        for index, first, size in zip(np.unravel_index(positions, self.shape), self.offset, self.sizes, strict=True):
            inside &= (index >= first) & (index < first + size)
            place = place * size + (index - first)
        return np.where(inside, place, -1)


def held(name: str, tensor: Any) -> Held:
    """What this process holds of a distributed tensor; no numbers are read.

    Raises UnsupportedWeightError for placements under which it is no box.
    """
    shape, local = tuple(tensor.shape), tuple(local_part(tensor).shape)
    if 0 in local:
        return Held(shape, (0,) * len(shape), local)
    if local == shape:
        return Held(shape, (0,) * len(shape), shape)
    chunks = tensor.detach().__create_chunk_list__()
    if len(chunks) != 1 or tuple(chunks[0].sizes) != local:
        raise UnsupportedWeightError(
            name,
            f"under the placements {tensor.placements} of its device mesh a process holds no box of it",
            "Shard it with Shard(dim) along each dimension of the mesh.",
        )
    return Held(shape, tuple(chunks[0].offsets), local)


def groups_of(tensor: Any) -> tuple[ProcessGroup, ...]:
    """The process groups over which a distributed tensor is split, one for each such dimension of its mesh."""
    return tuple(
        tensor.device_mesh.get_group(dim)
        for dim, placement in enumerate(tensor.placements)
        if not placement.is_replicate() and tensor.device_mesh.size(dim) > 1
    )


def version_of(tensor: Tensor) -> int:
    """A number that grows with every write, be it to the tensor or to the part that this process holds."""
    return tensor._version + (local_part(tensor)._version if is_distributed(tensor) else 0)


def placed_like(numbers: Tensor, tensor: Any) -> Tensor:
    """The numbers, which this process has all of, held as the processes hold a tensor; themselves if it is its own."""
    if not is_distributed(tensor):
        return numbers
    from torch.distributed.tensor import DTensor, Replicate

    mesh, nowhere = tensor.device_mesh, [Replicate()] * tensor.device_mesh.ndim
    placed: Tensor = DTensor.from_local(numbers, mesh, nowhere, run_check=False).redistribute(mesh, tensor.placements)
    return placed


def any_distributed(tensors: Iterable[Tensor | None]) -> bool:
    """Whether some tensor is distributed."""
    return any(is_distributed(tensor) for tensor in tensors)
