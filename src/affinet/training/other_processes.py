"""Decide alike on all processes that hold weights together: each sees only its own part of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from affinet.kernels.torch.shards.held_box import splits_of
from affinet.language.dtensors import is_distributed
from affinet.planning.shards.traffic import traffic_of
from affinet.plans.plan import Plan


class OtherProcesses:
    """The processes that exchange numbers with this one in a step; none where rules need nothing from others.

    Law: what the verbs return decides which blocks take part in an exchange, and is the same on all of them.
    """

    def __init__(self, plan: Plan, parameters: Mapping[str, Tensor]) -> None:
        self._groups: list[tuple[Any, torch.device]] = []
        self._sent: tuple[Tensor, Any] | None = None
        if _exchange(plan, parameters):
            weights: list[Any] = [weight for weight in parameters.values() if is_distributed(weight)]
            split = {(w.device_mesh, dimension) for w in weights for dimension in splits_of(w).dimensions}
            # What is agreed on along a small mesh is carried on to larger ones.
            for mesh, dimension in sorted(split, key=lambda pair: (pair[0].size(), pair[1])):
                self._groups.append((mesh.get_group(dimension), torch.device(mesh.device_type)))

    def __bool__(self) -> bool:
        return bool(self._groups)

    def parts_elsewhere(self, gradients: Mapping[str, Tensor | None]) -> list[str]:
        """The weights whose gradient is missing here, and present for the part of another process.

        One byte for each weight is sent. A process that has all gradients does not wait for an answer.
        """
        if not self._groups:
            return []
        present = torch.tensor([gradient is not None for gradient in gradients.values()], dtype=torch.uint8)
        missing = [name for name, gradient in gradients.items() if gradient is None]
        anywhere = self._largest(present, wait=bool(missing))
        if not missing:
            return []
        is_present = dict(zip(gradients, anywhere.tolist(), strict=True))
        return [name for name in missing if is_present[name]]

    def everywhere(self, is_true: Mapping[str, bool]) -> frozenset[str]:
        """The names for which it is true on all processes, of the same names on all of them."""
        if self._groups and is_true:
            is_false = torch.tensor([not each for each in is_true.values()], dtype=torch.uint8)
            is_false_anywhere = self._largest(is_false, wait=True).tolist()
            is_true = {name: not each for name, each in zip(is_true, is_false_anywhere, strict=True)}
        return frozenset(name for name, each in is_true.items() if each)

    def _largest(self, numbers: Tensor, *, wait: bool) -> Tensor:
        """The largest of each number over all processes; only where it waits it is known on return."""
        if self._sent is not None:
            self._sent[1].wait()  # long done: only its memory was kept
            self._sent = None
        for position, (group, device) in enumerate(self._groups):
            numbers = numbers.to(device)
            work = torch.distributed.all_reduce(numbers, torch.distributed.ReduceOp.MAX, group, async_op=True)
            if wait or position < len(self._groups) - 1:
                work.wait()
            else:
                self._sent = numbers, work
        return numbers


def _exchange(plan: Plan, parameters: Mapping[str, Tensor]) -> bool:
    """Whether a step under these rules sends numbers from one process to another."""
    distributed: dict[str, Any] = {name: weight for name, weight in parameters.items() if is_distributed(weight)}
    splits = {name: splits_of(weight) for name, weight in distributed.items()}
    split = {name for name, of_weight in splits.items() if of_weight.dimensions}
    for block in plan.blocks:
        names = {parameter.name for parameter, _ in block.entries.sizes}
        if names.isdisjoint(split):
            continue
        meshes = {distributed[name].device_mesh for name in names if name in distributed}
        if len(meshes) > 1 or not names <= distributed.keys() or traffic_of(block, splits).way != "local":
            return True
    return False
