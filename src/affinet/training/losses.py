"""`loss_fn` of `report`: what it may return, and the gradients of a model while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from affinet.errors import AttachError


@contextmanager
def gradients_apart(parameters: Iterable[torch.nn.Parameter]) -> Iterator[list[torch.nn.Parameter]]:
    """No parameter has a gradient inside, and each has the very tensor of before afterwards, with the same bits."""
    held = {id(p): (p, p.grad) for p in parameters}
    for parameter, _ in held.values():
        parameter.grad = None
    try:
        yield [parameter for parameter, _ in held.values()]
    finally:
        for parameter, gradient in held.values():
            parameter.grad = gradient


def check_callable(loss_fn: Any) -> None:
    """Raise AttachError for what cannot be called."""
    if not callable(loss_fn):
        raise AttachError(
            f"loss_fn is {type(loss_fn).__name__}; give a function that computes the loss anew, such as "
            f"lambda: criterion(model(inputs), targets)."
        )


def differentiable(loss: Any) -> Tensor:
    """The loss that a function returned without calling backward. Raises AttachError where it is no such thing."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise AttachError(f"loss_fn returned {got}; it has to return the loss, a tensor of one number.")
    if not loss.requires_grad:
        raise AttachError(
            "loss_fn returned a number without a gradient. Compute the loss from the model, without torch.no_grad(), "
            "detach() or item(), and return it, or call its backward()."
        )
    return loss
