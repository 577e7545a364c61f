"""Tensors that several processes hold together (`torch.distributed.tensor.DTensor`): what is known without any storage.

Nothing is imported: as long as torch has not loaded its DTensors, no tensor is distributed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TypeVar

Tensor = TypeVar("Tensor")


def is_distributed(tensor: Any) -> bool:
    """Whether a tensor is a DTensor, sharded or replicated over a device mesh."""
    return isinstance(tensor, loaded_class("torch.distributed.tensor", "DTensor"))


def local_part(tensor: Any) -> Any:
    """The numbers of a tensor that this process holds: all of them, unless it is distributed."""
    return tensor.detach().to_local() if is_distributed(tensor) else tensor


def gathered(tensor: Tensor) -> Tensor:
    """All numbers of a tensor, without autograd where it is distributed: every process of its mesh has to call it."""
    numbers: Tensor = tensor.detach().full_tensor() if is_distributed(tensor) else tensor  # type: ignore[attr-defined]
    return numbers


def gathered_all(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """All numbers of each tensor; the mapping itself where none is distributed."""
    if not any(is_distributed(tensor) for tensor in tensors.values()):
        return tensors
    return {name: gathered(tensor) for name, tensor in tensors.items()}


def reason_against(tensor: Any) -> str | None:
    """Why the entries of a distributed tensor cannot be told apart; None where they can."""
    for placement in tensor.placements:
        if placement.is_partial():
            return f"it is the sum of what several processes hold ({placement})"
    return None


def loaded_class(module: str, name: str) -> Any:
    """A class of torch, or an empty tuple (for isinstance) where its module is not loaded."""
    return getattr(sys.modules.get(module), name, ())
