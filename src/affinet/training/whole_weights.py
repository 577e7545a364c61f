"""Evaluate a model whose weights several processes hold with all numbers of them on each process, as one process does.

`fully_shard` and tensor parallelism compute with weights that they gather in hooks around each forward, out of the
sight of autograd's second derivatives. Inside the block the model has plain parameters instead, and no such hooks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from affinet.language.calculus.terms import Floats
from affinet.language.dtensors import gathered, is_distributed, loaded_class
from affinet.training.process_agreement import check_not_distributed

Weights = Mapping[str, torch.nn.Parameter]


@dataclass(frozen=True, eq=False)
class WholeWeights:
    """The weights of a training, each process with all of their numbers, and the processes that share the training."""

    by_name: Weights
    mesh: Any = None
    """The largest device mesh of the weights; None for weights of one process."""

    def mean(self, numbers: Floats) -> Floats:
        """The mean of numbers over all processes, the same bits on each; the numbers themselves in one process."""
        if self.mesh is None:
            return numbers
        total = torch.from_numpy(numbers.copy()).to(self.mesh.device_type)
        for dimension in range(self.mesh.ndim):
            torch.distributed.all_reduce(total, group=self.mesh.get_group(dimension))
        mean: Floats = total.cpu().numpy() / self.mesh.size()
        return mean


def reshard(model: torch.nn.Module | None) -> None:
    """Give a model of `fully_shard` the parameters that optimizers train, also after a forward without a backward."""
    for module in () if model is None else model.modules():
        if isinstance(module, loaded_class("torch.distributed.fsdp", "FSDPModule")):
            module.reshard()


@contextmanager
def whole_weights(model: torch.nn.Module | None, weights: Weights, call: str) -> Iterator[WholeWeights]:
    """Let the model compute with whole weights inside of the block; all processes that hold them have to enter it.

    Afterwards the model has its own parameters and hooks again, which are not written to. Raises
    UnsupportedWeightError, for `call`, where the model does not have one of the weights.
    """
    distributed: list[Any] = [weight for weight in weights.values() if is_distributed(weight)]
    if not distributed:
        yield WholeWeights(weights)
        return
    modules = [] if model is None else list(model.modules())
    places = [
        (module, name, parameter)
        for module in modules
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
        if is_distributed(parameter)
    ]
    parts = {id(parameter): parameter for _, _, parameter in places}
    missing = {name: weight for name, weight in weights.items() if id(weight) not in parts}
    check_not_distributed(missing, call, "Make it a parameter of the model, which then computes with all of it.")
    gathered_parameters = {
        key: torch.nn.Parameter(gathered(part), requires_grad=part.requires_grad) for key, part in parts.items()
    }
    mesh = max((weight.device_mesh for weight in distributed), key=lambda mesh: mesh.size())
    with _without_hooks(modules):
        try:
            for module, name, parameter in places:
                setattr(module, name, gathered_parameters[id(parameter)])
            yield WholeWeights(
                {name: gathered_parameters.get(id(weight), weight) for name, weight in weights.items()}, mesh
            )
        finally:
            for module, name, parameter in places:
                setattr(module, name, parameter)


@contextmanager
def _without_hooks(modules: Sequence[torch.nn.Module]) -> Iterator[None]:
    """Leave out the hooks of torch.distributed around forwards; torch has no public way to list hooks."""
    every = [hooks for module in modules for hooks in (module._forward_pre_hooks, module._forward_hooks)]
    saved = [(hooks, dict(hooks)) for hooks in every]
    try:
        for hooks, former in saved:
            for key, hook in former.items():
                if hook.__module__.startswith("torch.distributed."):
                    del hooks[key]
        yield
    finally:
        for hooks, former in saved:
            hooks.clear()
            hooks.update(former)
