"""Constants of bases as tensors, made once per dtype and device."""

from __future__ import annotations

import torch
from torch import Tensor

from affinet.kernels.bases.operations import Constant

SELECTING = torch.int32 if torch.__version__ >= "2.14" else torch.int64
"""Dtype of indices. torch selects by 32-bit integers up to ten times as fast; torch 2.5 to 2.7 refuse them under vmap,
2.14 accepts them, and the versions between were not tried."""


def constant_like(constant: Constant, x: Tensor) -> Tensor:
    """The numbers in the dtype and on the device of x."""
    return _tensor(constant, x.device, x.dtype)


def index_like(constant: Constant, x: Tensor, dtype: torch.dtype = SELECTING) -> Tensor:
    """Integers on the device of x."""
    return _tensor(constant, x.device, dtype)


def _tensor(constant: Constant, device: torch.device, dtype: torch.dtype) -> Tensor:
    tensor: Tensor | None = constant.made.get((device, dtype))
    if tensor is None:
        tensor = torch.as_tensor(constant.values, dtype=dtype, device=device)
        constant.made[device, dtype] = tensor
    return tensor
