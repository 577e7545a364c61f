"""`Π(u)` as a function that autograd, torch.func and forward-mode derivatives know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from affinet.kernels.torch.projector import Projector

Tensors = tuple[Tensor, ...]


def projected(projector: Projector, names: tuple[str, ...], unprojected: Tensors) -> Tensors:
    """The nearest feasible weights, by name; their derivative is the tangent projector."""
    found: Tensors = _Projection.apply(projector, names, *unprojected)
    return found


class _Projection(torch.autograd.Function):
    """`Π(u)`; its derivative is P."""

    @staticmethod
    def forward(projector: Projector, names: tuple[str, ...], *unprojected: Tensor) -> Tensors:
        found = projector.project(dict(zip(names, unprojected, strict=True)))
        return tuple(found[name] for name in names)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.projector, ctx.names, *_ = inputs
        ctx.like = [(x.shape, x.dtype, x.device) for x in inputs[2:]]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        return None, None, *_Tangent.apply(ctx.projector, ctx.names, True, *gradients)

    @staticmethod
    def jvp(ctx: Any, _: None, __: None, *vectors: Tensor | None) -> Tensors:
        found: Tensors = _Tangent.apply(ctx.projector, ctx.names, False, *_filled(vectors, ctx.like))
        return found

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], projector: Projector, names: tuple[str, ...], *x: Tensor) -> Any:
        return _one_by_one(_Projection, info.batch_size, in_dims[2:], (projector, names), x)


class _Tangent(torch.autograd.Function):
    """`P x`; P is its own derivative and its own transpose.

    `quiet` sets rounding noise to zero, as the sandwich does with gradients.
    """

    @staticmethod
    def forward(projector: Projector, names: tuple[str, ...], quiet: bool, *vectors: Tensor) -> Tensors:
        given = dict(zip(names, vectors, strict=True))
        if not quiet:
            found = projector.tangent(given)
            return tuple(found[name] for name in names)
        copies = {name: vector.detach().clone() for name, vector in given.items()}
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
        found: Tensors = _Tangent.apply(ctx.projector, ctx.names, False, *_filled(vectors, ctx.like))
        return found

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], projector: Projector, names: Any, quiet: bool, *x: Tensor) -> Any:
        return _one_by_one(_Tangent, info.batch_size, in_dims[3:], (projector, names, quiet), x)


def _filled(vectors: Sequence[Tensor | None], like: Sequence[tuple[torch.Size, torch.dtype, torch.device]]) -> Tensors:
    """Zeros where nothing depends on what is differentiated."""
    return tuple(
        torch.zeros(shape, dtype=dtype, device=device) if vector is None else vector
        for vector, (shape, dtype, device) in zip(vectors, like, strict=True)
    )


def _one_by_one(
    function: type[torch.autograd.Function],
    count: int,
    dims: Sequence[int | None],
    fixed: tuple[Any, ...],
    tensors: Sequence[Tensor],
) -> tuple[Tensors, tuple[int, ...]]:
    """A batch of models, each projected alone: kernels hold constants of one model's shape."""
    found = [
        function.apply(*fixed, *(x if dim is None else x.select(dim, k) for x, dim in zip(tensors, dims, strict=True)))
        for k in range(count)
    ]
    return tuple(torch.stack(each) for each in zip(*found, strict=True)), (0,) * len(tensors)
