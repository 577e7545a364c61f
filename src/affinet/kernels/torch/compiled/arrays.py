"""What a compiled loop can take."""

from __future__ import annotations

import torch
from torch import Tensor

WIDTHS = (torch.float32, torch.float64)
"""The dtypes that the loops are compiled for."""


def fit(x: Tensor) -> bool:
    """Whether a loop can work on `x` where it lies."""
    return x.dtype in WIDTHS and x.is_contiguous()
