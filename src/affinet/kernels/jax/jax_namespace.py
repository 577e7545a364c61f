"""The operations of array namespaces on JAX arrays, which may be traced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

State = TypeVar("State")
Arrays = TypeVar("Arrays")


class HostNumbersError(Exception):
    """A verb of a law asks for numbers on the host, which a traced array does not have."""


class Jax:
    """The operations of `affinet.blocks.namespace.Namespace` on `jax.Array`."""

    def array(self, values: Any, like: Array) -> Array:
        return values if isinstance(values, Array) else jnp.asarray(values, like.dtype)

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        return x.reshape(shape)

    def broadcast(self, x: Array, shape: tuple[int, ...]) -> Array:
        return jnp.broadcast_to(x, shape)

    def permute(self, x: Array, axes: Sequence[int]) -> Array:
        return x.transpose(tuple(axes))

    def flip(self, x: Array, axes: Sequence[int]) -> Array:
        return jnp.flip(x, tuple(axes)) if axes else x

    def take(self, x: Array, places: np.ndarray | Array) -> Array:
        return jnp.take(x, places, axis=-1, mode="clip")

    def put(self, x: Array, places: np.ndarray, values: Array) -> Array:
        return x.at[..., places].set(values, unique_indices=True, mode="promise_in_bounds")

    def sum(self, x: Array, axes: Sequence[int]) -> Array:
        return jnp.sum(x, tuple(axes), keepdims=True)

    def segment_sum(self, x: Array, segments: np.ndarray | Array, count: int) -> Array:
        return jax.ops.segment_sum(x, segments, count)

    def matmul(self, x: Array, y: Array) -> Array:
        return jnp.matmul(x, y, precision=lax.Precision.HIGHEST)

    def mirrored_product(self, x: Array, y: Array, sign: float) -> Array:
        return self.matmul(x, y.swapaxes(-2, -1))

    def mirrored_part(self, x: Array, sign: float) -> Array:
        return 0.5 * (x + sign * x.swapaxes(-2, -1))

    def add_diagonal(self, x: Array, value: float) -> Array:
        places = np.arange(x.shape[-1])
        return x.at[..., places, places].add(value, unique_indices=True)

    def solve(self, matrix: Array, rhs: Array) -> Array:
        return jnp.linalg.solve(matrix, rhs[..., None])[..., 0]

    def eigh(self, matrix: Array) -> tuple[Array, Array]:
        values, vectors = jnp.linalg.eigh(_finite(matrix), symmetrize_input=False)
        return values, vectors

    def determinant(self, matrix: Array) -> Array:
        return jnp.linalg.det(matrix)

    def cofactors(self, matrix: Array) -> Array:
        u, s, vt = jnp.linalg.svd(_finite(matrix))
        sizes = jnp.where(jnp.eye(s.shape[-1], dtype=bool), 1.0, s[..., None, :]).prod(-1)
        signs = jnp.linalg.det(u) * jnp.linalg.det(vt)
        return signs[..., None, None] * self.matmul(u * sizes[..., None, :], vt)

    def inverse(self, matrix: Array) -> Array:
        return jnp.linalg.inv(matrix)

    def polar(self, matrix: Array) -> Array:
        u, _, vt = jnp.linalg.svd(_finite(matrix), full_matrices=False)
        return self.matmul(u, vt)

    def function(self, name: str, x: Array) -> Array:
        made: Array = getattr(jnp, name)(x)
        return made

    def where(self, condition: Array, x: Array, y: Array) -> Array:
        return jnp.where(condition, x, y)

    def minimum(self, x: Array, y: Array) -> Array:
        return jnp.minimum(x, y)

    def maximum(self, x: Array, y: Array) -> Array:
        return jnp.maximum(x, y)

    def largest(self, x: Array, axes: Sequence[int]) -> Array:
        return jnp.max(x, tuple(axes), keepdims=True, initial=-jnp.inf if 0 in x.shape else None)

    def running_sum(self, x: Array) -> Array:
        return jnp.cumsum(x, -1)

    def running_max(self, x: Array) -> Array:
        return lax.cummax(x, x.ndim - 1)

    def any(self, condition: Array) -> bool:
        """True: what a traced condition holds is known when the program runs."""
        return True

    def loop(
        self, state: State, going: Callable[[State], Array], advance: Callable[[Any, State], State], most: int
    ) -> State:
        def following(numbered: tuple[Array, State]) -> tuple[Array, State]:
            number, state = numbered
            return number + 1, _like(advance(number, state), state)

        start = jax.tree.map(jnp.asarray, state)
        last: State = lax.while_loop(
            lambda numbered: (numbered[0] < most) & jnp.any(going(numbered[1])), following, (jnp.int32(0), start)
        )[1]
        return last

    def either(self, condition: Array, first: Callable[[], State], second: Callable[[], State]) -> State:
        shapes = jax.eval_shape(first)
        made: State = lax.cond(jnp.any(condition), first, lambda: _like(second(), shapes))
        return made

    def spacing(self, x: Array) -> float:
        return float(jnp.finfo(x.dtype).eps)

    def concat(self, arrays: Sequence[Array]) -> Array:
        return jnp.concatenate(arrays, -1)

    def stack(self, arrays: Sequence[Array], axis: int) -> Array:
        return jnp.stack(arrays, axis)

    def host(self, x: Array) -> np.ndarray:
        raise HostNumbersError

    def product(self, matrix: np.ndarray, x: np.ndarray) -> np.ndarray:
        raise HostNumbersError

    def descend(self, rows: np.ndarray, u: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise HostNumbersError

    def hold(self, x: Array) -> Array:
        same: Array = computed_once(x)
        return same


@jax.custom_jvp  # type: ignore[untyped-decorator]
def computed_once(arrays: Arrays) -> Arrays:
    """The same arrays, each computed only once and stored.

    XLA drops optimization barriers on CPUs before it fuses operations, and computes an entry anew for each of its uses:
    with multiplications that are rounded in one use, and part of a fused multiply-add in another. The result of a loop
    is stored. This one never runs, which XLA cannot know.
    """
    leaves = [x for x in jax.tree.leaves(arrays) if x.size and jnp.issubdtype(x.dtype, jnp.floating)]
    if not leaves:
        return arrays
    never = lax.slice(leaves[0], (0,) * leaves[0].ndim, (1,) * leaves[0].ndim).reshape(()) * 0.0 > 1.0
    same: Arrays = lax.platform_dependent(never, arrays, cpu=_through_loop, default=_through_barrier)
    return same


@computed_once.defjvp  # type: ignore[untyped-decorator]
def _derivative_of_computed_once(primals: tuple[Arrays], tangents: tuple[Arrays]) -> tuple[Arrays, Arrays]:
    return computed_once(*primals), tangents[0]


def _through_loop(never: Array, arrays: Arrays) -> Arrays:
    state = (never, arrays)
    made: Arrays = lax.while_loop(
        lambda state: state[0], lambda state: (~state[0], jax.tree.map(jnp.zeros_like, state[1])), state
    )[1]
    return made


def _through_barrier(never: Array, arrays: Arrays) -> Arrays:
    same: Arrays = lax.optimization_barrier(arrays)
    return same


def _finite(matrix: Array) -> Array:
    return jnp.nan_to_num(matrix, nan=0.0, posinf=0.0, neginf=0.0)


def _like(state: State, shapes: State) -> State:
    """The same numbers in the shapes and dtypes of another state: constants may have fewer axes, or no dtype yet."""
    alike: State = jax.tree.map(lambda x, y: jnp.broadcast_to(jnp.asarray(x, y.dtype), y.shape), state, shapes)
    return alike
