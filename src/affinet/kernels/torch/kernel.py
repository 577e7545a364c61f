"""The protocol of kernels of equations: the projections of one block on tensors of one device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.small_tables import Names, Tables

K = TypeVar("K")
State = Any
"""A value that a kernel returns and receives again at the next step. None before the first step, and for kinds that
have no state; only the kernel reads it."""


class Decay(NamedTuple):
    """The weight decay that an optimizer will add to gradients: signed λ by name, and the weights to multiply."""

    rates: Mapping[str, float]
    weights: Mapping[str, Tensor]


class Kernel(Protocol):
    """Projects the entries of one block, which are read into one working tensor.

    `land` and `tangent` may write to their argument, which may share memory with the parameter, and return a tensor
    that broadcasts to its shape: a step then allocates little.

    A state is a value and never an attribute: the `Projector` stores it, so that it can be dropped, and so that two
    trainings can use one kernel. These kinds are linear: the face of their set (the part that a step stays on) is the
    set itself. Blocks with inequalities have another kernel, `ConvexKernel`, whose states belong to a training.
    Multipliers are computed from the rules (`analysis/multipliers.py`) for all kinds.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that the block reads and writes."""

    def read(self, tensors: Tensors) -> Tensor:
        """The block's entries in the working dtype; entries of a missing tensor are zero."""

    def write(self, tensors: Tensors, values: Tensor) -> None:
        """Write entries back into the tensors that are present."""

    def land(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Nearest point that satisfies the block, and the next state. Law: landing again moves only by rounding."""

    def land_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        """The feasible point nearest in `Σ metric_i dx_i²`, metric positive and of the shape of x."""

    def tangent(self, x: Tensor, state: State, *, floor: float = 0.0) -> tuple[Tensor, State]:
        """`P x`, the part of x that changes none of the block's equations, and the next state.

        With a floor, rounding noise becomes zero: `|P x| ≤ floor · (noise(x) + rms x)`, with the rms of the component.
        """

    def noise(self, x: Tensor) -> Tensor:
        """The size that rounding of `P x` is relative to, per entry, as a new tensor of the shape of `x`.

        It has to be the size of `x` where `P x` would be zero. Entries that the block makes equal have the same noise,
        so that they are silenced together.
        """

    def settle(
        self,
        tensors: Tensors,
        *,
        affine: bool,
        quiet: float = 0.0,
        decay: Decay | None = None,
        metric: Mapping[str, Tensor] | None = None,
    ) -> bool:
        """Project in place, without `read` and `write`; False, and no change, where kernel or tensors do not allow it.

        Onto the block if `affine`, in the metric if it is not None; else the tangent part, where noise below the floor
        `quiet` becomes zero. With `decay`, gradients g become `P(g + λ w) − λ w`.
        """

    def with_loops(self, like: Tensor, *, compiled: bool, full_parameter: bool) -> Kernel:
        """A kernel of the same block that is faster for tensors like this one on the CPU, or this kernel.

        `compiled`: it may use loops compiled by numba. `full_parameter`: it may read the full parameter instead of only
        the block's entries.
        """

    def tables(self, names: Names, dtype: torch.dtype) -> Tables | None:
        """The tables of the block for the call that projects all small blocks, for tensors of these numbers and dtype.

        None where the block has too many numbers, or has a kind that the call does not project.
        """


def not_in_place(
    kernel: object,
    tensors: Tensors,
    *,
    affine: bool,
    quiet: float = 0.0,
    decay: Decay | None = None,
    metric: Mapping[str, Tensor] | None = None,
) -> bool:
    """`settle` of kernels that project only entries they have read."""
    return False


def without_loops(kernel: K, like: Tensor, *, compiled: bool, full_parameter: bool) -> K:
    """`with_loops` of kernels without a faster variant."""
    return kernel
