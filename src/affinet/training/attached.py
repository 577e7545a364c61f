"""Register which optimizers keep rules, and on which parameters; refuse optimizers that would break other rules."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping
from weakref import WeakKeyDictionary, ref

import torch
from torch import optim

from affinet.errors import AttachError
from affinet.training.nesting import parameter_ids

ATTACHED: WeakKeyDictionary[optim.Optimizer, tuple[ref[torch.nn.Parameter], ...]] = WeakKeyDictionary()
"""Optimizer → parameters that its rules constrain; wrappers around an optimizer are registered too."""


def check_unattached(optimizers: Iterable[optim.Optimizer]) -> None:
    """Raise AttachError where one of the optimizers keeps rules already."""
    if any(optimizer in ATTACHED for optimizer in optimizers):
        raise AttachError(
            "this optimizer already keeps rules. An optimizer takes one call, of affinet.project or of "
            "affinet.lagrange, not of both: give all rules to one call, change those of affinet.project with "
            "handle.update, or remove the first rules with handle.remove()."
        )


def check_no_shared_weights(
    optimizers: Iterable[optim.Optimizer],
    constrained: Mapping[str, torch.nn.Parameter],
    model: torch.nn.Module,
) -> None:
    """Raise AttachError where one of these optimizers and another one would move the same constrained weights."""
    optimizers = tuple(optimizers)
    if _shared(optimizers, constrained):
        gc.collect()  # an optimizer that only a reference cycle keeps alive (with its scheduler) does not step any more
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for other, shared_ids in _shared(optimizers, constrained):
        shared_names = sorted(names.get(parameter_id, "a weight of another model") for parameter_id in shared_ids)
        raise AttachError(
            f"another optimizer ({type(other).__name__}) keeps rules, and both would move {', '.join(shared_names)}, "
            f"each against the rules of the other. Give both optimizers and all rules to one call (of "
            f"affinet.project or of affinet.lagrange), or remove the earlier rules with handle.remove()."
        )


def attach(optimizers: Iterable[optim.Optimizer], constrained: Iterable[torch.nn.Parameter]) -> None:
    """Register that these optimizers keep rules on these parameters."""
    references = tuple(ref(parameter) for parameter in constrained)
    ATTACHED.update(dict.fromkeys(optimizers, references))


def detach(optimizers: Iterable[optim.Optimizer]) -> None:
    """Remove these optimizers from the register; those that are not in it are ignored."""
    for optimizer in optimizers:
        ATTACHED.pop(optimizer, None)


def _shared(
    optimizers: tuple[optim.Optimizer, ...], constrained: Mapping[str, torch.nn.Parameter]
) -> list[tuple[optim.Optimizer, set[int]]]:
    """Other registered optimizers, with the ids of parameters that one side constrains and the other side moves."""
    our_moved = set().union(*(parameter_ids(optimizer) for optimizer in optimizers))
    our_ids = set(map(id, constrained.values()))
    conflicts = []
    for other, references in list(ATTACHED.items()):
        if any(other is optimizer for optimizer in optimizers):
            continue
        their_ids = {id(parameter) for reference in references if (parameter := reference()) is not None}
        shared_ids = (their_ids & our_moved) | (our_ids & parameter_ids(other))
        if shared_ids:
            conflicts.append((other, shared_ids))
    return conflicts
