"""Kernels of mirrors and of pairs of boxes, by the mean of two views, exact to the bit, and loops over tiles."""

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
from affinet.kernels.torch.looped import WIDTHS, Looped, OnArrays, fits_loops
from affinet.kernels.torch.precision import mean_norm, regular_dtype, silenced
from affinet.kernels.torch.putting import put
from affinet.kernels.torch.scratch import Scratch
from affinet.kernels.torch.slices_kernels import ProductKernel
from affinet.kernels.torch.small_tables import Names, Tables, given_entries, not_small, places_of, tied_pairs
from affinet.language.calculus.terms import row_major_steps
from affinet.system.distinct import distinct


class MirrorKernel:
    """`x ↦ (x + sign · mirrored(x) + shift) / 2`: an entry and its image are the same sum, so they agree to the bit."""

    settle = not_in_place

    def __init__(self, block: Mirror, like: Tensor) -> None:
        self.names = (block.view.parameter.name,)
        self._box, self._block = box_of(block.view), block
        self._permutation, self._flips, self._sign = block.permutation, block.flips, block.sign
        self._shift = torch.as_tensor(np.array(block.shift), dtype=regular_dtype(like.dtype), device=like.device)
        self._affine = bool(np.any(block.shift))
        unmoved = [block.without, *([_fixed_points(block)] if block.sign > 0 else [])]
        self._unmoved = torch.as_tensor(distinct(np.concatenate(unmoved)), device=like.device)
        self._excluded = torch.as_tensor(block.without, device=like.device)
        """Places of the flattened box that belong to other blocks."""
        self._scratch = Scratch()

    def with_loops(self, like: Tensor, *, compiled: bool, full_parameter: bool) -> Kernel:
        transposes = self._permutation == (1, 0) and not self._flips and not self._affine
        if not compiled or like.dtype not in WIDTHS or not transposes:
            return self
        tiles = MirroredTiles(self._excluded.numpy(), self._sign, self._box.shape[0])
        return Looped(self, OnArrays(self.names[0], tiles, self._box.rows_within))

    def read(self, tensors: Tensors) -> Tensor:
        tensor = tensors[self.names[0]]
        assert tensor is not None
        return self._box.read(tensor)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        """Write entries back; those that are their own image or belong to another block keep their bits."""
        tensor = tensors[self.names[0]]
        assert tensor is not None
        self._box.write(tensor, _keeping(values, self._box.read(tensor), self._unmoved))

    def land(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        excluded, image = self._excluded_entries(x), self._image(x)
        both = x.add_(image, alpha=self._sign)
        return self._restored(excluded, (both.add_(self._shift) if self._affine else both).mul_(0.5)), state

    def land_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        other = self.mirrored(metric)
        image = torch.add(self._shift, self.mirrored(x), alpha=self._sign)
        return (metric * x + other * image) / (metric + other)

    def tangent(self, x: Tensor, state: State, *, floor: float = 0.0) -> tuple[Tensor, State]:
        excluded, image = self._excluded_entries(x), self._image(x)
        noise = None
        if floor:
            # Where the sum of both is zero, their difference is twice either one, and the same from both sides.
            noise = torch.sub(x, image, alpha=self._sign, out=self._scratch.like(x, 1)).abs_().mul_(floor)
        mean = x.add_(image, alpha=self._sign).mul_(0.5)
        if noise is not None:
            mean.masked_fill_(torch.abs(mean, out=image) < noise, 0.0)
        return self._restored(excluded, mean), state

    def tables(self, names: Names, dtype: torch.dtype) -> Tables | None:
        block = self._block
        # Pairs of an entry and its image, and entries that are their own opposites, which equal half of their shift.
        every = np.arange(block.view.size)
        image = block.images(every)
        included = np.ones(block.view.size, bool)
        included[block.without] = False
        shift = np.broadcast_to(block.shift, [size for size, _ in block.view.dims]).ravel()
        first = np.flatnonzero(included & (every < image))
        places = places_of(block.view)
        tensor = names[block.view.parameter.name]
        pairs = tied_pairs(
            (tensor, places[first]), (tensor, places[image[first]]), block.sign, -block.sign * shift[first]
        )
        fixed = np.flatnonzero(included & (every == image)) if block.sign < 0 else every[:0]
        return (
            pairs.followed_by(given_entries(np.full(len(fixed), tensor), places[fixed], shift[fixed] / 2.0))
            if len(fixed)
            else pairs
        )

    def noise(self, x: Tensor) -> Tensor:
        """`|x − sign · mirrored(x)|`."""
        return torch.sub(x, self.mirrored(x), alpha=self._sign).abs_()

    def _image(self, x: Tensor) -> Tensor:
        """The mirror image in a buffer: torch copies transposed matrices by tiles, but does not add them by tiles."""
        return self._scratch.like(x, 0).copy_(self.mirrored(x))

    def _excluded_entries(self, x: Tensor) -> Tensor | None:
        return x.take(self._excluded) if len(self._excluded) else None

    def _restored(self, excluded: Tensor | None, x: Tensor) -> Tensor:
        """`x`, in place, with the entries of other blocks restored."""
        return x if excluded is None else put(x, self._excluded, excluded)

    def mirrored(self, x: Tensor) -> Tensor:
        """The mirror images of the entries, without the sign; a view where nothing is flipped."""
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
    """`values`, in place where they are row-major, with the numbers of `old` at some places."""
    if not len(places):
        return values
    restored = old.reshape(-1).index_select(0, places).to(values.dtype)
    return values.reshape(-1).index_copy_(0, places, restored).view(values.shape)


class MirroredProductKernel:
    """Sums along axes of one box, and then its mirror, so that images agree to the bit; the two commute."""

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
        # The noise of an entry and of its image is the same, so that both become zero.
        noise = self.noise(x).mul_(floor).add_(mean_norm(x, None, x.numel(), floor)) if floor else None
        summed, _ = self._product.tangent(x, None)
        tangent, _ = self._mirror.tangent(summed, None)
        return tangent if noise is None else silenced(tangent, noise), state

    def noise(self, x: Tensor) -> Tensor:
        return self._mirror.noise(x)


class PairsKernel:
    """`first == ratio · second + shift`: both are computed from one z, in the metric `D = 1 + ratio²`."""

    settle = not_in_place

    def __init__(self, block: Pairs, like: Tensor) -> None:
        self._block = block
        self.names = (block.first.parameter.name, block.second.parameter.name)
        self._boxes = (box_of(block.first), box_of(block.second))
        # The side with the larger scale is z itself, so that equal and opposite entries agree to the bit.
        self._swapped = abs(block.ratio) > 1.0
        ratio, shift = (1.0 / block.ratio, -block.shift / block.ratio) if self._swapped else (block.ratio, block.shift)
        self._ratio = float(ratio)
        self._shift = torch.as_tensor(np.array(shift), dtype=regular_dtype(like.dtype), device=like.device)
        self._affine = bool(np.any(shift))
        self._unmoved = torch.as_tensor(block.without, device=like.device)

    def with_loops(self, like: Tensor, *, compiled: bool, full_parameter: bool) -> Kernel:
        in_place = all(box.is_view and len(box.shape) == 2 for box in self._boxes)
        if not compiled or like.dtype not in WIDTHS or not in_place or self._affine:
            return self
        return Looped(self, PairedTiles(self._boxes, self._ratio, self._block.without, swapped=self._swapped))

    def read(self, tensors: Tensors) -> Tensor:
        """Both sides on a new first axis; a missing side is zero."""
        pieces = [
            None if (tensor := tensors[name]) is None else box.read(tensor)
            for name, box in zip(self.names, self._boxes, strict=True)
        ]
        like = next(piece for piece in pieces if piece is not None)
        return torch.stack([torch.zeros_like(like) if piece is None else piece for piece in pieces])

    def write(self, tensors: Tensors, values: Tensor) -> None:
        """Write both sides back; entries that belong to another block keep their bits."""
        for name, box, piece in zip(self.names, self._boxes, values, strict=True):
            tensor = tensors[name]
            if tensor is not None:
                box.write(tensor, _keeping(piece, box.read(tensor), self._unmoved))

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
        tangent = torch.stack([z, other] if self._swapped else [other, z])
        return tangent if noise is None else silenced(tangent, noise), state

    def tables(self, names: Names, dtype: torch.dtype) -> Tables | None:
        block = self._block
        included = np.ones(block.first.size, bool)
        included[block.without] = False
        shift = np.broadcast_to(block.shift, [size for size, _ in block.first.dims]).ravel()[included]
        first, second = (
            (names[view.parameter.name], places_of(view)[included]) for view in (block.first, block.second)
        )
        if abs(block.ratio) > 1.0:
            return tied_pairs(first, second, 1.0 / block.ratio, -shift / block.ratio)
        return tied_pairs(second, first, block.ratio, shift)

    def noise(self, x: Tensor) -> Tensor:
        """Twice the root mean square of a pair."""
        return mean_norm(x, (0,), 2, 2.0).expand(x.shape).contiguous()

    def _common(self, scaled: Tensor, plain: Tensor) -> Tensor:
        # Computed as a change of `plain`, so that a pair that agrees already keeps its bits.
        gap = torch.add(scaled, plain, alpha=-self._ratio)
        return gap.mul_(self._ratio / (1.0 + self._ratio * self._ratio)).add_(plain)


class MirroredTiles:
    """A loop that makes a square matrix and its transpose equal or opposite, and restores entries of other blocks."""

    def __init__(self, excluded: np.ndarray, sign: float, size: int) -> None:
        from affinet.kernels.loops import openmp, tiles

        self._run, self._team, self._sign = tiles.mirror, openmp.team, sign
        self._excluded = excluded
        counts = -(-size // tiles.TILE)
        self._tiles = np.stack(np.triu_indices(counts), axis=1)

    def __call__(self, x: np.ndarray, threads: int, *, affine: bool, quiet: float) -> None:
        # Restored already here, since `x` may be the parameter itself.
        excluded = x.flat[self._excluded]
        flat, width = flat_rows(x)
        self._run(flat, len(x), width, self._tiles, self._sign, quiet, self._team(x.size, threads))
        x.flat[self._excluded] = excluded


class PairedTiles:
    """A loop that makes one matrix `ratio` times another, entry by entry, in place and in any memory order.

    If `swapped`, the first matrix is the larger one. There is no shift, so that `affine` makes no difference. Entries
    at the places `excluded` of both matrices belong to other blocks, and are restored.
    """

    def __init__(self, boxes: Sequence[Box], ratio: float, excluded: np.ndarray, *, swapped: bool) -> None:
        self._boxes, self._ratio, self._excluded, self._swapped = boxes, ratio, excluded, swapped

    def on_entries(self, x: Tensor, *, affine: bool, quiet: float) -> bool:
        """False: both sides were copied into one tensor already, where torch's own operations are as fast."""
        return False

    def on_tensors(self, tensors: Tensors, *, affine: bool, quiet: float) -> bool:
        sides = [side for box in self._boxes if (side := tensors[box.name]) is not None]
        if len(sides) < 2 or not all(map(fits_loops, sides)) or sides[0].dtype != sides[1].dtype:
            return False
        views = [box.read(side) for box, side in zip(self._boxes, sides, strict=True)]
        matrices = [view.detach().numpy() for view in views]
        excluded = [matrix.flat[self._excluded] for matrix in matrices]
        plain, scaled = matrices if self._swapped else matrices[::-1]
        if not fold(scaled, plain, self._ratio, quiet):
            return False
        for matrix, numbers in zip(matrices, excluded, strict=True):
            matrix.flat[self._excluded] = numbers
        for side in sides:
            increment_version(side)
        return True


def fold(scaled: np.ndarray, plain: np.ndarray, ratio: float, quiet: float) -> bool:
    """Move two matrices to the nearest pair with `scaled == ratio · plain`, |ratio| ≤ 1; False where loops cannot.

    They can where one index of each matrix follows neighbours in memory: the same one, with nothing in between, or not
    the same.
    """
    from affinet.kernels.loops import openmp, tiles

    threads = openmp.team(plain.size, torch.get_num_threads())
    if plain.T.flags.c_contiguous:
        plain, scaled = plain.T, scaled.T
    if plain.flags.c_contiguous and scaled.flags.c_contiguous:
        tiles.multiples(scaled.reshape(-1), plain.reshape(-1), ratio, quiet, threads)
        return True
    if not in_rows(plain):
        plain, scaled = plain.T, scaled.T
    if not in_rows(plain) or not in_rows(scaled.T):
        return False
    (scaled_rows, scaled_width), (plain_rows, plain_width) = flat_rows(scaled.T), flat_rows(plain)
    places = tiles_of(plain.shape, tiles.TILE)
    widths = (scaled_width, plain_width)
    tiles.pairs(scaled_rows, plain_rows, plain.shape, widths, places, ratio, quiet, threads)
    return True


def in_rows(x: np.ndarray) -> bool:
    """Whether the entries of each row of a matrix are neighbours in memory, and its rows come one after the other."""
    return x.strides[1] == x.itemsize and x.strides[0] >= x.shape[1] * x.itemsize


def flat_rows(x: np.ndarray) -> tuple[np.ndarray, int]:
    """The numbers of a matrix in rows, with those between them, as one flat array; and how far apart the rows are."""
    width = x.strides[0] // x.itemsize
    size = width * (len(x) - 1) + x.shape[1]
    return np.lib.stride_tricks.as_strided(x, (size,), (x.itemsize,)), width


@cache
def tiles_of(shape: tuple[int, int], size: int) -> np.ndarray:
    """The row and column numbers of all tiles of a matrix."""
    counts = [-(-extent // size) for extent in shape]
    return np.stack([index.ravel() for index in np.indices(counts)], axis=1)
