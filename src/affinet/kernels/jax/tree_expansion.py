"""Computes the arrays of a tree from free numbers, `w = w0 + N v`, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from affinet.blocks.kinds import AnyLinear
from affinet.kernels.arrays.array_projector import ArrayProjector
from affinet.kernels.bases.assembly import Assembly
from affinet.kernels.bases.basis import Basis, Kind
from affinet.kernels.bases.choosing import basis_of
from affinet.kernels.bases.operations import Constant
from affinet.kernels.bases.origin_of_weights import coupled, entries_at, narrowed, origin_of
from affinet.kernels.jax.jax_operations import JaxOperations
from affinet.language.calculus.terms import Floats
from affinet.plans.plan import Plan

OPERATIONS = JaxOperations()


@dataclass(frozen=True, eq=False)
class Group:
    """Weights that rules couple, which share one vector v; `spans` are the numbers of each basis of a block in it."""

    blocks: tuple[AnyLinear, ...]
    bases: tuple[Basis, ...]
    spans: tuple[tuple[int, int], ...]
    assemblies: Mapping[str, Assembly]
    origin: Mapping[str, Constant]

    @property
    def free(self) -> int:
        """Count of the free numbers."""
        return self.spans[-1][1] if self.spans else 0

    def weights(self, v: Array, untouched: Mapping[str, Array]) -> dict[str, Array]:
        """The weights; `untouched` are their entries in no rule, in the dtypes of the weights.

        Computed in the widest dtype of all of them, at least in float32, and rounded once.
        """
        wide = jnp.result_type(jnp.float32, v.dtype, *(x.dtype for x in untouched.values()))
        numbers = [v[first:last].astype(wide) for first, last in self.spans]
        computed = [
            basis.linear(OPERATIONS, x) if basis.free else () for basis, x in zip(self.bases, numbers, strict=True)
        ]
        return {name: self._weight(name, computed, untouched[name], wide) for name in self.assemblies}

    def _weight(self, name: str, computed: Sequence[Sequence[Array]], untouched: Array, dtype: Any) -> Array:
        assembly = self.assemblies[name]
        pieces = [*(computed[number][place] for number, place in assembly.pieces), untouched.astype(dtype)]
        only = assembly.only_piece(pieces)
        weight = (assembly.gathered(OPERATIONS, pieces) if only is None else only).reshape(assembly.shape)
        if name in self.origin:
            weight = weight + OPERATIONS.numbers(self.origin[name], weight)
        return weight.astype(untouched.dtype)

    def coordinates(self, weights: Mapping[str, Array]) -> Array:
        """The v of weights that satisfy the rules, in the widest of their dtypes."""
        dtype = jnp.result_type(*(weights[name].dtype for name in self.assemblies))
        wide = jnp.result_type(jnp.float32, dtype)
        moved = {name: self._from_origin(name, weights[name].astype(wide)) for name in self.assemblies}
        numbers = [
            basis.picked(OPERATIONS, [entries_at(moved[place.name], place.positions) for place in basis.places])
            for basis in self.bases
            if basis.free
        ]
        return jnp.concatenate([jnp.zeros(0, wide), *numbers]).astype(dtype)

    def untouched(self, name: str, weight: Array) -> Array:
        """The entries of a weight that are in no rule, in ascending order."""
        return weight.reshape(-1)[self.assemblies[name].untouched]

    def _from_origin(self, name: str, weight: Array) -> Array:
        if name in self.origin:
            weight = weight - OPERATIONS.numbers(self.origin[name], weight)
        return weight.reshape(-1)


def groups_of(plan: Plan, blocks: Sequence[AnyLinear], kind: Kind) -> list[Group]:
    """The groups of weights that rules couple, in the order of the plan's parameters."""
    bases = [basis_of(block, kind, plan) for block in blocks]
    origin = origin_of(kind, bases, _smallest(plan))
    touched = {place.name for basis in bases for place in basis.places if place.size}
    names = [parameter.name for parameter in plan.parameters if parameter.name in touched]
    shapes = {parameter.name: parameter.shape for parameter in plan.parameters}
    pairs = [(block, basis) for block, basis in zip(blocks, bases, strict=True) if basis.places]
    return [
        _group([pair for pair in pairs if pair[1].places[0].name in names], names, shapes, origin)
        for names in coupled([[place.name for place in basis.places] for basis in bases], names)
    ]


def _group(
    pairs: Sequence[tuple[AnyLinear, Basis]],
    names: Sequence[str],
    shapes: Mapping[str, tuple[int, ...]],
    origin: Mapping[str, Floats],
) -> Group:
    bases = [basis for _, basis in pairs]
    ends = accumulate((basis.free for basis in bases), initial=0)
    return Group(
        tuple(block for block, _ in pairs),
        tuple(bases),
        tuple(pairwise(ends)),
        {name: Assembly(name, shapes[name], bases) for name in names},
        {name: Constant(narrowed(origin[name])) for name in names if np.any(origin[name])},
    )


def _smallest(plan: Plan) -> dict[str, Floats]:
    """The smallest weights that satisfy the rules, in float64."""
    zeros = {parameter.name: np.zeros(parameter.shape) for parameter in plan.parameters}
    return dict(ArrayProjector(plan, zeros).project(zeros))
