"""The linear maps of the terms of an expression, and their transposes: products of strided views, without a matrix."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import prod
from string import ascii_letters

import numpy as np
import torch
from torch import Tensor

from affinet.blocks.offsets import Nest, mixed_radix
from affinet.blocks.term_places import Strided, source, target
from affinet.kernels.torch.precision import irregular_dtype
from affinet.language.affine import Affine
from affinet.language.calculus.terms import Term


class AffineMap:
    """`x ↦ A x + b` of an affine expression in weights and nodes; infinite constants, those of no bound, count as 0."""

    def __init__(self, expression: Affine, device: torch.device) -> None:
        self.shape, self._dtype = expression.shape, irregular_dtype(device)
        constant = np.array(expression.constant, np.float64)
        constant[np.isinf(constant)] = 0.0
        self._constant = torch.as_tensor(constant, dtype=self._dtype, device=device)
        self._terms = [_TermMap(term, expression.shape, device) for term in expression.terms]
        self.names = tuple(dict.fromkeys(term.name for term in self._terms))
        """The weights and nodes that are read."""

    def value(self, known: Mapping[str, Tensor]) -> Tensor:
        """`A x + b` in float64, where the device has it."""
        value = self._constant.expand(self.shape).clone()
        for term in self._terms:
            term.add_to(value, known[term.name], squared=False)
        return value

    def squares(self, known: Mapping[str, Tensor], device: torch.device) -> Tensor:
        """`(A ∘ A) x`: the sums of squared coefficients times numbers; absent names count as zeros.

        Law: with x = 1 these are the squared norms of the rows, where no two loops of a row read the same entry.
        """
        value = torch.zeros(self.shape, dtype=self._dtype, device=device)
        for term in self._terms:
            if term.name in known:
                term.add_to(value, known[term.name], squared=True)
        return value

    def add_transposed(self, y: Tensor, into: Mapping[str, Tensor]) -> None:
        """Add `Aᵀ y` to the tensors of those weights and nodes that `into` names."""
        for term in self._terms:
            if term.name in into:
                term.add_transposed(y, into[term.name])


class _TermMap:
    """One term: reads a box of entries, multiplies it by coefficients, and adds sums to a box of outputs.

    Loops are letters of an einsum: those that read (`_read`), those that write (`_written`), and those of each factor.
    """

    def __init__(self, term: Term, shape: tuple[int, ...], device: torch.device) -> None:
        self.name, self._scalar, self._dtype = term.parameter.name, term.scalar, irregular_dtype(device)
        self._sizes = tuple(variable.size for variable in term.variables)
        self._factors = [
            (factor.variables, torch.as_tensor(np.array(factor.values), dtype=self._dtype, device=device))
            for factor in term.factors
        ]
        places = source(term)
        if isinstance(places, tuple):
            offset, steps, flips = places
            self._read = tuple(k for k, step in enumerate(steps) if step)
            self._source: Tensor | Strided = (
                offset,
                tuple(steps[k] for k in self._read),
                tuple(axis for axis, k in enumerate(self._read) if k in flips),
            )
            dims = tuple((self._sizes[k], steps[k]) for k in self._read)
            self._distinct = mixed_radix(Nest(dims), Nest(()))
        else:
            self._read, self._distinct = tuple(range(len(self._sizes))), False
            self._source = torch.as_tensor(places, device=device)
        self._written = tuple(k for k, variable in enumerate(term.variables) if variable.outputs)
        self._broadcast = tuple(axis for axis, start in enumerate(term.start) if start is None)
        self._sums_shape = tuple(1 if start is None else n for start, n in zip(term.start, shape, strict=True))
        where = target(term, self._sums_shape)
        self._target: Tensor | Strided = where if isinstance(where, tuple) else torch.as_tensor(where, device=device)
        product = partial(_Product, sizes=self._sizes, dtype=self._dtype)
        self._forward = product(self._read, self._written, self._scalar, self._factors)
        self._backward = product(self._written, self._read, self._scalar, self._factors)

    def add_to(self, value: Tensor, entries: Tensor, *, squared: bool) -> None:
        """Add the term at these entries to a value of the expression's shape; `squared` squares all coefficients."""
        flat = entries.detach().contiguous().view(-1)
        made = (self._squared() if squared else self._forward)(self._take(flat))
        covers_all = value.shape == self._sums_shape
        sums = value if covers_all else torch.zeros(self._sums_shape, dtype=self._dtype, device=value.device)
        if isinstance(self._target, Tensor):
            sums.view(-1).index_add_(0, self._target, made.reshape(-1))
        else:
            offset, steps, flips = self._target
            sums.as_strided(made.shape, steps, offset).add_(made.flip(flips) if flips else made)
        if not covers_all:
            value += sums

    def add_transposed(self, y: Tensor, into: Tensor) -> None:
        """Add the transposed term at `y` to a contiguous tensor of the shape of the weight."""
        sums = y.sum(self._broadcast, keepdim=True) if self._broadcast else y
        flat, written_sizes = sums.contiguous().view(-1), [self._sizes[k] for k in self._written]
        if isinstance(self._target, Tensor):
            values_read = flat.index_select(0, self._target).view(written_sizes)
        else:
            offset, steps, flips = self._target
            values_read = flat.as_strided(written_sizes, steps, flat.storage_offset() + offset)
            values_read = values_read.flip(flips) if flips else values_read
        made = self._backward(values_read)
        if isinstance(self._source, Tensor):
            into.view(-1).index_add_(0, self._source, made.reshape(-1).to(into.dtype))
            return
        offset, steps, flips = self._source
        made = made.flip(flips) if flips else made
        if self._distinct:
            into.as_strided(made.shape, steps, into.storage_offset() + offset).add_(made)
        else:
            places = torch.arange(into.numel(), device=into.device).as_strided(made.shape, steps, offset)
            into.view(-1).index_add_(0, places.reshape(-1), made.reshape(-1).to(into.dtype))

    def _squared(self) -> _Product:
        """The map with squared coefficients."""
        factors = [(loops, values.square()) for loops, values in self._factors]
        return _Product(self._read, self._written, self._scalar**2, factors, self._sizes, self._dtype)

    def _take(self, flat: Tensor) -> Tensor:
        """The entries that are read, with an axis for each loop in `_read`."""
        if isinstance(self._source, Tensor):
            return flat.index_select(0, self._source).view(self._sizes)
        offset, steps, flips = self._source
        view = flat.as_strided([self._sizes[k] for k in self._read], steps, flat.storage_offset() + offset)
        return view.flip(flips) if flips else view


class _Product:
    """`scalar Σ x ∏ factors` over all loops but those in `to`, with the axes of these in their order.

    `x` has an axis for each loop in `loops`; `sizes` are those of all loops.
    """

    def __init__(
        self,
        loops: tuple[int, ...],
        to: tuple[int, ...],
        scalar: float,
        factors: list[tuple[tuple[int, ...], Tensor]],
        sizes: tuple[int, ...],
        dtype: torch.dtype,
    ) -> None:
        known = {*loops, *(k for loops_of, _ in factors for k in loops_of)}
        repeated = prod(size for k, size in enumerate(sizes) if k not in known and k not in to)
        present = tuple(k for k in to if k in known)
        self._scalar, self._factors, self._dtype = scalar * repeated, [values for _, values in factors], dtype
        inputs = ",".join(map(_letters, (loops, *(loops_of for loops_of, _ in factors))))
        self._subscripts = f"{inputs}->{_letters(present)}"
        self._summed = tuple(axis for axis, k in enumerate(loops) if k not in to)
        summed_loops = [k for k in loops if k in to]
        order = [] if factors else [summed_loops.index(k) for k in present]
        self._order = None if order == sorted(order) else order
        self._new_axes = tuple(axis for axis, k in enumerate(to) if k not in known)
        self._sizes = tuple(sizes[k] for k in to)

    def __call__(self, x: Tensor) -> Tensor:
        if self._factors:
            made = torch.einsum(self._subscripts, x.to(self._dtype), *self._factors)
        else:
            made = x.sum(self._summed, dtype=self._dtype) if self._summed else x.to(self._dtype)
            made = made if self._order is None else made.permute(self._order)
        for axis in self._new_axes:
            made = made.unsqueeze(axis)
        made = made.expand(self._sizes) if self._new_axes else made
        return made if self._scalar == 1.0 else made * self._scalar


def _letters(loops: tuple[int, ...]) -> str:
    return "".join(ascii_letters[k] for k in loops)
