"""A kernel of many dense components, by batched products, and a compiled loop over small groups of equations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.classes import Classes
from affinet.blocks.dense import Dense
from affinet.blocks.sparse import Sparse
from affinet.kernels.torch.access import Gathered, Tensors
from affinet.kernels.torch.kernel import Kernel, State, not_in_place
from affinet.kernels.torch.looped import WIDTHS, Looped, OnArrays
from affinet.kernels.torch.precision import exact_matmul, irregular_dtype, mean_norm, regular_dtype_of, silenced
from affinet.kernels.torch.small_tables import MOST_PRODUCTS, Names, Tables, located
from affinet.kernels.torch.tied_kernels import ClassMap
from affinet.kernels.torch.whole import WholeParameter
from affinet.language.calculus.terms import Floats
from affinet.system import lapack

MOST_ENTRIES = 4_096
"""Entries of a group up to which one thread that stays in its cache is faster than torch's matrix products."""


class Unknowns:
    """The free numbers of a component, as y = √D z: the entries, or one number per class of tied entries."""

    def __init__(
        self, block: Dense | Sparse, order: np.ndarray, device: torch.device, plain_dtype: torch.dtype | None = None
    ) -> None:
        classes = block.classes
        plain = classes.plain and (classes.scale == 1.0).all() and not classes.shift.any()
        self.dtype = plain_dtype if plain and plain_dtype is not None else irregular_dtype(device)
        places = classes.representative[order] if plain else None
        self._access = Gathered(block.parts, device, places, self.dtype)
        self._map = None if plain else ClassMap(classes, order, device)
        self.names = self._access.names

    def read(self, tensors: Tensors) -> Tensor:
        return self._access.read(tensors)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        self._access.write(tensors, values)

    def reduced(self, x: Tensor, *, affine: bool) -> Tensor:
        return x if self._map is None else self._map.reduced(x, affine=affine) * self._map.weight.sqrt()

    def reduced_in_metric(self, x: Tensor, metric: Tensor) -> tuple[Tensor, Tensor]:
        """The y nearest in the metric of the entries, and the inverse of the metric of each y."""
        if self._map is None:
            return x, metric.reciprocal()
        z, weight = self._map.reduced_in_metric(x, metric)
        return z * self._map.weight.sqrt(), self._map.weight / weight

    def expanded(self, y: Tensor, *, affine: bool) -> Tensor:
        return y if self._map is None else self._map.expanded(y / self._map.weight.sqrt(), affine=affine)

    def sizes(self, x: Tensor) -> Tensor:
        """Root mean square of the entries of each unknown."""
        return x.abs() if self._map is None else (self._map.summed(x.square()) / self._map.sizes).sqrt_()

    def spread(self, values: Tensor) -> Tensor:
        """The number of each unknown, repeated for all of its entries."""
        return values if self._map is None else values.index_select(0, self._map.class_of)


class DenseKernel:
    """Many components of one shape, by one batched product each way, in the dtype of untied weights.

    Rows of a basis are orthonormal in float64, so that its rounding is relative to the entries, as for slices.
    """

    settle = not_in_place

    def __init__(self, block: Dense, tensors: Mapping[str, Tensor]) -> None:
        self._block = block
        device = tensors[block.parts[0].parameter.name].device
        dtype = regular_dtype_of(tensors[part.parameter.name] for part in block.parts)
        self._unknowns = Unknowns(block, block.members.ravel(), device, dtype)
        self.names = self._unknowns.names
        dtype = self._unknowns.dtype
        self._shape = block.members.shape
        self._basis = torch.as_tensor(block.basis, dtype=dtype, device=device)
        self._target = torch.as_tensor(block.target, dtype=dtype, device=device)

    def with_loops(self, like: Tensor, *, compiled: bool, full_parameter: bool) -> Kernel:
        block = self._block
        fits = like.dtype in WIDTHS and SmallGroups.fits(block) and WholeParameter.fits(block.parts, like)
        if not (compiled and full_parameter and fits):
            return self
        loop = OnArrays(self.names[0], SmallGroups(block, like), WholeParameter.within)
        return Looped(WholeParameter(self, block.parts[0], like), loop)

    def read(self, tensors: Tensors) -> Tensor:
        return self._unknowns.read(tensors)

    def write(self, tensors: Tensors, values: Tensor) -> None:
        self._unknowns.write(tensors, values)

    def land(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y = self._unknowns.reduced(x, affine=True).view(self._shape)
        y = y - self._transposed(self._products(y) - self._target)
        return self._unknowns.expanded(y.reshape(-1), affine=True), state

    def land_in_metric(self, x: Tensor, metric: Tensor) -> Tensor:
        y, ease = (part.view(self._shape) for part in self._unknowns.reduced_in_metric(x, metric))
        # In float64: a metric that spans many orders of magnitude costs digits.
        basis, y, ease = self._basis.double(), y.double(), ease.double()
        system = (basis * ease[:, None, :]) @ basis.transpose(1, 2)
        # A component of smaller rank has rows of zeros, which must not make its system singular.
        empty = (basis.abs().amax(2) == 0).to(y.dtype)
        gap = (basis @ y[..., None])[..., 0] - self._target
        solved = torch.linalg.solve(system + torch.diag_embed(empty), gap[..., None])
        moved = y - ease * (solved.transpose(1, 2) @ basis)[:, 0]
        return self._unknowns.expanded(moved.reshape(-1), affine=True)

    def tangent(self, x: Tensor, state: State, *, floor: float = 0.0) -> tuple[Tensor, State]:
        noise = None
        if floor:
            sizes = self._unknowns.sizes(x).view(self._shape)
            noise = torch.add(mean_norm(sizes, (1,), self._shape[1], floor), sizes, alpha=floor)
        y = self._unknowns.reduced(x, affine=False).view(self._shape)
        y = y - self._transposed(self._products(y))
        tangent = self._unknowns.expanded(y.reshape(-1), affine=False)
        return tangent if noise is None else silenced(tangent, self._unknowns.spread(noise.reshape(-1))), state

    def tables(self, names: Names, dtype: torch.dtype) -> Tables | None:
        block = self._block
        k, r, n = block.basis.shape
        if k * r * n > MOST_PRODUCTS:
            return None
        basis, target, inside = block.basis, block.target, False
        # Not for float64 weights, where its rounding would be visible: five times that of gaps that are nearly zero.
        if dtype == torch.float32 and k == 1 and 2 * r > n and _as_they_are(block.classes):
            basis, target, inside = *_complement(block), True
        tables = _components_of(block, names)
        for components in (tables.plain, tables.tied):
            components[:, 4] = np.arange(len(components)) * basis.shape[1] * n
            components[:, 5], components[:, 10] = basis.shape[1], inside
            components[:, 6] = basis.size + np.arange(len(components)) * target.shape[1]
        tables.numbers = np.concatenate([basis.ravel(), target.ravel()])
        return tables

    def noise(self, x: Tensor) -> Tensor:
        return self._unknowns.spread(self._unknowns.sizes(x))

    def _products(self, y: Tensor) -> Tensor:
        if len(self._basis) == 1:
            return (exact_matmul(self._basis[0]) @ exact_matmul(y[0]))[None].to(y.dtype)
        if self._basis.shape[1] == 1:
            product: Tensor = torch.linalg.vecdot(self._basis[:, 0], y)
            return product.unsqueeze_(1)
        return torch.bmm(exact_matmul(self._basis), exact_matmul(y)[:, :, None])[:, :, 0].to(y.dtype)

    def _transposed(self, gap: Tensor) -> Tensor:
        if len(self._basis) == 1:
            return (exact_matmul(gap[0]) @ exact_matmul(self._basis[0]))[None].to(gap.dtype)
        if self._basis.shape[1] == 1:
            return self._basis[:, 0] * gap
        return torch.bmm(exact_matmul(gap)[:, None], exact_matmul(self._basis))[:, 0].to(gap.dtype)


class SmallGroups:
    """A loop over groups of equations between untied entries of one flat parameter."""

    def __init__(self, block: Dense, like: Tensor) -> None:
        from affinet.kernels.loops import equation_groups, openmp

        self._run, self._team = equation_groups.groups, openmp.team
        kind = np.dtype(str(like.dtype).removeprefix("torch."))
        (part,) = block.parts
        places = part.positions[block.classes.representative[block.members]].astype(np.uint32)
        order = np.argsort(places[:, 0])
        self._known = places[order], block.basis[order].astype(kind)
        self._target = block.target[order].astype(kind)
        self._nothing = np.zeros_like(self._target)

    @staticmethod
    def fits(block: Dense) -> bool:
        """Whether no entries are tied, and groups have a size that the loop supports."""
        classes = block.classes
        plain = classes.plain and bool((classes.scale == 1.0).all()) and not classes.shift.any()
        return plain and block.members.shape[1] <= MOST_ENTRIES

    def __call__(self, x: np.ndarray, threads: int, *, affine: bool, quiet: float) -> None:
        places, basis = self._known
        self._run(x, places, basis, self._target if affine else self._nothing, quiet, self._team(basis.size, threads))


def _as_they_are(classes: Classes) -> bool:
    """Whether every entry is an unknown by itself."""
    return classes.plain and bool((classes.scale == 1.0).all()) and not classes.shift.any()


def _complement(block: Dense) -> tuple[Floats, Floats]:
    """Orthonormal rows that span the tangent space, and the feasible point nearest to zero."""
    basis = block.basis[0]
    basis = basis[np.any(basis != 0.0, axis=1)]
    every, _ = lapack.batched_qr(basis.T, mode="complete")
    return every.T[None, len(basis) :], (block.basis[0].T @ block.target[0])[None]


def _components_of(block: Dense, names: Names) -> Tables:
    """The components of a block without its equations; entries in the order of their unknowns."""
    members, classes = block.members, block.classes
    (k, n), class_of, representative = members.shape, classes.class_of, classes.representative
    tensors, places = located(block.parts, names)
    component, local = np.empty(members.size, np.int64), np.empty(members.size, np.int64)
    component[members.ravel()], local[members.ravel()] = np.repeat(np.arange(k), n), np.tile(np.arange(n), k)
    order = np.lexsort((local[class_of], component[class_of]))
    ends = np.cumsum(np.bincount(component[class_of], minlength=k))
    starts = np.concatenate([[0], ends[:-1]])
    place_of = np.empty(len(order), np.int64)
    place_of[order] = np.arange(len(order))
    chosen = representative[members.ravel()]
    scale, shift = (np.broadcast_to(values, class_of.shape) for values in (classes.scale, classes.shift))
    count = np.bincount(class_of, minlength=classes.count)
    components = np.zeros((k, 11), np.int64)
    components[:, 0], components[:, 1], components[:, 2], components[:, 3] = starts, ends, np.arange(k) * n, n
    components[:, 9] = 1
    none = components[:0]
    unknowns = [
        place_of[chosen] - np.repeat(starts, n),
        np.sqrt(classes.weight[members.ravel()]),
        count[members.ravel()],
    ]
    return Tables(
        plain=components if _as_they_are(classes) else none,
        tied=none if _as_they_are(classes) else components,
        entries=np.stack([tensors[order], places[order], local[class_of[order]]], axis=1).astype(np.int64),
        lines=np.stack([scale[order], shift[order]], axis=1),
        unknowns=np.stack(unknowns, axis=1).astype(np.float64),
        exact=np.zeros(2, np.int64),
    )
