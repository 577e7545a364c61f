"""Projections on PyTorch tensors."""

from affinet.kernels.torch.projector import Projector, projector

__all__ = ["Projector", "projector"]
