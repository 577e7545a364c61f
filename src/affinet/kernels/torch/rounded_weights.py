"""Read tensors as the numbers that analysis evaluates rules at, with the rounding of their dtypes."""

from __future__ import annotations

import torch
from torch import Tensor

from affinet.analysis.rule_values import Rounding, Weight


def weight_of(tensor: Tensor) -> Weight:
    """The numbers of a tensor, laid end to end, and how its dtype rounds."""
    info = torch.finfo(tensor.dtype)
    # Exact for 16 bits, which NumPy may not know.
    numbers = tensor.detach().to("cpu", torch.float64 if tensor.dtype == torch.float64 else torch.float32)
    return Weight(numbers.reshape(-1).numpy(), Rounding(float(info.eps), float(info.smallest_normal * info.eps)))
