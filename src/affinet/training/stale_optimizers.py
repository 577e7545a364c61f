"""Refuse steps of optimizers that hold parameters which the model no longer uses.

An optimizer made before `reparametrize` holds weights that are now computed, one made before `bake` or `fully_shard`
the numbers that they were computed from.
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
"""The replacements of all models that are currently reparametrized."""
_discarded: dict[int, tuple[ref[torch.nn.Parameter], str]] = {}
"""Numbers that baking discarded, by id, for as long as something holds a reference to them."""
_hooks: list[Any] = []
_checked: WeakKeyDictionary[optim.Optimizer, tuple[int, ...]] = WeakKeyDictionary()
"""Optimizer → counts of its parameters, replacements, discarded and sharded numbers, and removals at its last check."""


def refuse_stale(replacement: Replacement) -> None:
    """Until the model is baked, refuse steps of optimizers that hold a parameter taken out of this model.

    A model has no reference to its optimizers, hence one hook on all optimizers from the first model on; an optimizer
    is checked once, and again when it receives more parameters.
    """
    if not _hooks:
        _hooks.append(register_optimizer_step_pre_hook(_before_step))
    _replaced.add(replacement)
    _checked.clear()


def accept_again(replacement: Replacement, numbers: Mapping[str, torch.nn.Parameter]) -> None:
    """After baking, accept the parameters of the model again, and refuse steps of optimizers that hold `numbers`."""
    _replaced.discard(replacement)
    for name, parameter in numbers.items():
        key = id(parameter)
        _discarded[key] = ref(parameter, lambda _, key=key: _discarded.pop(key, None)), name  # type: ignore[misc]
    _checked.clear()


def _before_step(optimizer: optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not _replaced and not _discarded:
        return
    for replacement in _replaced:
        replacement.gradients.before_step(optimizer)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    sharded = [replacement for replacement in _replaced if replacement.is_sharded]
    removals = sum(replacement.removals for replacement in _replaced)
    counts = (len(parameters), len(_replaced), len(_discarded), len(sharded), removals)
    if _checked.get(optimizer) == counts:
        return
    names: dict[int, str] = {}
    discarded_names = {
        id(p): _discarded[id(p)][1] for p in parameters if id(p) in _discarded and _discarded[id(p)][0]() is p
    }
    for replacement in _replaced:
        replacement.refuse_partly_plain(parameters)
        names |= replacement.names()
        discarded_names |= {id(number): name for name, number in replacement.abandoned().items()}
    kind = type(optimizer).__name__
    advice = f"Make a new optimizer, torch.optim.{kind}(model.parameters(), …), and new schedulers. "
    if replaced := [names[id(p)] for p in parameters if id(p) in names]:
        raise AttachError(
            f"this {kind} was made before affinet.reparametrize: it holds {_listed(replaced)}, which "
            f"{'is' if len(replaced) == 1 else 'are'} now computed from other numbers, and would train nothing there. "
            f"{advice}The step was not taken."
        )
    split_names = {number: name for replacement in sharded for number, name in replacement.gradients.followed.items()}
    if split := [split_names[id(p)] for p in parameters if id(p) in split_names]:
        raise AttachError(
            f"this {kind} was made before fully_shard: it holds {_listed(split)}, which processes hold together now, "
            f"and would train nothing there. {advice}The step was not taken."
        )
    if unused := [discarded_names[id(p)] for p in parameters if id(p) in discarded_names]:
        raise AttachError(
            f"this {kind} was made before the model was baked: it holds {_listed(unused)}, from which nothing is "
            f"computed any more. {advice}The rules do not hold after baking; affinet.project keeps them through the "
            f"steps of a new optimizer. The step was not taken."
        )
    _checked[optimizer] = counts


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
