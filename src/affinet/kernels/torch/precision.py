"""Chooses the dtype in which a projection computes, and decides which part of its result is rounding noise."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from math import sqrt
from os import getpid

import torch
from torch import Tensor

IMPORTED_BY = getpid()
"""The process that may have torch's threads; a process forked from it does not have them."""
NOISE = 32.0
"""A projected gradient of at most this many roundoffs of the gradient it was computed from is noise: trap 6 of
docs/architecture.md."""


@cache
def regular_dtype(dtype: torch.dtype) -> torch.dtype:
    """The working dtype of slices: the dtype of the weights, or float32 for coarser dtypes."""
    return dtype if dtype in (torch.float32, torch.float64) else torch.float32


def regular_dtype_of(tensors: Iterable[Tensor]) -> torch.dtype:
    """The working dtype for entries of several tensors: the widest of their working dtypes."""
    kinds = {regular_dtype(tensor.dtype) for tensor in tensors}
    return torch.float64 if torch.float64 in kinds else torch.float32


def irregular_dtype(device: torch.device) -> torch.dtype:
    """The working dtype of ties and components: float64, or float32 on a device without it."""
    return torch.float32 if device.type == "mps" else torch.float64


@cache
def noise_floor(dtype: torch.dtype) -> float:
    """`32 u`, with u the unit roundoff of a gradient's dtype, float32's for coarser ones.

    A projected gradient of at most this fraction of `|g| + rms g` is rounding of the gradient it was computed from;
    under Adam's eps of 1e-8 flat directions would walk on it.

    At a constrained optimum the gradient is normal to the rules, and its projection is rounding of about this size
    relative to it. In 16 bits the same bound would be 12 % of the gradient, far more than a step may lose, so that the
    noise of the backward pass is not removed there.
    """
    return NOISE * float(torch.finfo(regular_dtype(dtype)).eps) / 2.0


def silenced(projected: Tensor, noise: Tensor) -> Tensor:
    """`projected`, in place, with zeros where its size is below that of the noise."""
    return projected.masked_fill_(projected.abs() < noise, 0.0)


def mean_norm(x: Tensor, dims: tuple[int, ...] | None, count: int, factor: float) -> Tensor:
    """`factor` times the root mean square of `count` numbers, along axes that remain, or over all axes for None."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=dims, keepdim=dims is not None)
    return norm.mul_(factor / sqrt(max(1, count)))


def exact_matmul(x: Tensor) -> Tensor:
    """`x` in a dtype whose matrix products are exact: those of float32 may be computed in TF32 or bfloat16."""
    if x.dtype != torch.float32 or x.device.type == "mps":
        return x
    if torch.compiler.is_compiling():  # it cannot trace the check
        return x if x.device.type == "cpu" else x.double()
    return x.double() if torch.get_float32_matmul_precision() != "highest" else x


class undisturbed:
    """A context without autograd and autocast, so that a projection does not depend on the context of the caller.

    In a forked process torch is limited to one thread meanwhile: the other threads of its OpenMP team exist only in the
    parent, and an operation distributed to them would wait for ever. A class, since a generator would double the cost.
    """

    __slots__ = ("_autocast", "_gradients", "_threads")

    def __init__(self, device: torch.device) -> None:
        self._threads = torch.get_num_threads() if getpid() != IMPORTED_BY else 1
        on = torch.is_autocast_enabled(device.type)
        self._autocast = torch.autocast(device.type, enabled=False) if on else None
        self._gradients = torch.no_grad()

    def __enter__(self) -> None:
        if self._threads > 1:
            torch.set_num_threads(1)
        self._gradients.__enter__()
        if self._autocast is not None:
            self._autocast.__enter__()

    def __exit__(self, *exception: object) -> None:
        if self._autocast is not None:
            self._autocast.__exit__(*exception)
        self._gradients.__exit__(*exception)
        if self._threads > 1:
            torch.set_num_threads(self._threads)
