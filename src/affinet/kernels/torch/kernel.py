"""What a kernel is: the projections of one block, on tensors."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from affinet.kernels.torch.access import Tensors


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
