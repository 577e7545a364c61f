"""Wait until all processes that hold weights together make the same call, before they exchange numbers in it.

Without it a process that makes a call alone waits for numbers of the others, and torch ends it with a message about
connections. Processes meet in the store that torch made for their group, with a few words each, however many they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from affinet.errors import AttachError
from affinet.kernels.torch.shards.held_box import groups_of
from affinet.language.dtensors import is_distributed

ON_ALL = (
    "All of them take part in it: call it on every process, not under `if rank == 0:`, and print its result on one."
)


def await_call(call: str, weights: Mapping[str, Tensor]) -> None:
    """Wait until all processes between which one of the weights is split make this call.

    Raises AttachError after the timeout that init_process_group was given, for those that do not, and at once where
    they make another one. Nothing is exchanged for weights of one process.
    """
    distributed: dict[str, Any] = {name: weight for name, weight in weights.items() if is_distributed(weight)}
    if distributed:
        check_within_reach(distributed)
    for group in dict.fromkeys(group for weight in distributed.values() for group in groups_of(weight)):
        meet(group, f"called {call}", ON_ALL)


def check_within_reach(distributed: Mapping[str, Any]) -> None:
    """Raise AttachError where the process group of a weight is gone, or this process is not on its mesh."""
    if not torch.distributed.is_initialized():
        raise AttachError(
            f"{next(iter(distributed))} is held by several processes, and there is no process group: it was destroyed. "
            f"Call torch.distributed.init_process_group, and make and shard the model after it."
        )
    for name, weight in distributed.items():
        if weight.device_mesh.get_coordinate() is None:
            raise AttachError(
                f"{name} is held by processes {weight.device_mesh.mesh.flatten().tolist()}, and this is process "
                f"{torch.distributed.get_rank()}. Attach rules on the processes that hold all of their weights, and "
                f"only there."
            )


def meet(group: Any, deed: str, way_out: str) -> None:
    """Wait until all processes of a group come here with the same deed, such as "attached rules".

    Raises AttachError as `await_call` does. A process that waited in vain may try again.
    """
    store = torch.distributed.distributed_c10d._get_process_group_store(group)
    ranks, rank = torch.distributed.get_process_group_ranks(group), torch.distributed.get_rank()
    number = _met[group.group_name] = _met[group.group_name] + 1
    keys = {peer: f"affinet/{number}/{peer}" for peer in ranks}
    arrived, answer = f"affinet/{number}/arrived", f"affinet/{number}/answer"
    store.set(keys[rank], deed)
    if store.add(arrived, 1) == len(ranks):
        alike = all(store.get(key).decode() == deed for key in keys.values())
        store.set(answer, "alike" if alike else "different")
    try:
        store.wait([answer])
    except RuntimeError as error:
        absent = [peer for peer, key in keys.items() if not store.check([key])]
        store.add(arrived, -1)
        store.delete_key(keys[rank])
        _met[group.group_name] -= 1
        seconds = store.timeout.total_seconds()  # type: ignore[attr-defined]
        raise AttachError(
            f"processes {absent[:8]} hold parts or copies of the same weights as this one, {rank}, and have not {deed} "
            f"for {seconds:g} seconds. {way_out}"
        ) from error
    # All have come here, and need nothing of their meeting before.
    for former in (rank, *(("arrived", "answer") if rank == ranks[0] else ())):
        store.delete_key(f"affinet/{number - 1}/{former}")
    if store.get(answer) == b"different":
        deeds = {peer: store.get(key).decode() for peer, key in keys.items()}
        peer = next(peer for peer in ranks if deeds[peer] != deed)
        raise AttachError(
            f"process {rank} has {deed}, and process {peer} has {deeds[peer]}. Make the same calls in the same order "
            f"on every process: they exchange numbers in them."
        )


_met: Counter[str] = Counter()
"""Name of a process group → how often this process has met the others of it."""
