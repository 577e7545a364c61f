"""Which blocks have compiled loops.

Each such kernel stands around the kernel of its block and does the two projections that every step asks for; whatever
else is asked, or a tensor that the loops cannot take, goes to the kernel inside.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

from torch import Tensor

from affinet.kernels.torch.classes import EqualTiesKernel, TiesKernel
from affinet.kernels.torch.compiled.arrays import WIDTHS
from affinet.kernels.torch.compiled.sums import CompiledCross, CompiledSums
from affinet.kernels.torch.compiled.ties import CompiledTies
from affinet.kernels.torch.compiled.tiles import CompiledMirror, CompiledPairs
from affinet.kernels.torch.kernel import Kernel
from affinet.kernels.torch.mirrors import MirrorKernel, PairsKernel
from affinet.kernels.torch.slices import ProductKernel, SlicesKernel
from affinet.structure.blocks import Block, Mirror, Pairs, Product, Slices, Ties


@cache
def available() -> bool:
    """Whether numba is installed."""
    return find_spec("numba") is not None


def compiled(block: Block, kernel: Kernel, like: Tensor) -> Kernel:
    """`kernel`, or one around it with compiled loops where there are any for this block, device and dtype."""
    if not available() or like.device.type != "cpu" or like.dtype not in WIDTHS:
        return kernel
    match block, kernel:
        case Slices(), SlicesKernel() if (totals := kernel.even_sums) is not None:
            return CompiledSums(kernel, totals)
        case Product(), ProductKernel() if (both := kernel.even_cross) is not None:
            return CompiledCross(kernel, both)
        case Mirror(), MirrorKernel() if kernel.transposes:
            return CompiledMirror(kernel, block.sign, block.view.dims[0][0])
        case Pairs(), PairsKernel() if kernel.multiplies:
            return CompiledPairs(kernel)
        case Ties(), EqualTiesKernel() | TiesKernel() if CompiledTies.fits(block, like):
            return CompiledTies(block, kernel, like)
    return kernel
