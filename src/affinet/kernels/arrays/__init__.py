"""Projections on NumPy arrays, by the laws of the blocks."""

from affinet.kernels.arrays.array_projector import ArrayProjector, projector

__all__ = ["ArrayProjector", "projector"]
