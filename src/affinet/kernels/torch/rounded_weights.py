"""Read tensors as the numbers that analysis evaluates rules at, and describe the numbers of their dtypes."""

from __future__ import annotations

import torch
from torch import Tensor

from affinet.analysis.rule_values import Rounding, Weight
from affinet.kernels.bounds_in_dtypes import NumberFormat


def weight_of(tensor: Tensor) -> Weight:
    """The numbers of a tensor, laid end to end, and how its dtype rounds."""
    info = torch.finfo(tensor.dtype)
    # Exact for 16 bits, which NumPy may not know.
    numbers = tensor.detach().to("cpu", torch.float64 if tensor.dtype == torch.float64 else torch.float32)
    return Weight(numbers.reshape(-1).numpy(), Rounding(float(info.eps), float(info.smallest_normal * info.eps)))


def format_of(dtype: torch.dtype) -> NumberFormat:
    """The numbers of a dtype."""
    info = torch.finfo(dtype)
    return NumberFormat(str(dtype), float(info.eps), float(info.smallest_normal * info.eps), float(info.max))
