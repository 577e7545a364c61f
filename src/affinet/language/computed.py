"""Weights that torch computes before every forward, by a parametrization or a hook, from parameters of other names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from affinet.errors import UnsupportedWeightError

if TYPE_CHECKING:
    import torch

SOURCES = ("orig", "g", "v")
"""How pruning, weight_norm and spectral_norm name the parameters that they compute `weight` from: `weight_orig`, …"""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a parameter cannot be constrained, and what to do about it."""

    name: str
    reason: str
    way_out: str

    def error(self) -> UnsupportedWeightError:
        """The error to raise when somebody asks for the weight."""
        return UnsupportedWeightError(self.name, self.reason, self.way_out)


def computed_weights(path: str, part: torch.nn.Module) -> dict[str, Refusal]:
    """The weights of a module that are computed, and the parameters that they are computed from, by name."""
    inside = f"{path}." if path else ""
    return _parametrized(inside, part) | _hooked(inside, part)


def _parametrized(inside: str, part: torch.nn.Module) -> dict[str, Refusal]:
    if not _torch("nn.utils.parametrize").is_parametrized(part):
        return {}
    refused = {}
    lists = part.get_submodule("parametrizations")
    for key, steps in lists.named_children():
        kinds = ", ".join(type(step).__name__ for step in steps.children()) or "a parametrization"
        reason = f"it is computed by torch's parametrize ({kinds})"
        way_out = (
            f'Call torch.nn.utils.parametrize.remove_parametrizations(layer, "{key}") first, '
            f"or say the same as rules and leave the parametrization out."
        )
        if any(type(step).__module__.startswith("affinet.") for step in steps.children()):
            reason, way_out = "it is computed by affinet.reparametrize", "Call affinet.bake(model) first."
        refused[inside + key] = Refusal(inside + key, reason, way_out)
        for name, _ in steps.named_parameters():
            hidden = f"{inside}parametrizations.{key}.{name}"
            refused[hidden] = Refusal(hidden, f"{inside + key} is computed from it by torch's parametrize", way_out)
    return refused


def _hooked(inside: str, part: torch.nn.Module) -> dict[str, Refusal]:
    """A rule on the parameter behind such a weight would hold for that parameter and not for the weight in use."""
    refused = {}
    for key, function, way_out in _hooks(part):
        name = inside + key
        refused[name] = Refusal(name, f"it is computed by {function} before every forward", way_out)
        for source in (f"{key}_{suffix}" for suffix in SOURCES):
            if part._parameters.get(source) is not None:
                reason = f"{name} is computed from it by {function}, and a rule on it would not hold for {name}"
                refused[inside + source] = Refusal(inside + source, reason, way_out)
    for key in _plain_tensors(part):
        name = inside + key
        sources = [source for source in part._parameters if source.startswith(f"{key}_")]
        if name not in refused and sources:
            reason = f"it is a tensor that the module or one of its hooks sets, and no Parameter ({sources[0]} is one)"
            way_out = "Rules hold for Parameters: keep it as one, or constrain what is computed from it elsewhere."
            refused[name] = Refusal(name, reason, way_out)
    return refused


def _hooks(part: torch.nn.Module) -> Iterator[tuple[str, str, str]]:
    """Weight, function and way out of every hook of `torch.nn.utils` that computes a weight."""
    prune, norm, spectral = (_torch(f"nn.utils.{name}") for name in ("prune", "weight_norm", "spectral_norm"))
    for hook in part._forward_pre_hooks.values():
        if prune is not None and isinstance(hook, prune.BasePruningMethod):
            key = str(hook._tensor_name)
            way_out = (
                f'Call torch.nn.utils.prune.remove(layer, "{key}") first. To keep its zeros while training, make them '
                f"a rule: families.fix(w.layer.{key}, where=mask == 0)."
            )
            yield key, "torch.nn.utils.prune", way_out
        elif norm is not None and isinstance(hook, norm.WeightNorm):
            yield hook.name, "torch.nn.utils.weight_norm", _removed("remove_weight_norm", hook.name)
        elif spectral is not None and isinstance(hook, spectral.SpectralNorm):
            yield hook.name, "torch.nn.utils.spectral_norm", _removed("remove_spectral_norm", hook.name)


def _removed(function: str, key: str) -> str:
    return f'Call torch.nn.utils.{function}(layer, "{key}") first.'


def _plain_tensors(part: torch.nn.Module) -> list[str]:
    """Attributes of a module that are tensors and neither parameters nor buffers."""
    tensor = _torch("").Tensor
    return [name for name, value in vars(part).items() if isinstance(value, tensor)]


def _torch(name: str) -> Any:
    """A part of torch: it is loaded, since somebody made a module."""
    module = f"torch.{name}" if name else "torch"
    return sys.modules.get(module)
