"""Optimizers that were made before a model was reparametrized: they hold parameters that nothing is computed from."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from torch import optim
from torch.optim.optimizer import register_optimizer_step_pre_hook

from affinet.errors import AttachError
from affinet.training.replacing import Replacement

_replaced: WeakSet[Replacement] = WeakSet()
"""Models that are reparametrized now."""
_hooks: list[Any] = []
_checked: WeakKeyDictionary[optim.Optimizer, tuple[int, int]] = WeakKeyDictionary()
"""How many parameters an optimizer had, and how many models were known, when it was last found to be right."""


def refuse_stale(replacement: Replacement) -> None:
    """From now on until it is baked, a step of an optimizer that holds a parameter taken out of this model raises.

    No optimizer can be found from its model, hence one hook on all of them, from the first model on; an optimizer is
    looked at once, and again when it is given more parameters.
    """
    if not _hooks:
        _hooks.append(register_optimizer_step_pre_hook(_before_step))
    _replaced.add(replacement)
    _checked.clear()


def accept_again(replacement: Replacement) -> None:
    """The model is baked: its parameters are its own again."""
    _replaced.discard(replacement)


def _before_step(optimizer: optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not _replaced:
        return
    now = (sum(len(group["params"]) for group in optimizer.param_groups), len(_replaced))
    if _checked.get(optimizer) == now:
        return
    names: dict[int, str] = {}
    for replacement in _replaced:
        names |= replacement.names()
    held = [names[id(p)] for group in optimizer.param_groups for p in group["params"] if id(p) in names]
    if held:
        some = ", ".join(held[:4]) + (", …" if len(held) > 4 else "")
        raise AttachError(
            f"this {type(optimizer).__name__} was made before affinet.reparametrize: it holds {some}, which "
            f"{'is' if len(held) == 1 else 'are'} now computed from other numbers, and would train nothing there. Make "
            f"this optimizer anew, torch.optim.{type(optimizer).__name__}(model.parameters(), …), and its schedulers. "
            f"The step was not taken."
        )
    _checked[optimizer] = now
