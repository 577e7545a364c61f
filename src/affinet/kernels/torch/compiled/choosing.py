"""Which blocks have compiled loops.

Each such kernel stands around the kernel of its block and does the two projections that every step asks for; whatever
else is asked, or a tensor that the loops cannot take, goes to the kernel inside.
"""

from __future__ import annotations

import warnings
from functools import cache
from importlib import import_module

from torch import Tensor

from affinet.blocks.dense import Dense
from affinet.blocks.joined import Joined
from affinet.blocks.kinds import AnyBlock
from affinet.blocks.mirror import Mirror
from affinet.blocks.pairs import Pairs
from affinet.blocks.product import Product
from affinet.blocks.slices import Slices
from affinet.blocks.ties import Ties
from affinet.errors import callers_line
from affinet.kernels.torch.classes import EqualTiesKernel, TiesKernel
from affinet.kernels.torch.compiled.crossing import Crossing
from affinet.kernels.torch.compiled.fixed import FixedLoops
from affinet.kernels.torch.compiled.groups import SmallGroups
from affinet.kernels.torch.compiled.looped import WIDTHS, Looped
from affinet.kernels.torch.compiled.sums import CrossSums, EvenSums
from affinet.kernels.torch.compiled.ties import EqualEntries
from affinet.kernels.torch.compiled.tiles import CompiledPairs, MirroredTiles
from affinet.kernels.torch.compiled.whole import Whole
from affinet.kernels.torch.compiled.wide import WideRows
from affinet.kernels.torch.components import DenseKernel
from affinet.kernels.torch.fixed import FixedKernel
from affinet.kernels.torch.jagged import jagged
from affinet.kernels.torch.joined import JoinedKernel
from affinet.kernels.torch.kernel import Kernel
from affinet.kernels.torch.mirrors import MirrorKernel, PairsKernel
from affinet.kernels.torch.slices import ProductKernel, SlicesKernel
from affinet.kernels.torch.wide import WideKernel
from affinet.plans.backends import numba_installed


@cache
def available() -> bool:
    """Whether loops can be compiled; warns where numba is installed and cannot be imported."""
    if not numba_installed():
        return False
    try:
        import_module("affinet.kernels.loops.openmp")
    except ImportError as error:
        warnings.warn(
            f"numba is installed and cannot be imported ({error}). Projections run on torch's own operations, which "
            f"takes longer on the CPU; install versions of numba and NumPy that go together.",
            stacklevel=callers_line(),
        )
        return False
    return True


def compiled(block: AnyBlock, kernel: Kernel, like: Tensor, *, reads_whole_parameters: bool = True) -> Kernel:
    """`kernel`, or one around it with compiled loops where there are any for this block, device and dtype.

    `reads_whole_parameters` allows kernels that read a whole parameter in place of the block's entries.
    """
    if not available() or like.device.type != "cpu":
        return jagged(block, kernel, like) if reads_whole_parameters else kernel
    if isinstance(kernel, FixedKernel):
        kernel.loops = FixedLoops.of(kernel.block)
    if like.dtype not in WIDTHS:
        return kernel
    match block, kernel:
        case Slices(), SlicesKernel() if (totals := kernel.even_sums) is not None:
            return Looped(kernel, EvenSums(kernel.cells, totals), kernel.within)
        case Product(), ProductKernel() if (both := kernel.even_cross) is not None:
            return Looped(kernel, CrossSums(both), kernel.box.within)
        case Product() | Joined(), ProductKernel() | JoinedKernel() if (
            crossing := Crossing.of(block, kernel)
        ) is not None:
            return crossing
        case Mirror(), MirrorKernel() if kernel.transposes:
            return Looped(kernel, MirroredTiles(kernel, block.sign, block.view.dims[0][0]), kernel.box.within)
        case Pairs(), PairsKernel() if kernel.multiplies:
            return CompiledPairs(kernel)
        case Dense(), WideKernel():
            return Looped(kernel, WideRows(kernel))
        case _ if not reads_whole_parameters:
            return kernel
        case Ties(), EqualTiesKernel() | TiesKernel() if EqualEntries.fits(block) and Whole.fits(block.parts, like):
            return Looped(Whole(kernel, block.parts[0], like), EqualEntries(block), Whole.within)
        case Dense(), DenseKernel() if SmallGroups.fits(block) and Whole.fits(block.parts, like):
            return Looped(Whole(kernel, block.parts[0], like), SmallGroups(block, like), Whole.within)
    return kernel
