"""Unscale the gradients of all optimizers before the first of them steps under a GradScaler."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import torch
from torch import optim

FRAMES = 24
"""How far up the calls a GradScaler is looked for: torch's wrappers around a step are fewer."""


def unscale(others: Iterable[optim.Optimizer]) -> bool:
    """Unscale the gradients of these optimizers if a GradScaler is stepping another one; whether one is.

    A GradScaler unscales the gradients of an optimizer when it steps that one, and rules may couple them with those of
    the others. What it has unscaled or stepped already is left alone.
    """
    scaler = _stepping_scaler()
    if scaler is None:
        return False
    for other in others:
        try:
            scaler.unscale_(other)
        except RuntimeError:  # torch's word for gradients that were unscaled, or stepped with, since the last update
            continue
    return True


def _stepping_scaler() -> torch.amp.GradScaler | None:
    """The GradScaler whose `step` has led here: an optimizer does not know of it."""
    frame = sys._getframe(1).f_back
    for _ in range(FRAMES):
        if frame is None:
            return None
        if frame.f_code.co_name == "step" and isinstance(found := frame.f_locals.get("self"), torch.amp.GradScaler):
            return found
        frame = frame.f_back
    return None
