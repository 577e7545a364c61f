"""The operations of bases on JAX arrays, which may be traced."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from affinet.kernels.bases.operations import Constant
from affinet.kernels.jax.jax_namespace import computed_once

SHARED = 32
"""The most numbers that one sum of a class adds up in a row."""


class JaxOperations:
    """`affinet.kernels.bases.operations.Operations` on `jax.Array`."""

    def numbers(self, constant: Constant, like: Array) -> Array:
        return jnp.asarray(constant.values, like.dtype)

    def take(self, x: Array, places: Constant, axis: int) -> Array:
        return jnp.take(x, places.values.astype(np.int32), axis=axis, mode="clip")

    def concat(self, arrays: Sequence[Array], axis: int) -> Array:
        return jnp.concatenate(arrays, axis)

    def split(self, x: Array, sizes: Sequence[int], axis: int) -> tuple[Array, ...]:
        ends = accumulate(sizes, initial=0)
        return tuple(lax.slice_in_dim(x, first, last, axis=axis) for first, last in pairwise(ends))

    def permute(self, x: Array, axes: Sequence[int]) -> Array:
        return x.transpose(tuple(axes))

    def flip(self, x: Array, axes: Sequence[int]) -> Array:
        return jnp.flip(x, tuple(axes)) if axes else x

    def sum(self, x: Array, axis: int) -> Array:
        return jnp.sum(x, axis, keepdims=True)

    def matmul(self, x: Array, y: Array) -> Array:
        return jnp.matmul(x, y, precision=lax.Precision.HIGHEST)

    def transposed(self, x: Array) -> Array:
        return x.swapaxes(-2, -1)

    def add(self, x: Array, y: Array, factor: float) -> Array:
        return x + factor * y

    def zeros(self, size: int, like: Array) -> Array:
        return jnp.zeros(size, like.dtype)

    def expand(self, z: Array, class_of: Constant) -> Array:
        """In steps that give a number to few others each.

        The derivative adds the entries of a class in the same steps. In one step, float32 sums of a million equal
        numbers are 1e-2 off.
        """
        for places in _steps(class_of):
            z = jnp.take(z, places, mode="clip")
        return z

    def class_sums(self, x: Array, class_of: Constant, count: int) -> Array:
        like = jax.ShapeDtypeStruct((count,), x.dtype)
        (sums,) = jax.linear_transpose(lambda z: self.expand(z, class_of), like)(x)
        made: Array = sums
        return made

    def exact(self, x: Array) -> Array:
        return x

    def widest(self, x: Array) -> Array:
        return x.astype(jax.dtypes.canonicalize_dtype(np.float64))

    def cast(self, x: Array, like: Array) -> Array:
        return x.astype(like.dtype)

    def hold(self, x: Array) -> Array:
        same: Array = computed_once(x)
        return same


def _steps(class_of: Constant) -> list[np.ndarray]:
    """The places at which each step reads the numbers of the step before, from classes to entries."""
    steps: list[np.ndarray] | None = class_of.made.get("steps")
    if steps is None:
        steps, groups = [], class_of.values
        while len(groups) and np.bincount(groups).max() > SHARED:
            # The entries of each group in parts of at most SHARED: numbers of the parts, and the group of each part.
            order = np.argsort(groups, kind="stable")
            in_order = groups[order]
            first = np.searchsorted(in_order, in_order)
            starts = (np.arange(len(groups)) - first) % SHARED == 0
            parts = np.empty(len(groups), np.int64)
            parts[order] = np.cumsum(starts) - 1
            steps.insert(0, parts.astype(np.int32))
            groups = in_order[starts]
        steps.insert(0, groups.astype(np.int32))
        class_of.made["steps"] = steps
    return steps
