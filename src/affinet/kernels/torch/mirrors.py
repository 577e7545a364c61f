"""Symmetric boxes and pairs of boxes: the mean of two views, exact to the bit; and loops over tiles of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from affinet.blocks.mirror import Mirror
from affinet.blocks.pairs import Pairs
from affinet.kernels.torch.access import Box, Tensors, box_of
from affinet.kernels.torch.kernel import Kernel, State, not_in_place, without_loops
from affinet.kernels.torch.looped import WIDTHS, Looped, OnArrays, fit
from affinet.kernels.torch.precision import mean_norm, regular_dtype, silenced
from affinet.kernels.torch.putting import put
from affinet.kernels.torch.scratch import Scratch
from affinet.kernels.torch.slices import ProductKernel
from affinet.kernels.torch.small_tables import Names, Tables, given_entries, not_small, places_of, tied_pairs
from affinet.language.calculus.terms import row_major_steps
from affinet.system.distinct import distinct


class MirrorKernel:
    """`x ↦ (x + sign · mirrored(x) + shift) / 2`: both images come from the same sum, so they agree to the bit."""

    settle = not_in_place

    def __init__(self, block: Mirror, like: Tensor) -> None:
        self.names = (block.view.parameter.name,)
        self._box, self._block = box_of(block.view), block
        self._permutation, self._flips, self._sign = block.permutation, block.flips, block.sign
        self._shift = torch.as_tensor(np.array(block.shift), dtype=regular_dtype(like.dtype), device=like.device)
        self._affine = bool(np.any(block.shift))
        alone = [block.without, *([_fixed_points(block)] if block.sign > 0 else [])]
        self._alone = torch.as_tensor(distinct(np.concatenate(alone)), device=like.device)
        self._others = torch.as_tensor(block.without, device=like.device)
        """Places of the flattened box that belong to other blocks."""
        self._scratch = Scratch()

    def with_loops(self, like: Tensor, *, compiled: bool, whole: bool) -> Kernel:
        transposes = self._permutation == (1, 0) and not self._flips and not self._affine
        if not compiled or like.dtype not in WIDTHS or not transposes:
            return self
        tiles = MirroredTiles(self._others.numpy(), self._sign, self._box.shape[0])
        return Looped(self, OnArrays(self.names[0], tiles, self._box.within))

    def read(self, tensors: Tensors) -> Tensor:
        tensor = tensors[self.names[0]]
        assert tensor is not None
        return self._box.read(tensor)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        """Put entries back; those that equal themselves or belong to another block keep their bits."""
        tensor = tensors[self.names[0]]
        assert tensor is not None
        self._box.write(tensor, _keeping(values, self._box.read(tensor), self._alone))

    def land(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        others, image = self._others_of(x), self._image(x)
        both = x.add_(image, alpha=self._sign)
        return self._with(others, (both.add_(self._shift) if self._affine else both).mul_(0.5)), state

    def land_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        other = self.mirrored(metric)
        image = torch.add(self._shift, self.mirrored(x), alpha=self._sign)
        return (metric * x + other * image) / (metric + other)

    def tangent(self, x: Tensor, state: State, *, floor: float = 0.0) -> tuple[Tensor, State]:
        others, image = self._others_of(x), self._image(x)
        noise = None
        if floor:
            # Where the sum of both is zero, their difference is twice either of them, and the same from both sides.
            noise = torch.sub(x, image, alpha=self._sign, out=self._scratch.like(x, 1)).abs_().mul_(floor)
        mean = x.add_(image, alpha=self._sign).mul_(0.5)
        if noise is not None:
            mean.masked_fill_(torch.abs(mean, out=image) < noise, 0.0)
        return self._with(others, mean), state

    def tables(self, names: Names, dtype: torch.dtype) -> Tables | None:
        block = self._block
        """Pairs of an entry and its image, and entries that are their own opposites: half of their shift."""
        every = np.arange(block.view.size)
        image = block.images(every)
        mine = np.ones(block.view.size, bool)
        mine[block.without] = False
        shift = np.broadcast_to(block.shift, [size for size, _ in block.view.dims]).ravel()
        one = np.flatnonzero(mine & (every < image))
        places = places_of(block.view)
        tensor = names[block.view.parameter.name]
        found = tied_pairs((tensor, places[one]), (tensor, places[image[one]]), block.sign, -block.sign * shift[one])
        own = np.flatnonzero(mine & (every == image)) if block.sign < 0 else every[:0]
        return (
            found.then(given_entries(np.full(len(own), tensor), places[own], shift[own] / 2.0)) if len(own) else found
        )

    def noise(self, x: Tensor) -> Tensor:
        """`|x − sign · mirrored(x)|`."""
        return torch.sub(x, self.mirrored(x), alpha=self._sign).abs_()

    def _image(self, x: Tensor) -> Tensor:
        """The mirror image in a buffer. Copies of a transposed matrix go tile by tile; arithmetic on it does not."""
        return self._scratch.like(x, 0).copy_(self.mirrored(x))

    def _others_of(self, x: Tensor) -> Tensor | None:
        return x.take(self._others) if len(self._others) else None

    def _with(self, others: Tensor | None, x: Tensor) -> Tensor:
        """`x`, in place, with the entries of other blocks put back."""
        return x if others is None else put(x, self._others, others)

    def mirrored(self, x: Tensor) -> Tensor:
        """The same entries seen in the mirror; a view where nothing is flipped."""
        return mirrored(x, self._permutation, self._flips)


def mirrored(x: Tensor, permutation: tuple[int, ...], flips: tuple[int, ...]) -> Tensor:
    """The entries of a box with its axes permuted and then flipped; a view where nothing is flipped."""
    turned = x.permute(permutation)
    return turned.flip(flips) if flips else turned


def _fixed_points(block: Mirror) -> np.ndarray:
    """Places in the flattened box that are their own mirror image."""
    sizes = [size for size, _ in block.view.dims]
    steps = row_major_steps(tuple(sizes))
    places = np.zeros(1, np.int64)
    for axis, other in enumerate(block.permutation):
        n, flipped = sizes[axis], axis in block.flips
        i = np.arange(n)
        if other > axis:
            reach = i * steps[axis] + (i[::-1] if flipped else i) * steps[other]
        elif other == axis:
            reach = (i[i == i[::-1]] if flipped else i) * steps[axis]
        else:
            continue
        places = (places[:, None] + reach).ravel()
    return places


def _keeping(values: Tensor, old: Tensor, places: Tensor) -> Tensor:
    """`values`, in place where they are row-major, with the old numbers at some places."""
    if not len(places):
        return values
    kept = old.reshape(-1).index_select(0, places).to(values.dtype)
    return values.reshape(-1).index_copy_(0, places, kept).view(values.shape)


class MirroredProductKernel:
    """Sums along axes of one box and then its mirror, so that images agree to the bit; neither undoes the other."""

    settle = not_in_place
    tables = not_small
    with_loops = without_loops

    def __init__(self, product: ProductKernel, mirror: MirrorKernel) -> None:
        self._product, self._mirror = product, mirror
        self.names = product.names

    def read(self, tensors: Tensors) -> Tensor:
        return self._product.read(tensors)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        self._product.write(tensors, values)

    def land(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        summed, _ = self._product.land(x, None)
        return self._mirror.land(summed, state)

    def land_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        return self._product.land_in_metric(x, metric)

    def tangent(self, x: Tensor, state: State, *, floor: float = 0.0) -> tuple[Tensor, State]:
        # The same for an entry and its image, which are zero together.
        noise = self.noise(x).mul_(floor).add_(mean_norm(x, None, x.numel(), floor)) if floor else None
        summed, _ = self._product.tangent(x, None)
        along, _ = self._mirror.tangent(summed, None)
        return along if noise is None else silenced(along, noise), state

    def noise(self, x: Tensor) -> Tensor:
        return self._mirror.noise(x)


class PairsKernel:
    """`first == ratio · second + shift`: both from one z, in the metric `D = 1 + ratio²`."""

    settle = not_in_place

    def __init__(self, block: Pairs, like: Tensor) -> None:
        self._block = block
        self.names = (block.first.parameter.name, block.second.parameter.name)
        self._boxes = (box_of(block.first), box_of(block.second))
        # The side with the larger scale is z itself, so that equal and opposite entries are one number.
        self._swapped = abs(block.ratio) > 1.0
        ratio, shift = (1.0 / block.ratio, -block.shift / block.ratio) if self._swapped else (block.ratio, block.shift)
        self._ratio = float(ratio)
        self._shift = torch.as_tensor(np.array(shift), dtype=regular_dtype(like.dtype), device=like.device)
        self._affine = bool(np.any(shift))
        self._alone = torch.as_tensor(block.without, device=like.device)

    def with_loops(self, like: Tensor, *, compiled: bool, whole: bool) -> Kernel:
        in_place = all(box.is_view and len(box.shape) == 2 for box in self._boxes)
        if not compiled or like.dtype not in WIDTHS or not in_place or self._affine or len(self._alone):
            return self
        return Looped(self, PairedTiles(self._boxes, self._ratio, swapped=self._swapped))

    def read(self, tensors: Tensors) -> Tensor:
        """Both sides on a new first axis; a missing one is zero."""
        pieces = [
            None if (tensor := tensors[name]) is None else box.read(tensor)
            for name, box in zip(self.names, self._boxes, strict=True)
        ]
        some = next(piece for piece in pieces if piece is not None)
        return torch.stack([torch.zeros_like(some) if piece is None else piece for piece in pieces])

    def write(self, tensors: Tensors, values: Tensor) -> None:
        """Put both sides back; entries that belong to another block keep their bits."""
        for name, box, piece in zip(self.names, self._boxes, values, strict=True):
            tensor = tensors[name]
            if tensor is not None:
                box.write(tensor, _keeping(piece, box.read(tensor), self._alone))

    def land(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        scaled, plain = (x[1], x[0]) if self._swapped else (x[0], x[1])
        z = self._common(scaled - self._shift if self._affine else scaled, plain)
        other = z * self._ratio
        other = other.add_(self._shift) if self._affine else other
        return torch.stack([z, other] if self._swapped else [other, z]), state

    def land_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        (scaled, plain), (heavy, light) = ((y[1], y[0]) if self._swapped else (y[0], y[1]) for y in (x, metric))
        z = heavy * self._ratio * (scaled - self._shift) + light * plain
        z = z / (heavy * self._ratio**2 + light)
        other = z * self._ratio + self._shift
        return torch.stack([z, other] if self._swapped else [other, z])

    def tangent(self, x: Tensor, state: State, *, floor: float = 0.0) -> tuple[Tensor, State]:
        noise = mean_norm(x, (0,), 2, 2.0 * floor) if floor else None
        scaled, plain = (x[1], x[0]) if self._swapped else (x[0], x[1])
        z = self._common(scaled, plain)
        other = z * self._ratio
        along = torch.stack([z, other] if self._swapped else [other, z])
        return along if noise is None else silenced(along, noise), state

    def tables(self, names: Names, dtype: torch.dtype) -> Tables | None:
        block = self._block
        mine = np.ones(block.first.size, bool)
        mine[block.without] = False
        shift = np.broadcast_to(block.shift, [size for size, _ in block.first.dims]).ravel()[mine]
        first, second = ((names[view.parameter.name], places_of(view)[mine]) for view in (block.first, block.second))
        if abs(block.ratio) > 1.0:
            return tied_pairs(first, second, 1.0 / block.ratio, -shift / block.ratio)
        return tied_pairs(second, first, block.ratio, shift)

    def noise(self, x: Tensor) -> Tensor:
        """Twice the root mean square of a pair."""
        return mean_norm(x, (0,), 2, 2.0).expand(x.shape).contiguous()

    def _common(self, scaled: Tensor, plain: Tensor) -> Tensor:
        # As a change of `plain`, so that a pair that agrees already keeps its bits.
        gap = torch.add(scaled, plain, alpha=-self._ratio)
        return gap.mul_(self._ratio / (1.0 + self._ratio * self._ratio)).add_(plain)


class MirroredTiles:
    """A square matrix and its transpose, equal or opposite; entries of other blocks are put back."""

    def __init__(self, others: np.ndarray, sign: float, size: int) -> None:
        from affinet.kernels.loops import openmp, tiles

        self._run, self._team, self._sign = tiles.mirror, openmp.team, sign
        self._others = others
        counts = -(-size // tiles.TILE)
        self._tiles = np.stack(np.triu_indices(counts), axis=1)

    def __call__(self, x: np.ndarray, threads: int, *, affine: bool, quiet: float) -> None:
        # Put back here already, since `x` may be the parameter itself.
        kept = x.reshape(-1)[self._others]
        self._run(x, self._tiles, self._sign, quiet, self._team(x.size, threads))
        x.reshape(-1)[self._others] = kept


class PairedTiles:
    """Two matrices of which one is `ratio` times the other, entry by entry, in any memory order, where they lie.

    The first is the larger one if `swapped`. Nothing is shifted, so that affine or not is the same.
    """

    def __init__(self, boxes: Sequence[Box], ratio: float, *, swapped: bool) -> None:
        from affinet.kernels.loops import openmp, tiles

        self._boxes, self._ratio, self._swapped = boxes, ratio, swapped
        self._loops, self._team = tiles, openmp.team

    def on_entries(self, x: Tensor, *, affine: bool, quiet: float) -> bool:
        """False: both sides were copied into one tensor already, where torch's own operations are as quick."""
        return False

    def on_tensors(self, tensors: Tensors, *, affine: bool, quiet: float) -> bool:
        sides = [side for box in self._boxes if (side := tensors[box.name]) is not None]
        if len(sides) < 2 or not all(map(fit, sides)) or sides[0].dtype != sides[1].dtype:
            return False
        views = [box.read(side) for box, side in zip(self._boxes, sides, strict=True)]
        plain, scaled = (view.detach().numpy() for view in (views if self._swapped else views[::-1]))
        if not plain.flags.c_contiguous:
            plain, scaled = plain.T, scaled.T
        if not plain.flags.c_contiguous or not (scaled.flags.c_contiguous or scaled.T.flags.c_contiguous):
            return False
        threads = self._team(plain.size, torch.get_num_threads())
        if scaled.flags.c_contiguous:
            self._loops.multiples(scaled.reshape(-1), plain.reshape(-1), self._ratio, quiet, threads)
        else:
            places = tiles_of(plain.shape, self._loops.TILE)
            self._loops.pairs(scaled.T, plain, places, self._ratio, quiet, threads)
        for side in sides:
            increment_version(side)
        return True


@cache
def tiles_of(shape: tuple[int, int], size: int) -> np.ndarray:
    """The places of all tiles of a matrix, in tiles."""
    counts = [-(-extent // size) for extent in shape]
    return np.stack([index.ravel() for index in np.indices(counts)], axis=1)
