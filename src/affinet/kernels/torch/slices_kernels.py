"""Kernels that apply one small orthonormal basis to every cell, and loops for cells with given sums."""

from __future__ import annotations

from math import prod, sqrt

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.commuting import Commuting
from affinet.blocks.offsets import Nest, Offsets, merged
from affinet.blocks.places import Part
from affinet.blocks.slices import Slices
from affinet.errors import AttachError
from affinet.kernels.torch.access import Box, Gathered, Tensors, box_of, cells_box
from affinet.kernels.torch.crossing import crossing
from affinet.kernels.torch.kernel import Kernel, State, not_in_place
from affinet.kernels.torch.looped import WIDTHS, Looped, OnArrays
from affinet.kernels.torch.precision import exact_matmul, irregular_dtype, mean_norm, regular_dtype, silenced
from affinet.kernels.torch.small_tables import MOST_PRODUCTS, Names, Tables, not_small, plain_components

NOTHING = np.zeros(1)
"""The totals of cells in a tangent part: zero."""


class Cells:
    """The projection of one set of slices on a tensor whose axes are the loops.

    Law: with orthonormal rows Q, `x − Qᵀ(Q x − target)` is the nearest point of each cell. For a single row of equal
    numbers no product is needed: every entry takes an equal share of the gap of the sum.
    """

    def __init__(self, block: Slices, sizes: tuple[int, ...], inner: tuple[int, ...], like: Tensor) -> None:
        self._inner = inner
        self._outer = tuple(axis for axis in range(len(sizes)) if axis not in inner)
        self._sizes = sizes
        self.count = prod(sizes[axis] for axis in inner)
        dtype, wide, device = regular_dtype(like.dtype), irregular_dtype(like.device), like.device
        sizes_over_cells = [n if axis in self._outer else 1 for axis, n in enumerate(sizes)]
        # Without an inner axis each entry is a cell; `mean(())` would be the mean of all entries.
        self._mean = bool(inner) and len(block.basis) == 1 and not any(block.basis.strides)
        if self._mean:
            total = block.target * np.sign(block.basis[0, 0]) * sqrt(self.count)
            shape = sizes_over_cells if len(total) > 1 else [1] * len(sizes)
            self._total = torch.as_tensor(total.reshape(shape), dtype=dtype, device=device)
            self._affine = bool(np.any(total))
        else:
            self._block, self._device = block, device
            self._factors: dict[torch.dtype, tuple[Tensor, Tensor]] = {}
            self._factor(dtype)
        self._pinned = torch.as_tensor(block.pinned, device=device)
        self._values = torch.as_tensor(block.values, dtype=wide, device=device)
        copies = torch.as_tensor(block.copies, device=device)
        self._members, self._representatives, self._signs = copies[:, 0], copies[:, 1], copies[:, 2]
        self._exact = bool(len(block.pinned) or len(block.copies))

    @property
    def trailing(self) -> bool:
        """Whether the entries of a cell are the last axes."""
        return self._inner == tuple(range(len(self._outer), len(self._sizes)))

    @property
    def totals(self) -> Tensor | None:
        """The sum of every cell, where that is its only equation; else None."""
        return self._total if self._mean else None

    def land(self, x: Tensor) -> Tensor:
        """Nearest point of every cell; may write to `x`."""
        if self._mean:
            gap = self._summed(x)
            return x.sub_(gap.sub_(self._total) if self._affine else gap, alpha=1.0 / self.count)
        cells = self._flat(x)
        moved = self._unflat(self._moved(cells, affine=True))
        return self.finished(moved) if self._exact else moved

    def land_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        """`x − D⁻¹Qᵀ (Q D⁻¹ Qᵀ)⁻¹ (Q x − target)` in every cell, with D the metric."""
        ease = metric.reciprocal()
        if self._mean:
            gap = self._summed(x) - self._total
            return x - ease * (gap / ease.sum(self._inner, keepdim=True))
        cells, eased = self._flat(x), self._flat(ease)
        wide, wide_ease = exact_matmul(cells), exact_matmul(eased)
        basis, target = self._factor(wide.dtype)
        system = (basis * wide_ease[:, None, :]) @ basis.T
        gap = torch.linalg.solve(system, (wide @ basis.T - target)[..., None])[..., 0]
        moved = self._unflat((wide - wide_ease * (gap @ basis)).to(x.dtype))
        return self.finished(moved)

    def tangent(self, x: Tensor, floor: float) -> Tensor:
        """The part of every cell that changes none of its equations, without noise; may write to `x`."""
        if self._mean:
            # In a cell whose tangent part is zero all entries equal the mean, so that the rms is the size of the mean.
            total = self._summed(x)
            noise = total.abs().mul_(2.0 * floor / self.count) if floor else None
            tangent = x.sub_(total, alpha=1.0 / self.count)
        else:
            level = mean_norm(x, self._inner, self.count, floor) if floor else None
            noise = None if level is None else level.add(self.noise(x), alpha=floor)
            cells = self._moved(self._flat(x), affine=False)
            tangent = self._unflat(self._copied(cells.index_fill_(1, self._pinned, 0.0)) if self._exact else cells)
        return tangent if noise is None else silenced(tangent, noise)

    def finished(self, x: Tensor) -> Tensor:
        """`x` with pinned entries set and equal entries copied, exact to the bit."""
        if not self._exact:
            return x
        cells = self._flat(x).clone()
        cells[:, self._pinned] = self._values.to(x.dtype)
        return self._unflat(self._copied(cells))

    def noise(self, x: Tensor) -> Tensor:
        """The size of each entry; for equal or opposite entries, the size of their representative."""
        magnitudes = x.abs()
        if not len(self._members):
            return magnitudes
        cells = self._flat(magnitudes)
        cells[:, self._members] = cells[:, self._representatives]
        return self._unflat(cells)

    def _summed(self, x: Tensor) -> Tensor:
        return x.sum(self._inner, keepdim=True)

    def _factor(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Basis and target in a dtype, computed on first use."""
        if dtype not in self._factors:
            self._factors[dtype] = (
                torch.as_tensor(np.array(self._block.basis), dtype=dtype, device=self._device),
                torch.as_tensor(np.array(self._block.target), dtype=dtype, device=self._device),
            )
        return self._factors[dtype]

    def _moved(self, cells: Tensor, *, affine: bool) -> Tensor:
        wide = exact_matmul(cells)
        basis, target = self._factor(wide.dtype)
        gap = wide @ basis.T
        if affine:
            gap -= target
        return (wide - gap @ basis).to(cells.dtype)

    def _copied(self, cells: Tensor) -> Tensor:
        if len(self._members):
            cells[:, self._members] = cells[:, self._representatives] * self._signs.to(cells.dtype)
        return cells

    def _flat(self, x: Tensor) -> Tensor:
        return x.permute(*self._outer, *self._inner).reshape(-1, self.count)

    def _unflat(self, cells: Tensor) -> Tensor:
        order = (*self._outer, *self._inner)
        return cells.reshape([self._sizes[axis] for axis in order]).permute(*np.argsort(order).tolist())


class SlicesKernel:
    """Slices of one parameter."""

    settle = not_in_place

    def __init__(self, block: Slices, like: Tensor) -> None:
        self._block = block
        self.names = (block.parameter.name,)
        box = cells_box(self.names[0], block.offset, block.outer, block.inner, like.device)
        if box is None:
            positions = (block.offset + block.outer.table()[:, None] + block.inner.table()).ravel()
            self._access: Box | Gathered = Gathered((Part(block.parameter, positions),), like.device)
            sizes: tuple[int, ...] = (block.outer.size, block.inner.size)
            cells = 1
            like = like.new_empty(0, dtype=torch.float64)
        else:
            self._access, cells = box
            sizes = self._access.shape
        self._sizes = sizes
        self._cells = Cells(block, sizes, tuple(range(cells, len(sizes))), like)

    def read(self, tensors: Tensors) -> Tensor:
        if isinstance(self._access, Gathered):
            return self._access.read(tensors).view(self._sizes)
        tensor = tensors[self.names[0]]
        assert tensor is not None
        return self._access.read(tensor)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        if isinstance(self._access, Gathered):
            self._access.write(tensors, values.reshape(-1))
            return
        tensor = tensors[self.names[0]]
        assert tensor is not None
        self._access.write(tensor, values)

    def with_loops(self, like: Tensor, *, compiled: bool, full_parameter: bool) -> Kernel:
        totals = self._cells.totals
        trailing = not isinstance(self._access, Gathered) and self._cells.trailing
        if not compiled or like.dtype not in WIDTHS or totals is None or not trailing:
            return self
        cells = prod(self._sizes) // self._cells.count, self._cells.count
        return Looped(self, OnArrays(self.names[0], EvenSums(cells, totals), self._within))

    def _within(self, flat: np.ndarray) -> np.ndarray | None:
        """The cells as a view of the flat parameter; None unless they are contiguous."""
        return None if isinstance(self._access, Gathered) else self._access.within(flat)

    def land(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self._cells.land(x), state

    def land_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        return self._cells.land_in_metric(x, metric)

    def tangent(self, x: Tensor, state: State, *, floor: float = 0.0) -> tuple[Tensor, State]:
        return self._cells.tangent(x, floor), state

    def tables(self, names: Names, dtype: torch.dtype) -> Tables | None:
        block = self._block
        cells, n, r = block.outer.size, block.inner.size, len(block.basis)
        if cells * n * r > MOST_PRODUCTS:
            return None
        tensor = names[block.parameter.name]
        step = _step(block.inner)
        if block.even and step and not len(block.pinned) and not len(block.copies):
            table = np.zeros((cells, 5), np.int64)
            table[:, 0], table[:, 1] = tensor, block.offset + block.outer.table()
            table[:, 2], table[:, 3] = n, step
            table[:, 4] = np.arange(cells) if len(block.target) > 1 else 0
            return Tables(cells=table, numbers=(block.target * np.sign(block.basis[0, 0]) * np.sqrt(n)).ravel())
        places = block.offset + block.outer.table()[:, None] + block.inner.table()
        exact = np.concatenate([[len(block.pinned)], block.pinned, [len(block.copies)], block.copies.ravel()])
        components = np.zeros((cells, 11), np.int64)
        numbers, at = [block.basis.ravel()], block.basis.size
        for column, values, width in ((6, block.target, r), (8, block.values, len(block.pinned))):
            numbers.append(np.asarray(values).ravel())
            components[:, column] = at + (np.arange(cells) * width if len(values) > 1 else 0)
            at += np.asarray(values).size
        components[:, 5], components[:, 9] = r, 1 + len(block.pinned)
        return plain_components(
            np.full(cells * n, tensor), places.ravel(), n, components, np.concatenate(numbers), exact
        )

    def noise(self, x: Tensor) -> Tensor:
        return self._cells.noise(x)


class ProductKernel:
    """Several sets of slices along axes of one box; their projections commute."""

    settle = not_in_place
    tables = not_small

    def __init__(self, block: Commuting, like: Tensor) -> None:
        self._block = block
        self.names = (block.view.parameter.name,)
        self._box = box_of(block.view)
        sizes = tuple(size for size, _ in block.view.dims)
        self._parts = [
            Cells(part, sizes, inner, like) for part, inner in zip(block.slices, block.inner_dims, strict=True)
        ]
        self._axes = block.inner_dims if len(sizes) == 2 and len(block.slices) == 2 else ()

    def with_loops(self, like: Tensor, *, compiled: bool, full_parameter: bool) -> Kernel:
        if not compiled or like.dtype not in WIDTHS:
            return self
        if both := self._totals_both_ways():
            return Looped(self, OnArrays(self.names[0], CrossSums(both), self._box.within))
        loops = crossing(self._block, (self._box,))
        return self if loops is None else Looped(self, loops)

    def _totals_both_ways(self) -> tuple[Tensor, Tensor] | None:
        """The sums of rows and of columns, where there are no further equations and all coefficients are equal."""
        totals = {axes: part.totals for axes, part in zip(self._axes, self._parts, strict=False)}
        rows, columns = totals.get((1,)), totals.get((0,))
        return None if rows is None or columns is None else (rows, columns)

    def read(self, tensors: Tensors) -> Tensor:
        tensor = tensors[self.names[0]]
        assert tensor is not None
        return self._box.read(tensor)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        tensor = tensors[self.names[0]]
        assert tensor is not None
        self._box.write(tensor, values)

    def land(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        for part in self._parts:
            x = part.land(x)
        for part in self._parts:
            x = part.finished(x)
        return x, state

    def land_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        raise AttachError("projections along several axes do not commute in the optimizer's metric. Use .project().")

    def tangent(self, x: Tensor, state: State, *, floor: float = 0.0) -> tuple[Tensor, State]:
        noise = torch.add(mean_norm(x, None, x.numel(), floor), self.noise(x), alpha=floor) if floor else None
        for part in self._parts:
            x = part.tangent(x, 0.0)
        return x if noise is None else silenced(x, noise), state

    def noise(self, x: Tensor) -> Tensor:
        for part in self._parts:
            x = part.noise(x)
        return x


class EvenSums:
    """A loop for cells with one equation of equal coefficients: sum, share and silence a row while it is in cache."""

    def __init__(self, cells: tuple[int, int], totals: Tensor) -> None:
        from affinet.kernels.loops import openmp, sums

        self._run, self._team = sums.even_sums, openmp.team
        self._cells, self._totals = cells, _numbers(totals)

    def __call__(self, x: np.ndarray, threads: int, *, affine: bool, quiet: float) -> None:
        self._run(x.reshape(self._cells), self._totals if affine else NOTHING, quiet, self._team(x.size, threads))


class CrossSums:
    """A loop for given sums of the rows and of the columns of one matrix."""

    BLOCKS = 8
    """Parts of the rows, whose column sums are added in order, independent of the number of threads."""

    def __init__(self, totals: tuple[Tensor, Tensor]) -> None:
        from affinet.kernels.loops import openmp, sums

        self._run, self._team = sums.cross_sums, openmp.team
        self._totals = tuple(map(_numbers, totals))

    def __call__(self, x: np.ndarray, threads: int, *, affine: bool, quiet: float) -> None:
        totals = self._totals if affine else (NOTHING, NOTHING)
        self._run(x, *totals, quiet, min(self.BLOCKS, len(x)), self._team(x.size, threads))


def _numbers(totals: Tensor) -> np.ndarray:
    numbers: np.ndarray = totals.detach().to("cpu", torch.float64).reshape(-1).numpy()
    return numbers


def _step(inner: Offsets) -> int:
    """The step between the entries of a cell, where it is constant and more than zero; else zero."""
    dims = merged(inner.dims) if isinstance(inner, Nest) else ()
    return max(0, dims[0][1]) if len(dims) == 1 else 0
