"""The verbs of a kernel: one block on one device, and its projections on tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, TypeVar

from torch import Tensor

from affinet.kernels.torch.access import Tensors

K = TypeVar("K")


class Decay(NamedTuple):
    """What an optimizer will add to gradients: λ by name, signed, and the weights that it multiplies."""

    rates: Mapping[str, float]
    weights: Mapping[str, Tensor]


class Kernel(Protocol):
    """Projects the entries of one block, read into one working tensor.

    `project` and `tangent` may write to the tensor they are given, which may share memory with the parameter, and
    return one that broadcasts to its shape: a step then allocates little.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that the block reads and writes."""

    def read(self, tensors: Tensors) -> Tensor:
        """The block's entries in the working dtype; entries of a missing tensor are zero."""

    def write(self, tensors: Tensors, values: Tensor) -> None:
        """Put entries back into the tensors that are there."""

    def project(self, x: Tensor) -> Tensor:
        """Nearest point that satisfies the block. Law: `project(project(x)) == project(x)` to rounding."""

    def project_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        """The feasible point nearest in `Σ metric_i dx_i²`, metric positive and of the shape of x."""

    def tangent(self, x: Tensor) -> Tensor:
        """`P x`, the part along which the block's equations stay as they are."""

    def quiet_tangent(self, x: Tensor, floor: float) -> Tensor:
        """`P x` with zeros where it is rounding noise: where `|P x| ≤ floor · (|x| + rms x)` in its own component.

        What matters is the size of `x` where `P x` would be zero; tied entries are silenced together. May write to `x`.
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
