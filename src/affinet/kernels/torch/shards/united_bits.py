"""Unites what processes know about their own cells, where all of them have to decide alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_
from typing import Any

import torch

from affinet.kernels.torch.shards.held_box import groups_of
from affinet.language.dtensors import is_distributed


def united(masks: Sequence[int], tensors: Iterable[Any]) -> list[int]:
    """The bits of each mask that any process has set, of those that hold these tensors together.

    All of them have to call it. The masks themselves where no tensor is split between processes.
    """
    result = list(masks)
    for groups in dict.fromkeys(groups_of(tensor) for tensor in tensors if is_distributed(tensor)):
        for group in groups:
            every: list[Any] = [None] * torch.distributed.get_world_size(group)
            torch.distributed.all_gather_object(every, result, group=group)
            result = [reduce(or_, bits) for bits in zip(*every, strict=True)]
    return result
