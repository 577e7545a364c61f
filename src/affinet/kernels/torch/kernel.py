"""One kernel a block: all set-up done once, at the only place that tells block kinds apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, assert_never

from torch import Tensor

from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.classes import EqualTiesKernel, FixedKernel, TiesKernel
from affinet.kernels.torch.components import DenseKernel
from affinet.kernels.torch.mirrors import MirroredProductKernel, MirrorKernel, PairsKernel
from affinet.kernels.torch.slices import ProductKernel, SlicesKernel
from affinet.kernels.torch.sparse import SparseKernel
from affinet.kernels.torch.wide import WideKernel
from affinet.structure.blocks import Block, Dense, Fixed, Mirror, MirroredProduct, Pairs, Product, Slices, Sparse, Ties


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

    def noise(self, x: Tensor, floor: float) -> Tensor:
        """`floor · (|x| + rms x)`, the rms over each entry's own component; tied entries share one number."""


def prepare(block: Block, tensors: Mapping[str, Tensor]) -> Kernel:
    """The kernel of a block for parameters like `tensors` (their devices and dtypes)."""
    match block:
        case Slices():
            return SlicesKernel(block, tensors[block.parameter.name])
        case Product():
            return ProductKernel(block, tensors[block.view.parameter.name])
        case Mirror():
            return MirrorKernel(block, tensors[block.view.parameter.name])
        case MirroredProduct():
            return MirroredProductKernel(block, tensors[block.product.view.parameter.name])
        case Pairs():
            return PairsKernel(block, tensors[block.first.parameter.name])
        case Fixed():
            return FixedKernel(block, tensors[block.parts[0].parameter.name].device)
        case Ties():
            kind = EqualTiesKernel if EqualTiesKernel.fits(block) else TiesKernel
            return kind(block, tensors[block.parts[0].parameter.name].device)
        case Dense() if WideKernel.fits(block):
            return WideKernel(block, tensors)
        case Dense():
            return DenseKernel(block, tensors)
        case Sparse():
            return SparseKernel(block, tensors)
        case _:
            assert_never(block)
