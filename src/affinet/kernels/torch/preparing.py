"""Prepares the kernel of each block: all set-up is done once, at the one place in `torch/` that branches on kinds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never, cast

from torch import Tensor

from affinet.blocks.bases import AnyBase
from affinet.blocks.bordered import Bordered
from affinet.blocks.commuting import Commuting
from affinet.blocks.dense import Dense
from affinet.blocks.fixed import Fixed
from affinet.blocks.joined import Joined
from affinet.blocks.kinds import AnyBlock, AnyLinear, AnySet
from affinet.blocks.law import Linear
from affinet.blocks.mirror import Mirror
from affinet.blocks.pairs import Pairs
from affinet.blocks.slices import Slices
from affinet.blocks.sparse import Sparse
from affinet.blocks.ties import Ties
from affinet.kernels.torch import looped
from affinet.kernels.torch.bordered_kernel import BorderedKernel
from affinet.kernels.torch.convex_kernel import ConvexKernel
from affinet.kernels.torch.dense_kernel import DenseKernel
from affinet.kernels.torch.fixed_kernel import FixedKernel
from affinet.kernels.torch.joined_kernel import JoinedKernel
from affinet.kernels.torch.kernel import Kernel
from affinet.kernels.torch.mirrors import MirroredProductKernel, MirrorKernel, PairsKernel
from affinet.kernels.torch.row_loops import row_loops
from affinet.kernels.torch.shards.held_box import any_distributed
from affinet.kernels.torch.shards.law_kernel import LawKernel
from affinet.kernels.torch.shards.local_cells import local_cells
from affinet.kernels.torch.slices_kernels import ProductKernel, SlicesKernel
from affinet.kernels.torch.sparse_kernel import SparseKernel
from affinet.kernels.torch.tied_kernels import EqualTiesKernel, TiesKernel
from affinet.kernels.torch.wide import WideKernel


def prepare(block: AnyBlock, tensors: Mapping[str, Tensor]) -> Kernel | ConvexKernel:
    """The kernel of a block for parameters with the devices and dtypes of `tensors`, with loops where it has them."""
    law, names = block.law(), {parameter.name for parameter, _ in block.entries.sizes}
    if not isinstance(law, Linear):
        return _kernel_of_set(cast("AnySet", block), {name: tensors[name] for name in names})
    if any_distributed(tensors[name] for name in names):
        return LawKernel(law, block.entries, tensors)
    return _with_loops(eager(cast("AnyLinear", block), tensors), tensors, full_parameter=True)


def _kernel_of_set(block: AnySet, tensors: Mapping[str, Tensor]) -> ConvexKernel:
    """The kernel of a set, of the cells that this process holds where each cell lies on one process."""
    local = local_cells(block, tensors)
    law = None if local is None else block.law().only(local.cells)
    if law is None:
        law, local = block.law(), None
    return ConvexKernel(law, block.entries, tensors, row_loops(law, tensors), local)


def _prepared_base(base: AnyBase, tensors: Mapping[str, Tensor]) -> Kernel:
    """As `prepare`, but the kernel reads only the entries of the base, whose places the extra equations refer to."""
    return _with_loops(eager(base, tensors), tensors, full_parameter=False)


def _with_loops(kernel: Kernel, tensors: Mapping[str, Tensor], *, full_parameter: bool) -> Kernel:
    like, compiled = tensors[kernel.names[0]], looped.available()
    return (
        kernel.with_loops(like, compiled=compiled, full_parameter=full_parameter)
        if like.device.type == "cpu"
        else kernel
    )


def eager(block: AnyLinear, tensors: Mapping[str, Tensor]) -> Kernel:
    """The kernel of a block from torch's own operations, on any device."""
    match block:
        case Slices():
            return SlicesKernel(block, tensors[block.parameter.name])
        case Commuting():
            like = tensors[block.view.parameter.name]
            product = ProductKernel(block, like)
            return product if block.mirror is None else MirroredProductKernel(product, MirrorKernel(block.mirror, like))
        case Mirror():
            return MirrorKernel(block, tensors[block.view.parameter.name])
        case Joined():
            return JoinedKernel(block, eager, tensors)
        case Pairs():
            return PairsKernel(block, tensors[block.first.parameter.name])
        case Fixed():
            return FixedKernel(block, tensors[block.parameter.name])
        case Ties():
            like = tensors[block.parts[0].parameter.name]
            return EqualTiesKernel(block, like) if EqualTiesKernel.fits(block) else TiesKernel(block, like.device)
        case Dense() if WideKernel.fits(block):
            return WideKernel(block, tensors)
        case Dense():
            return DenseKernel(block, tensors)
        case Sparse():
            return SparseKernel(block, tensors)
        case Bordered():
            return BorderedKernel(block, _prepared_base, tensors)
        case _:
            assert_never(block)
