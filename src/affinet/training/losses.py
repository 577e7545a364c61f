"""Compute gradients of a `loss_fn` that a user gives, and protect the gradients of a model while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from affinet.errors import AttachError


@contextmanager
def without_gradients(parameters: Iterable[torch.nn.Parameter]) -> Iterator[list[torch.nn.Parameter]]:
    """Remove all gradients inside the block; afterwards restore the same tensors with the same bits."""
    saved = {id(p): (p, p.grad) for p in parameters}
    for parameter, _ in saved.values():
        parameter.grad = None
    try:
        yield [parameter for parameter, _ in saved.values()]
    finally:
        for parameter, gradient in saved.values():
            parameter.grad = gradient


def gradients_of(
    loss_fn: Callable[[], Any],
    weights: Mapping[str, torch.nn.Parameter],
    further: Iterable[torch.nn.Parameter],
    decayed: Callable[[str], float],
) -> dict[str, Tensor]:
    """`∇f + λ w` of the named weights in float64, λ being `decayed(name)`; all gradients are restored afterwards.

    `further` are other parameters that the loss depends on. Raises AttachError where `loss_fn` returns no loss.
    """
    check_callable(loss_fn)
    with without_gradients([*weights.values(), *further]) as parameters, torch.enable_grad():
        loss = loss_fn()
        if all(parameter.grad is None for parameter in parameters):
            differentiable(loss).backward()
        return {
            name: (0.0 if p.grad is None else p.grad.detach().double()) + decayed(name) * p.detach().double()
            for name, p in weights.items()
        }


def check_callable(loss_fn: Any) -> None:
    """Raise AttachError where `loss_fn` cannot be called."""
    if not callable(loss_fn):
        raise AttachError(
            f"loss_fn is {type(loss_fn).__name__}; give a function that computes the loss again, such as "
            f"lambda: criterion(model(inputs), targets)."
        )


def differentiable(loss: Any) -> Tensor:
    """The loss that a function returned without calling backward. Raises AttachError where it is not a loss."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        description = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise AttachError(f"loss_fn returned {description}; it has to return the loss, a tensor of one number.")
    if not loss.requires_grad:
        raise AttachError(
            "loss_fn returned a number without a gradient. Compute the loss from the model, without torch.no_grad(), "
            "detach() or item(), and return it, or call its backward()."
        )
    return loss
