"""Which optimizers keep rules now, and on which parameters."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping
from weakref import WeakKeyDictionary, ref

import torch
from torch import optim

from affinet.errors import AttachError
from affinet.training.nesting import held_by

ATTACHED: WeakKeyDictionary[optim.Optimizer, tuple[ref[torch.nn.Parameter], ...]] = WeakKeyDictionary()
"""The parameters that the rules of an optimizer constrain, by optimizer; wrappers around one count as it."""


def check_unattached(optimizers: Iterable[optim.Optimizer]) -> None:
    """Raise AttachError where one of the optimizers keeps rules already."""
    if any(one in ATTACHED for one in optimizers):
        raise AttachError(
            "this optimizer already keeps rules. Give new rules to handle.update, all rules to one affinet.project "
            "call, or take the first off with handle.remove()."
        )


def check_apart(
    optimizers: Iterable[optim.Optimizer],
    constrained: Mapping[str, torch.nn.Parameter],
    model: torch.nn.Module,
) -> None:
    """Raise AttachError where these or other optimizers would move weights that the others keep on rules."""
    optimizers = tuple(optimizers)
    if _shared(optimizers, constrained):
        gc.collect()  # an optimizer that nothing but a cycle holds (a scheduler's) does not step any more
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for other, clash in _shared(optimizers, constrained):
        listed = sorted(names.get(one, "a weight of another model") for one in clash)
        raise AttachError(
            f"another optimizer ({type(other).__name__}) keeps rules, and both would move {', '.join(listed)}, each "
            f"off the rules of the other. Give both optimizers and all rules to one affinet.project call, or take the "
            f"earlier rules off with handle.remove()."
        )


def attach(optimizers: Iterable[optim.Optimizer], constrained: Iterable[torch.nn.Parameter]) -> None:
    """Remember that these optimizers keep rules over these parameters."""
    held = tuple(ref(parameter) for parameter in constrained)
    ATTACHED.update(dict.fromkeys(optimizers, held))


def detach(optimizers: Iterable[optim.Optimizer]) -> None:
    """Forget it; one that kept no rules is passed over."""
    for optimizer in optimizers:
        ATTACHED.pop(optimizer, None)


def _shared(
    optimizers: tuple[optim.Optimizer, ...], constrained: Mapping[str, torch.nn.Parameter]
) -> list[tuple[optim.Optimizer, set[int]]]:
    """Other optimizers that keep rules, with the ids of parameters that one side constrains and the other moves."""
    held = set().union(*(held_by(one) for one in optimizers))
    ours = set(map(id, constrained.values()))
    found = []
    for other, kept in list(ATTACHED.items()):
        if any(other is one for one in optimizers):
            continue
        theirs = {id(parameter) for one in kept if (parameter := one()) is not None}
        clash = (theirs & held) | (ours & held_by(other))
        if clash:
            found.append((other, clash))
    return found
