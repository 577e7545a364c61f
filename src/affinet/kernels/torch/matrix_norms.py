"""Norms of vectors along the last axis of tensors, of matrices that are laid out there, and their derivatives."""

from __future__ import annotations

import torch
from torch import Tensor

from affinet.language.sense import Norm, Spectrum


def lengths(x: Tensor, norm: Norm) -> Tensor:
    """The norms along the last axis; nan where an entry is not finite."""
    if not isinstance(norm, Spectrum):
        length: Tensor = torch.linalg.vector_norm(x, norm, dim=-1)
        return length
    finite = torch.isfinite(x).all(dim=-1)
    matrices = _matrices(torch.where(finite[..., None], x, 0.0), norm)
    if norm.kind == "spectral":
        measured = torch.linalg.matrix_norm(matrices, 2)
    else:
        below, skew = -torch.linalg.eigvalsh(_even(matrices))[..., 0], _skew(matrices).amax(dim=(-1, -2))
        measured = torch.where(skew > 0.0, torch.maximum(below, skew), below)
    return torch.where(finite, measured, torch.nan)


def slope(x: Tensor, norm: Norm) -> Tensor:
    """The derivative of the norm along the last axis; 0 at 0."""
    if norm == 1:
        signs: Tensor = torch.sign(x)
        return signs
    if norm == 2:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        radial: Tensor = x / torch.where(length > 0.0, length, 1.0)
        return radial
    assert isinstance(norm, Spectrum)
    matrices = _matrices(x, norm)
    if norm.kind == "spectral":
        left, singular, right = torch.linalg.svd(matrices, full_matrices=False)
        outer: Tensor = left[..., :, :1] @ right[..., :1, :] * (singular[..., :1, None] > 0.0)
        return outer.reshape(x.shape)
    values, vectors = torch.linalg.eigh(_even(matrices))
    first, skew = vectors[..., :, :1], _skew(matrices)
    largest = skew.amax(dim=(-1, -2), keepdim=True)
    of_skew = torch.sign(matrices - matrices.mT) * (skew == largest)
    below = -values[..., :1, None]
    made: Tensor = torch.where(below >= largest, -(first @ first.mT) * (below > 0.0), of_skew)
    return made.reshape(x.shape)


def _matrices(x: Tensor, norm: Spectrum) -> Tensor:
    return x.reshape(*x.shape[:-1], norm.rows, norm.columns)


def _even(matrices: Tensor) -> Tensor:
    return 0.5 * (matrices + matrices.mT)


def _skew(matrices: Tensor) -> Tensor:
    return (matrices - matrices.mT).abs()
