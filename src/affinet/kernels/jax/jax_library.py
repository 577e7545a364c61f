"""JAX as a library in which the laws of blocks run as pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from affinet.blocks.namespace import Namespace
from affinet.blocks.normal_map import Learned, Underway
from affinet.blocks.tangent_map import Following, Tangent
from affinet.errors import AttachError
from affinet.kernels.jax.jax_namespace import HostNumbersError, Jax
from affinet.kernels.traced.library import on_host

for state in (Learned, Underway, Tangent, Following):
    jax.tree_util.register_dataclass(state)


class JaxLibrary:
    """`affinet.kernels.traced.library.Library` for `jax.Array`, which may be traced."""

    def __init__(self) -> None:
        self.xp = Jax()

    def dtype(self, name: str) -> Any:
        return jax.dtypes.canonicalize_dtype(name)

    def widest(self, dtypes: Sequence[Any]) -> Any:
        return jnp.result_type(jnp.float32, *dtypes)

    def eps(self, dtype: Any) -> float:
        return float(jnp.finfo(dtype).eps)

    def cast(self, x: Array, dtype: Any) -> Array:
        return x.astype(dtype)

    def at(self, x: Array, positions: np.ndarray) -> Array:
        if not x.ndim:
            return x.reshape(1)
        return x.at[_indices(x, positions)].get(mode="promise_in_bounds", unique_indices=True)

    def put(self, x: Array, positions: np.ndarray, values: Array) -> Array:
        if not x.ndim:
            return values.reshape(())
        return x.at[_indices(x, positions)].set(values, mode="promise_in_bounds", unique_indices=True)

    def slice(self, x: Array, starts: Sequence[int], sizes: Sequence[int]) -> Array:
        return lax.dynamic_slice(x, starts, sizes)

    def with_slice(self, x: Array, starts: Sequence[int], values: Array) -> Array:
        return lax.dynamic_update_slice(x, values, starts)

    def all(self, condition: Array) -> Array:
        return jnp.all(condition)

    def fused_either(self, condition: Array, first: Callable[[], Array], second: Callable[[], Array]) -> Array:
        return jnp.where(condition, first(), second())

    def map(self, function: Callable[..., Any], *states: Any) -> Any:
        return jax.tree.map(function, *states)

    def asks_host(self, verb: Callable[[Namespace, Any], Any], shape: tuple[int, ...]) -> bool:
        try:
            jax.eval_shape(lambda x: verb(self.xp, x), jax.ShapeDtypeStruct(shape, np.float32))
        except (HostNumbersError, jax.errors.TracerArrayConversionError):
            return True
        return False

    def called(self, verb: Callable[..., Any], shapes: Any, *states: Any) -> Any:
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), shapes)

        def call(*arrays: Any) -> Any:
            made = on_host(verb, jax.tree.map(np.array, arrays))
            return jax.tree.map(lambda x, to: np.broadcast_to(np.asarray(x, to.dtype), to.shape), made, shapes)

        return jax.pure_callback(call, shapes, *states, vmap_method="sequential")

    def derived_from(self, function: Callable[[Array], Array], smooth: Callable[[Array], Array], x: Array) -> Array:
        """`function(x)`, with the derivative of `smooth` in both modes."""
        made = jax.custom_jvp(function)

        def derivative(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
            return made(*primals), jax.jvp(smooth, primals, tangents)[1]

        made.defjvp(derivative)
        result: Array = made(x)
        return result

    def without_derivative(self, function: Callable[..., Any], reason: str, *states: Any) -> Any:
        """`function(*states)`. Raises AttachError with this reason where it is differentiated."""
        made = jax.custom_jvp(function)

        def refused(primals: Any, tangents: Any) -> Any:
            raise AttachError(reason)

        made.defjvp(refused)
        return made(*states)


JAX = JaxLibrary()


def _indices(x: Array, positions: np.ndarray) -> tuple[np.ndarray, ...]:
    """Indices along each axis: at indices into a flat array, all devices would need all of an array that is split."""
    return tuple(index.astype(np.int32) for index in np.unravel_index(positions, x.shape))
