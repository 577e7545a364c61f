"""The box of a distributed weight that this process holds, and where its entries are in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from affinet.errors import UnsupportedWeightError
from affinet.language.dtensors import is_distributed, local_part
from affinet.planning.shards.splits import HeldBox, Split, Splits

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def splits_of(tensor: Any) -> Splits:
    """How a distributed tensor is split over its mesh."""
    splits = [
        None if placement.is_replicate() else Split(placement.dim % tensor.ndim, getattr(placement, "split_factor", 1))
        for placement in tensor.placements
    ]
    return Splits(tuple(tensor.shape), tuple(tensor.device_mesh.shape), tuple(splits))


def held_box(name: str, tensor: Any) -> HeldBox:
    """What this process holds of a distributed tensor; no numbers are read, and nothing is exchanged.

    Raises UnsupportedWeightError for placements under which it is not a box, or not the one that the tensor has.
    """
    box = splits_of(tensor).box(tensor.device_mesh.get_coordinate())
    if box is None or box.sizes != tuple(local_part(tensor).shape):
        raise UnsupportedWeightError(
            name,
            f"under the placements {tensor.placements} on its device mesh the part of a process is not a box",
            "Shard it with Shard(dim) along each dimension of the mesh.",
        )
    return box


def placement_of(tensor: Any) -> object:
    """The mesh and the placements of a distributed tensor; None for a tensor of this process alone."""
    return (tensor.device_mesh, tensor.placements) if is_distributed(tensor) else None


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
