"""Projections of pytrees of JAX arrays, by the laws of blocks; functions that `jax.jit` can trace."""

from affinet.kernels.jax.tree_projector import numbers_of, projector

__all__ = ["numbers_of", "projector"]
