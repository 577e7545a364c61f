"""Writes numbers at places of a tensor, also where `torch.use_deterministic_algorithms(True)` refuses `put_`."""

from __future__ import annotations

import torch
from torch import Tensor


def put(tensor: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """`tensor.put_(places, values)` for distinct places of its flat row-major numbers; returns `tensor`.

    In deterministic mode torch refuses `put_`, since repeated places would race; distinct places do not.
    """
    if not torch.are_deterministic_algorithms_enabled():
        return tensor.put_(places, values)
    if tensor.is_contiguous():
        tensor.view(-1).index_copy_(0, places.reshape(-1), values.reshape(-1))
        return tensor
    return tensor.index_put_(torch.unravel_index(places, tensor.shape), values)
