"""Split a whole tensor over processes as another one is split."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from affinet.language.dtensors import is_distributed


def split_like(tensor: Tensor, like: Any) -> Tensor:
    """`tensor` over the processes that hold `like`, split as that is; `tensor` itself where one process holds `like`.

    All processes call this, each with the whole `tensor`.
    """
    if not is_distributed(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
