"""Put weights back to where a step began, where the step is refused at a trial point of its line search."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import optim

from affinet.errors import AffinetError


class StepStart:
    """All weights of an optimizer as they are now, before it evaluates its closure at trial points."""

    def __init__(self, optimizer: optim.Optimizer) -> None:
        self._optimizer = optimizer
        weights = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._weights = [(parameter, parameter.detach().clone()) for parameter in weights]

    @torch.no_grad()
    def restore(self) -> None:
        """Put the weights back; what LBFGS learned about the curvature on the way is forgotten."""
        moved = [(weight, former) for weight, former in self._weights if not torch.equal(weight, former)]
        for weight, former in moved:
            weight.copy_(former)
        if moved:
            forget_curvature(self._optimizer)


@contextmanager
def undone_if_refused(start: StepStart | None) -> Iterator[None]:
    """Restore the start of a step where the block raises an error of affinet's; None restores nothing."""
    try:
        yield
    except AffinetError:
        if start is not None:
            start.restore()
        raise


def forget_curvature(optimizer: optim.Optimizer) -> None:
    """Let LBFGS start anew: differences of gradients of two functions, or along two faces, tell nothing of it."""
    for state in optimizer.state.values():
        if "func_evals" in state:  # set by its first step, even where that was refused
            state["n_iter"] = 0


__all__ = ["StepStart", "forget_curvature", "undone_if_refused"]
