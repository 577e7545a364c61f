"""Sums entries over classes, in float64: the adjoint of expanding one number per class to many entries."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from affinet.kernels.bases.operations import Constant
from affinet.kernels.torch.bases.tensor_constants import index_like
from affinet.kernels.torch.looped import available
from affinet.kernels.torch.precision import irregular_dtype
from affinet.kernels.torch.tied_kernels import SHARED


def class_sums(x: Tensor, class_of: Constant, count: int) -> Tensor:
    """`Σ x` over the entries of each class, in the dtype of x, accumulated in float64 where the device has it.

    Measured on 4,000,000 float32 entries in 10,000 classes, 2 cores: the compiled loop 4 ms; scatter_add in float64 10,
    index_add 16; sorted segments by segment_reduce 31, by a sparse product 29, since sorting the entries is itself a
    gather. The loop is not used where this sum is differentiated or traced.
    """
    entries = _numbers(x)
    if entries is not None:
        from affinet.kernels.loops import class_means, openmp

        sums = np.empty((2 if len(entries) >= SHARED else 1, count))
        threads = openmp.team(len(entries), torch.get_num_threads())
        class_means.class_sums(entries, index_like(class_of, x, torch.int32).numpy().view(np.uint32), sums, threads)
        return torch.from_numpy(sums[0]).to(x.dtype)
    wide = x.to(irregular_dtype(x.device))
    return wide.new_zeros(count).scatter_add(0, index_like(class_of, x, torch.int64), wide).to(x.dtype)


def _numbers(x: Tensor) -> np.ndarray | None:
    """The numbers of x where the compiled loop can read them: in CPU memory, and not differentiated or traced."""
    if torch.compiler.is_compiling() or not available() or type(x) is not Tensor or x.device.type != "cpu":
        return None
    if x.dtype not in (torch.float32, torch.float64) or (torch.is_grad_enabled() and x.requires_grad):
        return None
    try:
        return x.detach().contiguous().numpy()
    except RuntimeError:  # a tensor inside a transform of torch.func represents many tensors
        return None
