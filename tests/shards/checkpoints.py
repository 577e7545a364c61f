"""Distributed checkpoints of a training under rules: written by some processes, read by others."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch.distributed.checkpoint as dcp
from torch import Tensor, optim
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.tensor import DTensor

import affinet
from tests.shards.fsdp_training import numbers
from tests.shards.scenarios import net_of, rules, steps


def training(kinds: tuple[str, ...]) -> tuple[Any, optim.Optimizer, affinet.Handle]:
    net = net_of(True)
    optimizer = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    return net, optimizer, affinet.project(net, optimizer, rules(net, *kinds))


def found(net: Any, handle: affinet.Handle) -> dict[str, Tensor]:
    """Weights and what was learned about inequalities, by name."""
    learned = {
        f"{number} {name}": part
        for number, state in enumerate(handle.state_dict()["inequalities"])
        if state is not None
        for name, part in _tensors(state, "")
    }
    return {**numbers(net), **learned}


def _tensors(state: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a state by their place in it, with all of their numbers."""
    if isinstance(state, Tensor):
        yield name, (state.full_tensor() if isinstance(state, DTensor) else state)
    else:
        for key, value in state.items() if isinstance(state, dict) else enumerate(state):
            yield from _tensors(value, f"{name}/{key}")


def saved(folder: str, kinds: tuple[str, ...], before: int, after: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Steps, a checkpoint, and further steps: what was there when it was written, and in the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net, optimizer, handle = training(kinds)
        steps(net, optimizer, True, before)
        model_state, optimizer_state = get_state_dict(net, optimizer)
        dcp.save({"model": model_state, "optimizer": optimizer_state, "rules": handle}, checkpoint_id=folder)
        then = found(net, handle)
        steps(net, optimizer, True, after)
        return then, found(net, handle)


def loaded(folder: str, kinds: tuple[str, ...], after: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What a new training has read from a checkpoint, and what it has after further steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net, optimizer, handle = training(kinds)
        model_state, optimizer_state = get_state_dict(net, optimizer)
        dcp.load({"model": model_state, "optimizer": optimizer_state, "rules": handle}, checkpoint_id=folder)
        set_state_dict(net, optimizer, model_state_dict=model_state, optim_state_dict=optimizer_state)
        then = found(net, handle)
        steps(net, optimizer, True, after)
        return then, found(net, handle)
