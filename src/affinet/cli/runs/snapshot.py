"""Everything that a training changes, taken after an epoch and put back before the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from affinet.cli.runs.packing import Packed, pack, unpack
from affinet.cli.runs.random_states import random_states, restore_random_states
from affinet.cli.trainings.keeping import Learner
from affinet.cli.words import listed
from affinet.errors import RunError


@dataclass(frozen=True)
class Snapshot:
    """A network by the names of its tensors, its optimizer, and the states of random numbers."""

    network: Mapping[str, Tensor]
    optimizer: Packed
    random: Packed


def take(learner: Learner, shuffling: torch.Generator) -> Snapshot:
    """What `learner` and `shuffling` are now; the tensors are theirs, not copies."""
    return Snapshot(tensors_of(learner.network), pack(learner.optimizer), random_states(shuffling))


def put_back(snapshot: Snapshot, learner: Learner, shuffling: torch.Generator) -> None:
    """Make of a learner that was just made the one that `snapshot` was taken of, to the bit.

    Raises RunError where the network is another, Malformed for a snapshot that `take` never takes.
    """
    _put_back_network(snapshot.network, learner.network)
    unpack(snapshot.optimizer, learner.optimizer)
    restore_random_states(snapshot.random, shuffling)


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer, those that `state_dict` leaves out included."""
    return {name: tensor.detach() for name, tensor in (*network.named_parameters(), *network.named_buffers())}


def bits(tensor: Tensor) -> Tensor:
    """The bytes of a tensor in the order of its entries, on the CPU."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


@torch.no_grad()
def _put_back_network(kept: Mapping[str, Tensor], network: nn.Module) -> None:
    held = tensors_of(network)
    parameters = {name for name, _ in network.named_parameters()}
    other = sorted(
        {name for name in parameters if name not in kept or not _alike(kept[name], held[name])}
        | {name for name in kept if not _has_place(network, name)}
        | {name for name in held if name not in kept}
    )
    if other:
        raise RunError(
            f"the network is not the one that the run was begun with: {listed(other, 4)} "
            f"{'differs' if len(other) == 1 else 'differ'} in name, shape or dtype. Put its factory back as it was, or "
            f"begin a new run."
        )
    for name, tensor in kept.items():
        if name in held and _alike(tensor, held[name]):
            # A frozen parameter that is written to would be planned with again.
            if not torch.equal(bits(tensor), bits(held[name])):
                held[name].copy_(tensor)
        else:
            module, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(module), attribute, tensor)


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


def _has_place(network: nn.Module, name: str) -> bool:
    """Whether a tensor of this name belongs to the network: a buffer may be None, or of another shape, at first."""
    try:
        network.get_buffer(name)
    except AttributeError:
        return name in dict(network.named_parameters())
    return True
