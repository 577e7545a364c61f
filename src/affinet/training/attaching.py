"""Check, before anything is changed, that model, optimizers, gradients and rules belong to each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from weakref import ref

import torch
from torch import Tensor, optim

from affinet.errors import AttachError, GradientError, counted
from affinet.language.dtensors import gathered
from affinet.language.modules import is_of_keras
from affinet.training.nesting import parameter_ids


class Place(NamedTuple):
    """One attribute of one module that held a constrained parameter when the rules were attached."""

    name: str
    module: ref[torch.nn.Module]
    attribute: str
    parameter: torch.nn.Parameter


def refuse_keras(model: object, verb: str) -> None:
    """Raise AttachError for a model of Keras, which on its torch backend is a torch module, too."""
    if is_of_keras(model):
        raise AttachError(
            f"{verb} trains torch modules, and {type(model).__name__} is of Keras. Compile the model with the "
            f"optimizer that affinet.keras.project(model, optimizer, rules) returns."
        )


def check_model(model: object, verb: str) -> None:
    """Raise AttachError unless the first argument of a verb is a torch module, and not one of Keras."""
    refuse_keras(model, verb)
    if not isinstance(model, torch.nn.Module):
        raise AttachError(
            f"{verb} takes the model first, then its optimizer, then the rules; {type(model).__name__} is not a "
            f"torch.nn.Module."
        )


def listed_optimizers(optimizer: optim.Optimizer | Iterable[optim.Optimizer]) -> tuple[optim.Optimizer, ...]:
    """The optimizers that were given. Raises AttachError for none, for one given twice, and for other values."""
    if isinstance(optimizer, str):
        raise AttachError(
            f"{optimizer!r:.60} is text. Give the optimizer itself, torch.optim.Adam(model.parameters(), lr=1e-3); "
            f"only affinet.keras.project, for models of Keras, takes names."
        )
    optimizers = tuple(optimizer) if isinstance(optimizer, Iterable) else (optimizer,)
    if not optimizers:
        raise AttachError("there is no optimizer in the list. Give the one that trains this model.")
    if len({id(member) for member in optimizers}) < len(optimizers):
        raise AttachError("the same optimizer is in the list twice. Give each optimizer once.")
    check_optimizers(optimizers, {})
    return optimizers


def check_optimizers(optimizers: tuple[optim.Optimizer, ...], constrained: Mapping[str, torch.nn.Parameter]) -> None:
    """Raise AttachError unless these optimizers can be projected and together hold the constrained parameters."""
    for optimizer in optimizers:
        if is_of_keras(optimizer):
            raise AttachError(
                f"{type(optimizer).__name__} is an optimizer of Keras, and this model is a torch module: give one such "
                f"as torch.optim.Adam(model.parameters(), lr=1e-3). For models of Keras there is affinet.keras.project."
            )
        if not isinstance(optimizer, optim.Optimizer):
            raise AttachError(
                f"{type(optimizer).__name__} is not a torch.optim.Optimizer. {_way_to_optimizer(optimizer)}"
            )
        if isinstance(optimizer, optim.SparseAdam):
            raise AttachError(
                "SparseAdam takes sparse gradients only, and a projected gradient is dense. Use Adam, and dense "
                "gradients (torch.nn.Embedding(..., sparse=False))."
            )
    holders = _count_holders(optimizers)
    shared_names = [name for name, parameter in constrained.items() if holders.get(id(parameter), 0) > 1]
    if shared_names:
        raise AttachError(
            f"more than one of the optimizers holds {_listed(shared_names)}, so that its weight decay and its step are "
            f"ambiguous. Give each parameter to one of them, or attach the optimizers in turn (handle.remove())."
        )
    missing_names = [name for name, parameter in constrained.items() if id(parameter) not in holders]
    if not missing_names:
        return
    sharding_hint = (
        " The optimizer inside a ZeroRedundancyOptimizer holds a part of them: attach to the outer one. That of "
        "DeepSpeed holds flat copies (ZeRO, 16-bit weights), which no rule reaches: use "
        "torch.distributed.fsdp.fully_shard."
        if torch.distributed.is_available() and torch.distributed.is_initialized()
        else ""
    )
    if len(missing_names) == len(constrained):
        raise AttachError(
            f"the optimizer holds none of the constrained parameters ({_listed(missing_names)}). Was it made from "
            f"another model, from a copy, or before the parameters were replaced, as fully_shard does? Make it from "
            f"this model's parameters."
            f"{sharding_hint}"
        )
    raise AttachError(
        f"the rules couple parameters that the optimizer does not hold: {_listed(missing_names)}. Give them to the "
        f"optimizer, or freeze them (requires_grad_(False)) to make them constants at their present value."
        f"{sharding_hint}"
    )


def places_of(model: torch.nn.Module, constrained: Mapping[str, torch.nn.Parameter]) -> tuple[Place, ...]:
    """Where the model holds the constrained parameters, all places of a shared one; modules are referenced weakly."""
    names = {id(parameter): name for name, parameter in constrained.items()}
    return tuple(
        Place(names[id(parameter)], ref(module), attribute, parameter)
        for module in model.modules()
        for attribute, parameter in module._parameters.items()
        if id(parameter) in names and parameter is not None
    )


def check_places(places: tuple[Place, ...], outcome: str = "The step was not taken.") -> None:
    """Raise AttachError, naming the parameter, where the model has replaced one by another object."""
    for place in places:
        module = place.module()
        if module is not None and module._parameters.get(place.attribute) is not place.parameter:
            raise AttachError(
                f"{place.name} is no longer the parameter that the rules are attached to: the model has another object "
                f"in its place (load_state_dict(..., assign=True), parametrizations and fully_shard do that), which "
                f"neither the optimizer nor the rules reach. {outcome} Call handle.remove(), make a new "
                f"optimizer from model.parameters(), and attach again: after sharding; or load without assign=True."
            )


def check_still_held(optimizers: Sequence[optim.Optimizer | None], trained: Mapping[str, torch.nn.Parameter]) -> None:
    """Raise AttachError where the optimizers no longer hold one of the trained parameters that the rules are about.

    Nothing is checked once one of several optimizers is gone: nothing steps its parameters any more.
    """
    live = [optimizer for optimizer in optimizers if optimizer is not None]
    ids = set().union(*(parameter_ids(optimizer) for optimizer in live))
    names = [name for name, parameter in trained.items() if id(parameter) not in ids]
    if names and len(live) == len(optimizers):
        kinds = " and ".join(type(optimizer).__name__ for optimizer in live)
        raise AttachError(
            f"{kinds} no longer hold{'s' if len(live) == 1 else ''} {_listed(names)}: the param_groups have other "
            f"tensors than when the rules were attached, and steps would not move the weights of the rules. DeepSpeed "
            f"does that, which trains flat copies (ZeRO, 16-bit weights). The step was not taken. Call "
            f"handle.remove(), and attach to an optimizer of the model's own parameters; to train shards of them, use "
            f"torch.distributed.fsdp.fully_shard. Weights that no optimizer is to move are frozen by "
            f"requires_grad_(False)."
        )


def check_stepped_alone(optimizer: optim.Optimizer, missing_names: Iterable[str], *, in_backward: bool) -> None:
    """Raise GradientError, naming them, for gradients that the backward pass has not computed yet."""
    names = sorted(missing_names)
    if not names:
        return
    moment = "inside the backward pass" if in_backward else "before the others have gradients"
    raise GradientError(
        f"{type(optimizer).__name__} steps {moment}, and rules couple its weights to {_listed(names)}, whose "
        f"gradient{'s are' if len(names) > 1 else ' is'} not computed yet: a step with a part of the gradients leads "
        f"to another point than the optimum. Step all optimizers after backward() has ended; freeze weights that must "
        f"not move with requires_grad_(False); give a weight that is not used in this step a gradient of zeros "
        f"(zero_grad(set_to_none=False)); or train with affinet.reparametrize. The step was not taken."
    )


def check_gradients(gradients: Mapping[str, Tensor | None]) -> None:
    """Raise GradientError for gradients that cannot be projected; nothing has been changed then."""
    for name, gradient in gradients.items():
        if gradient is None:
            continue
        if gradient.layout != torch.strided:
            raise GradientError(
                f"the gradient of {name} is sparse ({gradient.layout}), and a projected gradient is dense. Use dense "
                f"gradients (torch.nn.Embedding(..., sparse=False)); the step was not taken."
            )
        if gradient.is_complex():
            raise GradientError(
                f"the gradient of {name} is complex; rules are about real weights. The step was not taken."
            )


def check_finite_gradients(gradients: Mapping[str, Tensor | None]) -> None:
    """Raise GradientError naming the first parameter whose gradient is not finite. Waits for the device."""
    for name, gradient in gradients.items():
        if gradient is not None and not bool(torch.isfinite(gathered(gradient)).all()):
            count = int((~torch.isfinite(gathered(gradient))).sum())
            raise GradientError(
                f"the gradient of {name} holds {counted(count, 'number that is', 'numbers that are')} not finite; the "
                f"step was not taken. Look at the loss and the learning rate, or clip."
            )


def _count_holders(optimizers: tuple[optim.Optimizer, ...]) -> Counter[int]:
    """How many of the optimizers hold each parameter, by its id."""
    return Counter(
        parameter_id
        for optimizer in optimizers
        for parameter_id in {id(p) for group in optimizer.param_groups for p in group["params"]}
    )


def _way_to_optimizer(wrapper: object) -> str:
    """What to give instead of an object that is not an optimizer of torch."""
    for name, value in getattr(wrapper, "__dict__", {}).items():
        if isinstance(value, optim.Optimizer):
            return f"It keeps one as .{name}: give that {type(value).__name__}."
    return "Give the model first and then its optimizer, or a list of its optimizers."


def _listed(names: list[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f", … ({len(names)} in all)" if len(names) > limit else "")
