"""A projector that moves NumPy arrays onto the rules of a plan, by the laws of its blocks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from affinet.analysis.multipliers import by_rule, shared_by_rule
from affinet.blocks.kinds import AnyBlock
from affinet.blocks.law import Law, Linear, run_alone
from affinet.blocks.namespace import NumPy
from affinet.blocks.places import Places
from affinet.errors import AttachError, UnsupportedWeightError
from affinet.kernels.arrays.array_entries import read, write
from affinet.kernels.arrays.array_gaps import ArrayGaps
from affinet.plans.plan import Plan

DTYPES = (np.float16, np.float32, np.float64)
PASSES = 2
"""Successive projections of weights: the second refines a long move, as for tensors."""


class ArrayProjector:
    """Projects mappings of names to NumPy arrays onto the rules of a plan; the verbs are those of `affinet.Projector`.

    Arrays may be float16, float32 or float64. Names and shapes are those of `plan.parameters`; arrays of other names
    are returned unchanged. Factors are computed on first use and stored.
    """

    def __init__(self, plan: Plan, like: Mapping[str, np.ndarray]) -> None:
        check(plan, like)
        self.plan = plan
        self.names = tuple(parameter.name for parameter in plan.parameters)

    def project(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The nearest point that satisfies all rules, as new arrays of the same dtypes.

        Law: idempotent to one spacing of the dtype. Entries in no rule keep their bits.
        """
        check(self.plan, weights)
        copies = self._copies(weights)
        for law, places in self._laws:
            for _ in range(PASSES):
                self._run(law, places, copies, affine=True)
        return {**weights, **copies}

    def tangent(self, vectors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`P v`: the part of v that changes no rule, as new arrays. Law: `A P v == 0`."""
        check(self.plan, vectors)
        copies = self._copies(vectors)
        for law, places in self._laws:
            self._run(law, places, copies, affine=False)
        return {**vectors, **copies}

    def violation(self, weights: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Rule name → largest absolute violation, in the units of the rule as written."""
        check(self.plan, weights)
        flat = {name: np.ascontiguousarray(weights[name]).reshape(-1) for name in self.names}
        with np.errstate(all="ignore"):
            return self._gaps(flat)

    def multipliers(self, gradients: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Rule name → ν of the rule's shape in float64, with `Aᵀν` nearest to the gradients.

        Law: ν is of smallest norm; at an optimum `ν = ∂f*/∂b` per unit of each equation as the user wrote it.
        """
        check(self.plan, gradients)
        flat = [np.asarray(gradients[name], np.float64).ravel() for name in self.names]
        return by_rule(self.plan.system, np.concatenate([np.zeros(0), *flat]))

    def stationarity(self, gradients: Mapping[str, np.ndarray]) -> float:
        """`‖P g‖ / ‖g‖` over the parameters of the rules: 0 where the rules remove the entire gradient, 0 for g = 0."""
        tangent_norm, norm = (
            float(np.linalg.norm([np.linalg.norm(np.asarray(vectors[name], np.float64)) for name in self.names]))
            for vectors in (self.tangent(gradients), gradients)
        )
        return tangent_norm / norm if norm != 0.0 else 0.0

    def shared_multipliers(self) -> dict[str, tuple[str, ...]]:
        """Rule name → the other rules together with which it is redundant; independent rules are omitted."""
        return shared_by_rule(self.plan.system)

    @cached_property
    def _laws(self) -> list[tuple[Law, Places]]:
        return [_law(block) for block in self.plan.blocks]

    @cached_property
    def _gaps(self) -> ArrayGaps:
        return ArrayGaps(self.plan.system)

    def _copies(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Row-major copies of the arrays of the rules, in the byte order of the machine."""
        return {name: np.array(arrays[name], _native(arrays[name].dtype), order="C") for name in self.names}

    def _run(self, law: Law, places: Places, copies: Mapping[str, np.ndarray], *, affine: bool) -> None:
        """Project the entries of one block in place."""
        xp, flat = NumPy(), {name: copy.reshape(-1) for name, copy in copies.items()}
        entries = read(places, flat)
        wide = law.wide or entries.dtype == np.float64
        x = entries.astype(np.float64 if wide else np.float32, copy=False).reshape(law.shape)
        with np.errstate(all="ignore"):  # infinities and NaN propagate as they do for tensors, without warnings
            write(places, flat, _projected(law, xp, x, affine=affine))


def _projected(law: Law, xp: NumPy, x: np.ndarray, *, affine: bool) -> np.ndarray:
    """The nearest point, or without `affine` the tangent part."""
    if isinstance(law, Linear):
        return np.asarray(run_alone((law.projection.nearest if affine else law.projection.tangent)(xp, x)))
    if not affine:
        raise AttachError("with inequalities the tangent directions depend on the weights.")
    return np.asarray(law.set.nearest(xp, x)[0])


def projector(plan: Plan, like: Any) -> ArrayProjector:
    """The projector of a plan for a mapping of names to NumPy arrays."""
    return ArrayProjector(plan, like)


def check(plan: Plan, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise unless every parameter of the plan has an array of its shape and of a real floating dtype."""
    if not isinstance(arrays, Mapping):
        raise AttachError(
            f"give a mapping of names to arrays, such as numpy.load of an .npz file, not {type(arrays).__name__}."
        )
    for parameter in plan.parameters:
        array = arrays.get(parameter.name)
        if array is None:
            raise AttachError(
                f"the rules are about {parameter.name!r} and there is no such array; there are: "
                f"{', '.join(sorted(map(str, arrays))) or 'none'}."
            )
        if not isinstance(array, np.ndarray | np.generic) or isinstance(array, np.ma.MaskedArray):
            raise AttachError(
                f"{parameter.name!r} is {type(array).__name__}, and must be a numpy.ndarray without a mask."
            )
        if tuple(array.shape) != parameter.shape:
            raise AttachError(
                f"the rules are about {parameter.name!r} of shape {parameter.shape}, and it has shape "
                f"{tuple(array.shape)}. Make the rules from affinet.weights of these very arrays."
            )
        if _native(array.dtype) not in DTYPES:
            raise UnsupportedWeightError(
                parameter.name, f"its dtype is {array.dtype}", "Rules need float16, float32 or float64."
            )


def _law(block: AnyBlock) -> tuple[Law, Places]:
    return block.law(), block.entries


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("=")
