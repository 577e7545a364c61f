"""Projections on PyTorch tensors."""

from affinet.kernels.torch.projector import Projector, numbers_of, projector

__all__ = ["Projector", "numbers_of", "projector"]
