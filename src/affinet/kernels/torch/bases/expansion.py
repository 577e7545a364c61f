"""Computes weights from free numbers, `w = w0 + N v`, and back, for parameters that blocks couple."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from affinet.kernels.torch.bases.basis import Basis, Constant, Kind, Positions
from affinet.language.calculus.terms import Floats, Integers

BlockEntries = dict[int, tuple[Tensor, ...]]
"""The computed entries of blocks, by the number of their basis."""


class Expansion:
    """The weights of some parameters, from one vector v and from the entries that are in no rule.

    `origin` is the point at v = 0: for `orthonormal` the smallest feasible point, for `free` the point whose free
    entries are zero. Law: expanding `coordinates(w)` gives w, for feasible w.
    """

    def __init__(self, bases: Sequence[Basis], shapes: Mapping[str, tuple[int, ...]], origin: Mapping[str, Floats]):
        self.bases = tuple(bases)
        ends = list(accumulate((basis.free for basis in bases), initial=0))
        self.spans = tuple(pairwise(ends))
        self.free = ends[-1]
        self._assemblies = {name: _Assembly(name, shape, bases) for name, shape in shapes.items()}
        self.origin = {name: Constant(_narrowed(origin[name])) for name in shapes if np.any(origin[name])}

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters."""
        return tuple(self._assemblies)

    def untouched(self, name: str) -> Integers:
        """Positions of the entries of a parameter that are in no rule, in ascending order."""
        return self._assemblies[name].untouched

    def sources(self, name: str) -> tuple[int, ...]:
        """The numbers of the bases that determine entries of a parameter."""
        return tuple(number for number, _ in self._assemblies[name].pieces)

    def weight(
        self, name: str, v: Tensor, untouched: Tensor, dtype: torch.dtype, computed: BlockEntries | None = None
    ) -> Tensor:
        """The weights of one parameter; `untouched` are its entries in no rule. Only their blocks are computed.

        Computes in the dtype of v or float32, and rounds once. `computed` collects entries for further parameters.
        """
        assembly, computed = self._assemblies[name], {} if computed is None else computed
        wide = _wide(v)
        for number, _ in assembly.pieces:
            if number not in computed:
                computed[number] = _linear(wide[slice(*self.spans[number])], self.bases[number])
        pieces = [computed[number][place] for number, place in assembly.pieces]
        flat = assembly.assembled([*pieces, untouched.to(wide.dtype)])
        weight = flat.view(assembly.shape)
        if name in self.origin:
            weight = weight + self.origin[name].like(weight)
        return weight.to(dtype)

    def coordinates(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The v of feasible weights, in their dtype."""
        moved = {
            name: (w - self.origin[name].like(w) if name in self.origin else w).reshape(-1)
            for name, w in ((name, weights[name]) for name in self._assemblies)
        }
        numbers = [
            basis.picked(tuple(entries_at(moved[place.name], place.positions) for place in basis.places))
            for basis in self.bases
            if basis.free
        ]
        like = next(iter(moved.values()))
        return torch.cat([like.new_zeros(0), *numbers])

    def prepare(self, v: Tensor) -> None:
        """Cast every constant to the dtype and device of v, so that a traced call does not have to."""
        with torch.no_grad():
            wide = _wide(v.detach())
            for (first, last), basis in zip(self.spans, self.bases, strict=True):
                if basis.free:
                    basis.adjoint(basis.linear(wide[first:last]))
            for name, assembly in self._assemblies.items():
                assembly.prepare(wide)
                if name in self.origin:
                    self.origin[name].like(wide)


def origin_of(kind: Kind, bases: Sequence[Basis], smallest: dict[str, Tensor]) -> dict[str, Floats]:
    """The weights at v = 0, from the smallest feasible point, in float64; for `free`, minus its homogeneous part."""
    if kind == "free":
        for basis in bases:
            if basis.free:
                entries = tuple(entries_at(smallest[p.name].reshape(-1), p.positions) for p in basis.places)
                moved = basis.linear(basis.picked(entries))
                for place, entry, part in zip(basis.places, entries, moved, strict=True):
                    flat = smallest[place.name].view(-1)
                    # A difference such as 1 − (1 − u) is rounding of the point, not a number of the user.
                    difference = torch.where((entry - part).abs() <= 8e-16 * part.abs(), 0.0, entry - part)
                    flat[slice(None) if place.positions is None else torch.from_numpy(place.positions)] = difference
    return {name: x.numpy() for name, x in smallest.items()}


class _Assembly:
    """The sources of the entries of one parameter: pieces of bases, and their positions."""

    def __init__(self, name: str, shape: tuple[int, ...], bases: Sequence[Basis]) -> None:
        self.shape = shape
        size = int(np.prod(shape, dtype=np.int64))
        self.pieces: list[tuple[int, int]] = []
        touched, where = np.zeros(size, bool), []
        for number, basis in enumerate(bases):
            for at, place in enumerate(basis.places):
                if place.name == name and place.size:
                    positions = np.arange(size) if place.positions is None else place.positions
                    touched[positions] = True
                    if basis.free:
                        self.pieces.append((number, at))
                        where.append(positions)
        self.untouched = np.flatnonzero(~touched)
        positions = np.concatenate([np.zeros(0, np.int64), *where, self.untouched])
        self.sizes = [len(part) for part in (*where, self.untouched)]
        self._in_order = len(positions) == size and bool((positions == np.arange(size)).all())
        # Entries without a source are read from a zero after the last piece.
        source = np.full(size, len(positions))
        source[positions] = np.arange(len(positions))
        self._complete = len(positions) == size
        self._source, self._positions = Constant(source), Constant(positions)

    def assembled(self, pieces: list[Tensor]) -> Tensor:
        """All entries of the parameter, flat."""
        present = [piece for piece, size in zip(pieces, self.sizes, strict=True) if size]
        if self._in_order and len(present) == 1:
            return present[0]
        if torch.compiler.is_compiling():
            return self.gathered(*pieces)
        flat: Tensor = _Gathered.apply(self, *pieces)
        return flat

    def gathered(self, *pieces: Tensor) -> Tensor:
        """The concatenated pieces, in the order of the entries."""
        side = torch.cat(pieces if self._complete else (*pieces, pieces[0].new_zeros(1)))
        return side if self._in_order else side.index_select(0, self._source.index(side))

    def scattered(self, gradient: Tensor) -> tuple[Tensor, ...]:
        """The adjoint of `gathered`, also a gather, since entries and pieces correspond one to one."""
        side = gradient if self._in_order else gradient.index_select(0, self._positions.index(gradient))
        gradients: tuple[Tensor, ...] = side.split(self.sizes)
        return gradients

    def prepare(self, like: Tensor) -> None:
        self._source.index(like)
        self._positions.index(like)


class _Linear(torch.autograd.Function):
    """`N v` with the adjoint of the basis as its derivative; it saves nothing, so that checkpoints may recompute it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(v: Tensor, basis: Basis) -> tuple[Tensor, ...]:
        return basis.linear(v)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.basis = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.basis.adjoint(gradients), None

    @staticmethod
    def jvp(ctx: Any, v: Tensor, _: None) -> tuple[Tensor, ...]:
        entries: tuple[Tensor, ...] = ctx.basis.linear(v)
        return entries


class _Gathered(torch.autograd.Function):
    """The assembled pieces; torch's own backward of a gather would compute sums of one number each."""

    generate_vmap_rule = True

    @staticmethod
    def forward(assembly: _Assembly, *pieces: Tensor) -> Tensor:
        return assembly.gathered(*pieces)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.assembly = inputs[0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.assembly.scattered(gradient)

    @staticmethod
    def jvp(ctx: Any, _: None, *pieces: Tensor) -> Tensor:
        entries: Tensor = ctx.assembly.gathered(*pieces)
        return entries


def _linear(v: Tensor, basis: Basis) -> tuple[Tensor, ...]:
    if torch.compiler.is_compiling():
        return basis.linear(v)
    entries: tuple[Tensor, ...] = _Linear.apply(v, basis)
    return entries


def _wide(v: Tensor) -> Tensor:
    """`v` in the working dtype, as by `regular_dtype`, whose cache the compiler warns about."""
    return v if v.dtype in (torch.float32, torch.float64) else v.float()


def entries_at(flat: Tensor, positions: Positions | None) -> Tensor:
    """Entries at positions of a flat tensor; all entries for None."""
    return flat if positions is None else flat[torch.from_numpy(positions).to(flat.device)]


def _narrowed(values: Floats) -> Floats:
    """The same numbers, with length one along every axis on which they do not change."""
    for axis in range(values.ndim):
        first = values.take([0], axis) if values.shape[axis] else values
        if (values == first).all():
            values = first
    return values
