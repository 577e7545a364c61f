"""Optimizers made for another state of a model: they hold parameters that nothing is computed from.

Those made before `reparametrize` hold weights that are now computed, those made before `bake` the numbers they were
computed from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, ref

import torch
from torch import optim
from torch.optim.optimizer import register_optimizer_step_pre_hook

from affinet.errors import AttachError
from affinet.training.replacing import Replacement

_replaced: WeakSet[Replacement] = WeakSet()
"""Models that are reparametrized now."""
_gone: dict[int, tuple[ref[torch.nn.Parameter], str]] = {}
"""Numbers that baking did away with, by id, for as long as somebody holds them."""
_hooks: list[Any] = []
_checked: WeakKeyDictionary[optim.Optimizer, tuple[int, int, int, int]] = WeakKeyDictionary()
"""How many parameters an optimizer had, and how much was known, when it was last found to be right."""


def refuse_stale(replacement: Replacement) -> None:
    """From now on until it is baked, a step of an optimizer that holds a parameter taken out of this model raises.

    No optimizer can be found from its model, hence one hook on all of them, from the first model on; an optimizer is
    looked at once, and again when it is given more parameters.
    """
    if not _hooks:
        _hooks.append(register_optimizer_step_pre_hook(_before_step))
    _replaced.add(replacement)
    _checked.clear()


def accept_again(replacement: Replacement, numbers: Mapping[str, torch.nn.Parameter]) -> None:
    """The model is baked: its parameters are its own again, and a step of an optimizer that holds `numbers` raises."""
    _replaced.discard(replacement)
    for name, parameter in numbers.items():
        key = id(parameter)
        _gone[key] = ref(parameter, lambda _, key=key: _gone.pop(key, None)), name  # type: ignore[misc]
    _checked.clear()


def _before_step(optimizer: optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not _replaced and not _gone:
        return
    for replacement in _replaced:
        replacement.gradients.before_step(optimizer)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    now = (len(parameters), len(_replaced), len(_gone), sum(replacement.removals for replacement in _replaced))
    if _checked.get(optimizer) == now:
        return
    names: dict[int, str] = {}
    left = {id(p): _gone[id(p)][1] for p in parameters if id(p) in _gone and _gone[id(p)][0]() is p}
    for replacement in _replaced:
        replacement.refuse_torn(parameters)
        names |= replacement.names()
        left |= {id(number): name for name, number in replacement.abandoned().items()}
    kind = type(optimizer).__name__
    anew = f"Make this optimizer anew, torch.optim.{kind}(model.parameters(), …), and its schedulers. "
    if held := [names[id(p)] for p in parameters if id(p) in names]:
        raise AttachError(
            f"this {kind} was made before affinet.reparametrize: it holds {_listed(held)}, which "
            f"{'is' if len(held) == 1 else 'are'} now computed from other numbers, and would train nothing there. "
            f"{anew}The step was not taken."
        )
    if stale := [left[id(p)] for p in parameters if id(p) in left]:
        raise AttachError(
            f"this {kind} was made before the model was baked: it holds {_listed(stale)}, from which nothing is "
            f"computed any more. {anew}Rules are kept no longer after baking: affinet.project keeps them through the "
            f"steps of a new optimizer. The step was not taken."
        )
    _checked[optimizer] = now


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
