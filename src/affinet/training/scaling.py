"""Unscale the gradients of all optimizers before the first of them steps under a GradScaler."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import torch
from torch import optim

FRAMES = 24
"""How many calls up the stack a GradScaler is searched for: torch has fewer wrappers around a step."""


def unscale(optimizers: Iterable[optim.Optimizer]) -> bool:
    """Unscale the gradients of these optimizers if a GradScaler is stepping another one; return whether that is so.

    A GradScaler unscales the gradients of an optimizer when it steps it, and rules may couple them with those of the
    other optimizers. Gradients that it has unscaled or used already do not change.
    """
    scaler = _stepping_scaler()
    if scaler is None:
        return False
    for optimizer in optimizers:
        try:
            scaler.unscale_(optimizer)
        except RuntimeError:  # torch raises it for gradients that were unscaled or used since the last update
            continue
    return True


def _stepping_scaler() -> torch.amp.GradScaler | None:
    """The GradScaler whose `step` is among the callers, since an optimizer has no reference to it."""
    frame = sys._getframe(1).f_back
    for _ in range(FRAMES):
        if frame is None:
            return None
        if frame.f_code.co_name == "step" and isinstance(scaler := frame.f_locals.get("self"), torch.amp.GradScaler):
            return scaler
        frame = frame.f_back
    return None
