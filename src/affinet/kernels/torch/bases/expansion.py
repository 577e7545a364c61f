"""Computes weights from free numbers, `w = w0 + N v`, and back, for parameters that blocks couple."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from affinet.kernels.bases.assembly import Assembly
from affinet.kernels.bases.basis import Positions
from affinet.kernels.bases.operations import Constant
from affinet.kernels.bases.origin_of_weights import narrowed
from affinet.kernels.torch.bases.tensor_basis import TENSORS, TensorBasis
from affinet.kernels.torch.bases.tensor_constants import constant_like, index_like
from affinet.language.calculus.terms import Floats, Integers

BlockEntries = dict[int, tuple[Tensor, ...]]
"""The computed entries of blocks, by the number of their basis."""


class Expansion:
    """The weights of some parameters, from one vector v and from the entries that are in no rule.

    `origin` is the point at v = 0: for `orthonormal` the smallest feasible point, for `free` the point whose free
    entries are zero. Law: expanding `coordinates(w)` gives w, for feasible w.
    """

    def __init__(
        self, bases: Sequence[TensorBasis], shapes: Mapping[str, tuple[int, ...]], origin: Mapping[str, Floats]
    ):
        self.bases = tuple(bases)
        ends = list(accumulate((basis.free for basis in bases), initial=0))
        self.spans = tuple(pairwise(ends))
        self.free = ends[-1]
        self._assemblies = {
            name: Assembly(name, shape, [basis.basis for basis in bases]) for name, shape in shapes.items()
        }
        self.origin = {name: Constant(narrowed(origin[name])) for name in shapes if np.any(origin[name])}

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
        flat = _assembled(assembly, [*pieces, untouched.to(wide.dtype)])
        weight = flat.view(assembly.shape)
        if name in self.origin:
            weight = weight + constant_like(self.origin[name], weight)
        return weight.to(dtype)

    def coordinates(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The v of feasible weights, in their dtype."""
        moved = {
            name: (w - constant_like(self.origin[name], w) if name in self.origin else w).reshape(-1)
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
                for constant in assembly.constants():
                    index_like(constant, wide)
                if name in self.origin:
                    constant_like(self.origin[name], wide)


def _assembled(assembly: Assembly, pieces: list[Tensor]) -> Tensor:
    """All entries of the parameter, flat."""
    only: Tensor | None = assembly.only_piece(pieces)
    if only is not None:
        return only
    if torch.compiler.is_compiling():
        gathered: Tensor = assembly.gathered(TENSORS, pieces)
        return gathered
    flat: Tensor = _Gathered.apply(assembly, *pieces)
    return flat


class _Linear(torch.autograd.Function):
    """`N v` with the adjoint of the basis as its derivative; it saves nothing, so that checkpoints may recompute it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(v: Tensor, basis: TensorBasis) -> tuple[Tensor, ...]:
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
    def forward(assembly: Assembly, *pieces: Tensor) -> Tensor:
        gathered: Tensor = assembly.gathered(TENSORS, pieces)
        return gathered

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.assembly = inputs[0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.assembly.scattered(TENSORS, gradient)

    @staticmethod
    def jvp(ctx: Any, _: None, *pieces: Tensor) -> Tensor:
        entries: Tensor = ctx.assembly.gathered(TENSORS, pieces)
        return entries


def _linear(v: Tensor, basis: TensorBasis) -> tuple[Tensor, ...]:
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
