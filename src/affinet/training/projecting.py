"""Make `Π(u)` differentiable by autograd, torch.func and forward mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from affinet.kernels.torch.projector import Projector

Tensors = tuple[Tensor, ...]


def projected(projector: Projector, names: tuple[str, ...], unprojected: Tensors) -> Tensors:
    """The nearest feasible weights, by name; their derivative is the tangent projector."""
    weights: Tensors = _Projection.apply(projector, names, *unprojected)
    return weights


class _Projection(torch.autograd.Function):
    """`Π(u)`; its derivative is P."""

    @staticmethod
    def forward(projector: Projector, names: tuple[str, ...], *unprojected: Tensor) -> Tensors:
        weights = projector.project(dict(zip(names, unprojected, strict=True)))
        return tuple(weights[name] for name in names)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.projector, ctx.names, *_ = inputs
        ctx.like = [(x.shape, x.dtype, x.device) for x in inputs[2:]]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        return None, None, *_Tangent.apply(ctx.projector, ctx.names, True, *gradients)

    @staticmethod
    def jvp(ctx: Any, _: None, __: None, *vectors: Tensor | None) -> Tensors:
        tangents: Tensors = _Tangent.apply(ctx.projector, ctx.names, False, *_with_zeros(vectors, ctx.like))
        return tangents

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], projector: Projector, names: tuple[str, ...], *x: Tensor) -> Any:
        return _one_by_one(_Projection, info.batch_size, in_dims[2:], (projector, names), x)


class _Tangent(torch.autograd.Function):
    """`P x`; P is its own derivative and its own transpose.

    `quiet` sets rounding noise to zero, as the sandwich does with gradients.
    """

    @staticmethod
    def forward(projector: Projector, names: tuple[str, ...], quiet: bool, *vectors: Tensor) -> Tensors:
        by_name = dict(zip(names, vectors, strict=True))
        if not quiet:
            tangents = projector.tangent(by_name)
            return tuple(tangents[name] for name in names)
        copies = {name: vector.detach().clone() for name, vector in by_name.items()}
        projector.project_gradients_(copies, copies, {})
        return tuple(copies[name] for name in names)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.projector, ctx.names, ctx.quiet, *_ = inputs
        ctx.like = [(x.shape, x.dtype, x.device) for x in inputs[3:]]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        return None, None, None, *_Tangent.apply(ctx.projector, ctx.names, ctx.quiet, *gradients)

    @staticmethod
    def jvp(ctx: Any, _: None, __: None, ___: None, *vectors: Tensor | None) -> Tensors:
        tangents: Tensors = _Tangent.apply(ctx.projector, ctx.names, False, *_with_zeros(vectors, ctx.like))
        return tangents

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], projector: Projector, names: Any, quiet: bool, *x: Tensor) -> Any:
        return _one_by_one(_Tangent, info.batch_size, in_dims[3:], (projector, names, quiet), x)


def _with_zeros(
    vectors: Sequence[Tensor | None], shapes: Sequence[tuple[torch.Size, torch.dtype, torch.device]]
) -> Tensors:
    """The vectors, with zeros for inputs that do not depend on the differentiated variable."""
    return tuple(
        torch.zeros(shape, dtype=dtype, device=device) if vector is None else vector
        for vector, (shape, dtype, device) in zip(vectors, shapes, strict=True)
    )


def _one_by_one(
    function: type[torch.autograd.Function],
    count: int,
    batch_dims: Sequence[int | None],
    constants: tuple[Any, ...],
    tensors: Sequence[Tensor],
) -> tuple[Tensors, tuple[int, ...]]:
    """Apply a function to each model of a batch separately: kernels hold constants for the shape of one model."""
    results = [
        function.apply(
            *constants, *(x if dim is None else x.select(dim, k) for x, dim in zip(tensors, batch_dims, strict=True))
        )
        for k in range(count)
    ]
    return tuple(torch.stack(outputs) for outputs in zip(*results, strict=True)), (0,) * len(tensors)
