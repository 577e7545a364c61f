"""Take a snapshot of everything that a training with torch changes after an epoch, and restore it before the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from affinet.cli.trainings.snapshot import Packed, Snapshot
from affinet.cli.trainings.torch.checkpoint_packing import (
    pack,
    pack_learned,
    pack_table,
    unpack,
    unpack_learned,
    unpack_table,
)
from affinet.cli.trainings.torch.dtensor_parts import split_like
from affinet.cli.trainings.torch.keeping import Learner, RuledLearner
from affinet.cli.trainings.torch.random_states import random_states, restore_random_states
from affinet.cli.trainings.torch.tensor_files import bits
from affinet.cli.words import listed
from affinet.errors import AttachError, RunError
from affinet.language.dtensors import gathered, local_part
from affinet.system.malformed import Malformed
from affinet.training.augmented.lagrange_handle import LagrangeHandle
from affinet.training.handle import Handle

LAGRANGE_NUMBERS = ("penalty", "size", "measured", "largest_rates")
"""What the state of a handle of `affinet.lagrange` holds in addition to that of its rules about weights."""


def take(learner: Learner, shuffling: torch.Generator) -> Snapshot:
    """The current state of `learner` and `shuffling`; the tensors are not copied."""
    return Snapshot(tensors_of(learner.network), pack(learner.optimizer), random_states(shuffling))


def take_ruled(ruled: RuledLearner, shuffling: torch.Generator) -> Snapshot:
    """As `take`, with what the training has learned about its rules."""
    return replace(take(ruled.learner, shuffling), learned=_learned_by(ruled.handle))


def put_back(snapshot: Snapshot, learner: Learner, shuffling: torch.Generator) -> None:
    """Give a new learner the state of `snapshot`, to the bit.

    Raises RunError for another network, and Malformed for a snapshot that `take` never makes.
    """
    _put_back_network(snapshot.network, learner.network)
    unpack(snapshot.optimizer, learner.optimizer)
    restore_random_states(snapshot.random, shuffling)


def put_back_ruled(snapshot: Snapshot, ruled: RuledLearner, shuffling: torch.Generator) -> None:
    """As `put_back`, with what was learned about the rules.

    A snapshot without it belongs to a training that learns nothing. Raises Malformed for that of other rules.
    """
    put_back(snapshot, ruled.learner, shuffling)
    if snapshot.learned is None:
        return
    handle = ruled.handle
    try:
        if isinstance(handle, Handle):
            learned = unpack_learned(snapshot.learned)
            handle.load_state_dict({**handle.state_dict(), "inequalities": learned})
        elif isinstance(handle, LagrangeHandle):
            state = handle.state_dict()
            table = unpack_table(snapshot.learned, (*LAGRANGE_NUMBERS, *state["weights"]))
            numbers = {name: table.pop(name) for name in LAGRANGE_NUMBERS}
            handle.load_state_dict({**state, **numbers, "weights": table})
    except AttachError as error:
        raise Malformed(str(error).rstrip(".")) from None


def _learned_by(handle: object) -> Packed | None:
    """What a handle has learned: y and the faces of inequalities, or the multipliers of an augmented Lagrangian."""
    if isinstance(handle, LagrangeHandle):
        state = handle.state_dict()
        return pack_table({**{name: state[name] for name in LAGRANGE_NUMBERS}, **state["weights"]})
    learned = handle.state_dict().get("inequalities") if isinstance(handle, Handle) else None
    return None if learned is None else pack_learned(learned)


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers, including those that `state_dict` leaves out, in whole.

    Where a process holds only parts of them, all processes call this.
    """
    return {name: gathered(tensor.detach()) for name, tensor in _own_tensors(network).items()}


def _own_tensors(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in (*network.named_parameters(), *network.named_buffers())}


@torch.no_grad()
def _put_back_network(stored: Mapping[str, Tensor], network: nn.Module) -> None:
    current = _own_tensors(network)
    parameters = {name for name, _ in network.named_parameters()}
    different = sorted(
        {name for name in parameters if name not in stored or not _same_shape_and_dtype(stored[name], current[name])}
        | {name for name in stored if not _has_place(network, name)}
        | {name for name in current if name not in stored}
    )
    if different:
        raise RunError(
            f"the network is not the one that the run was started with: {listed(different, 4)} "
            f"{'differs' if len(different) == 1 else 'differ'} in name, shape or dtype. Restore its factory, or "
            f"start a new run."
        )
    for name, tensor in stored.items():
        if name in current and _same_shape_and_dtype(tensor, current[name]):
            # Writing to a frozen parameter would make the rules be planned again.
            target, numbers = local_part(current[name]), local_part(split_like(tensor, current[name]))
            if not torch.equal(bits(numbers), bits(target)):
                target.copy_(numbers)
        else:
            module, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(module), attribute, tensor)


def _same_shape_and_dtype(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and first.dtype == second.dtype


def _has_place(network: nn.Module, name: str) -> bool:
    """Whether a tensor of this name belongs to the network: a buffer may be None, or of another shape, at first."""
    try:
        network.get_buffer(name)
    except AttributeError:
        return name in dict(network.named_parameters())
    return True
