"""The verbs of a kernel: one block on one device, and its projections on tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.small_tables import Names, Tables

K = TypeVar("K")
State = Any
"""What a kernel hands back to be given to it at the next step. None before the first step, and for kinds that need
nothing; what else it is, only the kernel knows."""


class Decay(NamedTuple):
    """What an optimizer will add to gradients: λ by name, signed, and the weights that it multiplies."""

    rates: Mapping[str, float]
    weights: Mapping[str, Tensor]


class Kernel(Protocol):
    """Projects the entries of one block, read into one working tensor.

    `land` and `tangent` may write to the tensor they are given, which may share memory with the parameter, and return
    one that broadcasts to its shape: a step then allocates little.

    A state is a value and never an attribute: whoever projects (`Projector`) keeps it, so that it can be dropped, and
    so that two trainings can use one kernel. All kinds are linear today: the face of their set, the part that a step
    stays on, is the set itself, and no verb takes one. A kind whose face depends on the weights or on its state
    (inequalities, nonlinear equations) adds `face(at, state)`: `Projector.project_gradients_`, which has the weights,
    makes it once a step and gives it to `tangent`, `land` and `land_in_metric`. What such a kind learns from a gradient
    is in the state that `tangent` hands back; `multipliers` is asked of the rules (`analysis/multipliers.py`) until a
    kind knows better.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that the block reads and writes."""

    def read(self, tensors: Tensors) -> Tensor:
        """The block's entries in the working dtype; entries of a missing tensor are zero."""

    def write(self, tensors: Tensors, values: Tensor) -> None:
        """Put entries back into the tensors that are there."""

    def land(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Nearest point that satisfies the block, and the next state. Law: landing again moves by rounding alone."""

    def land_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        """The feasible point nearest in `Σ metric_i dx_i²`, metric positive and of the shape of x."""

    def tangent(self, x: Tensor, state: State, *, floor: float = 0.0) -> tuple[Tensor, State]:
        """`P x`, the part along which the block's equations stay as they are, and the next state.

        With a floor, rounding noise becomes zero: `|P x| ≤ floor · (noise(x) + rms x)`, the rms that of the component.
        """

    def noise(self, x: Tensor) -> Tensor:
        """How large each entry was that the rounding of `P x` comes from, as a new tensor of the shape of `x`.

        What matters is the size of `x` where `P x` would be zero. Entries that the block makes equal have one noise, so
        that they are silenced together.
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
        """Project in place, past `read` and `write`; False, and nothing done, where this kernel or a tensor cannot.

        Onto the block if `affine`, in the metric if one is given; else the tangent part, of which noise below the floor
        `quiet` becomes zero. With `decay`, gradients g become `P(g + λ w) − λ w`.
        """

    def with_loops(self, like: Tensor, *, compiled: bool, whole: bool) -> Kernel:
        """A kernel of the same block that is quicker for tensors like this one on the CPU, or this kernel.

        `compiled`: loops compiled by numba may be used. `whole`: it may read a whole parameter in place of the block's
        entries.
        """

    def tables(self, names: Names, dtype: torch.dtype) -> Tables | None:
        """The tables of the block for the call that projects all small blocks, for tensors of these numbers and dtype.

        None where the block has too many numbers, or is of a kind that the call does not project.
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
    """`settle` of kernels that work on entries they have read."""
    return False


def without_loops(kernel: K, like: Tensor, *, compiled: bool, whole: bool) -> K:
    """`with_loops` of kernels for which nothing quicker is known."""
    return kernel
