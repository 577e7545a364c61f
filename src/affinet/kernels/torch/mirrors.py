"""Symmetric boxes and pairs of boxes: the mean of two views, exact to the bit."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.mirror import Mirror
from affinet.blocks.mirrored_product import MirroredProduct
from affinet.blocks.pairs import Pairs
from affinet.kernels.torch.access import Tensors, box_of
from affinet.kernels.torch.precision import mean_norm, regular_dtype, silenced
from affinet.kernels.torch.putting import put
from affinet.kernels.torch.scratch import Scratch
from affinet.kernels.torch.slices import ProductKernel
from affinet.language.calculus.terms import row_major_steps
from affinet.system.distinct import distinct


class MirrorKernel:
    """`x ↦ (x + sign · mirrored(x) + shift) / 2`: both images come from the same sum, so they agree to the bit."""

    def __init__(self, block: Mirror, like: Tensor) -> None:
        self.names = (block.view.parameter.name,)
        self.box = box_of(block.view)
        self._permutation, self._flips, self._sign = block.permutation, block.flips, block.sign
        self._shift = torch.as_tensor(np.array(block.shift), dtype=regular_dtype(like.dtype), device=like.device)
        self._affine = bool(np.any(block.shift))
        alone = [block.without, *([_fixed_points(block)] if block.sign > 0 else [])]
        self._alone = torch.as_tensor(distinct(np.concatenate(alone)), device=like.device)
        self.others = torch.as_tensor(block.without, device=like.device)
        """Places of the flattened box that belong to other blocks."""
        self._scratch = Scratch()

    @property
    def transposes(self) -> bool:
        """Whether a square matrix mirrors its own transpose, without shifts."""
        return self._permutation == (1, 0) and not self._flips and not self._affine

    def read(self, tensors: Tensors) -> Tensor:
        tensor = tensors[self.names[0]]
        assert tensor is not None
        return self.box.read(tensor)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        """Put entries back; those that equal themselves or belong to another block keep their bits."""
        tensor = tensors[self.names[0]]
        assert tensor is not None
        self.box.write(tensor, _keeping(values, self.box.read(tensor), self._alone))

    def project(self, x: Tensor) -> Tensor:
        """Nearest point; may write to `x`. Entries of other blocks are left as they are."""
        others, image = self._others_of(x), self._image(x)
        both = x.add_(image, alpha=self._sign)
        return self._with(others, (both.add_(self._shift) if self._affine else both).mul_(0.5))

    def project_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        other = self.mirrored(metric)
        image = torch.add(self._shift, self.mirrored(x), alpha=self._sign)
        return (metric * x + other * image) / (metric + other)

    def tangent(self, x: Tensor) -> Tensor:
        others, image = self._others_of(x), self._image(x)
        return self._with(others, x.add_(image, alpha=self._sign).mul_(0.5))

    def quiet_tangent(self, x: Tensor, floor: float) -> Tensor:
        # Where the sum of both is zero, their difference is twice either of them, and the same seen from both sides.
        others, image = self._others_of(x), self._image(x)
        noise = torch.sub(x, image, alpha=self._sign, out=self._scratch.like(x, 1)).abs_().mul_(floor)
        mean = x.add_(image, alpha=self._sign).mul_(0.5)
        faint = torch.abs(mean, out=image) < noise
        return self._with(others, mean.masked_fill_(faint, 0.0))

    def _image(self, x: Tensor) -> Tensor:
        """The mirror image in a buffer. Copies of a transposed matrix go tile by tile; arithmetic on it does not."""
        return self._scratch.like(x, 0).copy_(self.mirrored(x))

    def _others_of(self, x: Tensor) -> Tensor | None:
        return x.take(self.others) if len(self.others) else None

    def _with(self, others: Tensor | None, x: Tensor) -> Tensor:
        """`x`, in place, with the entries of other blocks put back."""
        return x if others is None else put(x, self.others, others)

    def difference(self, x: Tensor) -> Tensor:
        """`|x − sign · mirrored(x)|`."""
        return torch.sub(x, self.mirrored(x), alpha=self._sign).abs_()

    def mirrored(self, x: Tensor) -> Tensor:
        """The same entries seen in the mirror; a view where nothing is flipped."""
        turned = x.permute(self._permutation)
        return turned.flip(self._flips) if self._flips else turned


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

    def __init__(self, block: MirroredProduct, like: Tensor) -> None:
        self._product = ProductKernel(block.product, like)
        self._mirror = MirrorKernel(block.mirror, like)
        self.names = self._product.names

    def read(self, tensors: Tensors) -> Tensor:
        return self._product.read(tensors)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        self._product.write(tensors, values)

    def project(self, x: Tensor) -> Tensor:
        return self._mirror.project(self._product.project(x))

    def project_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        return self._product.project_in_metric(x, metric)

    def tangent(self, x: Tensor) -> Tensor:
        return self._mirror.tangent(self._product.tangent(x))

    def quiet_tangent(self, x: Tensor, floor: float) -> Tensor:
        # The same for an entry and its image, which are zero together.
        noise = self._mirror.difference(x).mul_(floor).add_(mean_norm(x, None, x.numel(), floor))
        return silenced(self.tangent(x), noise)


class PairsKernel:
    """`first == ratio · second + shift`: both from one z, in the metric `D = 1 + ratio²`."""

    def __init__(self, block: Pairs, like: Tensor) -> None:
        self.names = (block.first.parameter.name, block.second.parameter.name)
        self.boxes = (box_of(block.first), box_of(block.second))
        # The side with the larger scale is z itself, so that equal and opposite entries are one number.
        self.swapped = abs(block.ratio) > 1.0
        ratio, shift = (1.0 / block.ratio, -block.shift / block.ratio) if self.swapped else (block.ratio, block.shift)
        self.ratio = float(ratio)
        self._shift = torch.as_tensor(np.array(shift), dtype=regular_dtype(like.dtype), device=like.device)
        self._affine = bool(np.any(shift))
        self._alone = torch.as_tensor(block.without, device=like.device)

    @property
    def multiplies(self) -> bool:
        """Whether one matrix is a multiple of the other, without shifts and where both can be worked on in place."""
        in_place = all(box.is_view and len(box.shape) == 2 for box in self.boxes)
        return in_place and not self._affine and not len(self._alone)

    def read(self, tensors: Tensors) -> Tensor:
        """Both sides on a new first axis; a missing one is zero."""
        pieces = [
            None if (tensor := tensors[name]) is None else box.read(tensor)
            for name, box in zip(self.names, self.boxes, strict=True)
        ]
        some = next(piece for piece in pieces if piece is not None)
        return torch.stack([torch.zeros_like(some) if piece is None else piece for piece in pieces])

    def write(self, tensors: Tensors, values: Tensor) -> None:
        """Put both sides back; entries that belong to another block keep their bits."""
        for name, box, piece in zip(self.names, self.boxes, values, strict=True):
            tensor = tensors[name]
            if tensor is not None:
                box.write(tensor, _keeping(piece, box.read(tensor), self._alone))

    def project(self, x: Tensor) -> Tensor:
        scaled, plain = (x[1], x[0]) if self.swapped else (x[0], x[1])
        z = self._common(scaled - self._shift if self._affine else scaled, plain)
        other = z * self.ratio
        other = other.add_(self._shift) if self._affine else other
        return torch.stack([z, other] if self.swapped else [other, z])

    def project_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        (scaled, plain), (heavy, light) = ((y[1], y[0]) if self.swapped else (y[0], y[1]) for y in (x, metric))
        z = heavy * self.ratio * (scaled - self._shift) + light * plain
        z = z / (heavy * self.ratio**2 + light)
        other = z * self.ratio + self._shift
        return torch.stack([z, other] if self.swapped else [other, z])

    def tangent(self, x: Tensor) -> Tensor:
        scaled, plain = (x[1], x[0]) if self.swapped else (x[0], x[1])
        z = self._common(scaled, plain)
        other = z * self.ratio
        return torch.stack([z, other] if self.swapped else [other, z])

    def quiet_tangent(self, x: Tensor, floor: float) -> Tensor:
        return silenced(self.tangent(x), mean_norm(x, (0,), 2, 2.0 * floor))

    def _common(self, scaled: Tensor, plain: Tensor) -> Tensor:
        # As a change of `plain`, so that a pair that agrees already keeps its bits.
        gap = torch.add(scaled, plain, alpha=-self.ratio)
        return gap.mul_(self.ratio / (1.0 + self.ratio * self.ratio)).add_(plain)
