"""Projections on NumPy arrays, by the laws of the blocks."""

from affinet.kernels.arrays.array_projector import ArrayProjector, numbers_of, projector

__all__ = ["ArrayProjector", "numbers_of", "projector"]
