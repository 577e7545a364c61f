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
class HeldBox:
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


def held_box(name: str, tensor: Any) -> HeldBox:
    """What this process holds of a distributed tensor; no numbers are read, and nothing is exchanged.

    Raises UnsupportedWeightError for placements under which it is not a box, or not the one that the tensor has.
    """
    indices = [np.arange(size) for size in tensor.shape]
    mesh = tensor.device_mesh
    for dim, (placement, place) in enumerate(zip(tensor.placements, mesh.get_coordinate(), strict=True)):
        if not placement.is_replicate():
            # FSDP over tensor parallelism splits each of the pieces that the latter makes afterwards.
            pieces = _chunks(indices[placement.dim], getattr(placement, "split_factor", 1))
            indices[placement.dim] = np.concatenate([_chunks(piece, mesh.size(dim))[place] for piece in pieces])
    sizes = tuple(len(index) for index in indices)
    is_box = all((np.diff(index) == 1).all() for index in indices)
    if not is_box or sizes != tuple(local_part(tensor).shape):
        raise UnsupportedWeightError(
            name,
            f"under the placements {tensor.placements} on its device mesh the part of a process is not a box",
            "Shard it with Shard(dim) along each dimension of the mesh.",
        )
    return HeldBox(tuple(tensor.shape), tuple(int(index[0]) if len(index) else 0 for index in indices), sizes)


def _chunks(index: Integers, count: int) -> list[Integers]:
    """As `torch.chunk`, with empty pieces where there are fewer numbers than pieces."""
    size = -(-len(index) // count)
    return [index[first * size : (first + 1) * size] for first in range(count)]


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


def place_gradient(parameter: Any) -> None:
    """Hold the gradient as the parameter is held: under tensor parallelism it may be a sum yet to be added up."""
    gradient = parameter.grad
    if gradient is not None and is_distributed(gradient) and gradient.placements != parameter.placements:
        parameter.grad = gradient.redistribute(parameter.device_mesh, parameter.placements)


def any_distributed(tensors: Iterable[Tensor | None]) -> bool:
    """Whether some tensor is distributed."""
    return any(is_distributed(tensor) for tensor in tensors)
