"""Find weights that torch computes before every forward, by a parametrization or a hook, from other parameters."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from affinet.errors import UnsupportedWeightError

if TYPE_CHECKING:
    import torch

SOURCES = ("orig", "g", "v")
"""Suffixes of the parameters from which pruning, weight_norm and spectral_norm compute `weight`: `weight_orig`, …"""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The name of a parameter that cannot be constrained, the reason, and what to do about it."""

    name: str
    reason: str
    way_out: str

    def error(self) -> UnsupportedWeightError:
        """The error to raise when the weight is asked for."""
        return UnsupportedWeightError(self.name, self.reason, self.way_out)


def computed_weights(path: str, part: torch.nn.Module) -> dict[str, Refusal]:
    """Refusals, by name, of a module's computed weights and of the parameters that these are computed from."""
    prefix = f"{path}." if path else ""
    return _parametrized_weights(prefix, part) | _hooked_weights(prefix, part)


def _parametrized_weights(prefix: str, part: torch.nn.Module) -> dict[str, Refusal]:
    if not _torch_module("nn.utils.parametrize").is_parametrized(part):
        return {}
    refusals = {}
    parametrizations = part.get_submodule("parametrizations")
    for key, steps in parametrizations.named_children():
        kinds = ", ".join(type(step).__name__ for step in steps.children()) or "a parametrization"
        reason = f"it is computed by torch's parametrize ({kinds})"
        way_out = (
            f'Call torch.nn.utils.parametrize.remove_parametrizations(layer, "{key}") first, '
            f"or write the same as rules and leave the parametrization out."
        )
        if any(type(step).__module__.startswith("affinet.") for step in steps.children()):
            reason, way_out = "it is computed by affinet.reparametrize", "Call affinet.bake(model) first."
        refusals[prefix + key] = Refusal(prefix + key, reason, way_out)
        for name, _ in steps.named_parameters():
            full_name = f"{prefix}parametrizations.{key}.{name}"
            refusals[full_name] = Refusal(
                full_name, f"{prefix + key} is computed from it by torch's parametrize", way_out
            )
    return refusals


def _hooked_weights(prefix: str, part: torch.nn.Module) -> dict[str, Refusal]:
    """Refusals of weights that hooks compute, and of the parameters that they are computed from.

    A rule on such a parameter would hold for the parameter and not for the weight in use.
    """
    refusals = {}
    for key, function, way_out in _computing_hooks(part):
        name = prefix + key
        refusals[name] = Refusal(name, f"it is computed by {function} before every forward", way_out)
        for source in (f"{key}_{suffix}" for suffix in SOURCES):
            if part._parameters.get(source) is not None:
                reason = f"{name} is computed from it by {function}, and a rule on it would not hold for {name}"
                refusals[prefix + source] = Refusal(prefix + source, reason, way_out)
    for key in _plain_tensors(part):
        name = prefix + key
        sources = [source for source in part._parameters if source.startswith(f"{key}_")]
        if name not in refusals and sources:
            reason = f"it is a tensor that the module or one of its hooks sets, not a Parameter ({sources[0]} is one)"
            way_out = "Rules are about Parameters: make it a Parameter, or write the rule about another weight."
            refusals[name] = Refusal(name, reason, way_out)
    return refusals


def _computing_hooks(part: torch.nn.Module) -> Iterator[tuple[str, str, str]]:
    """The weight, the function and the way out of every hook of `torch.nn.utils` that computes a weight."""
    prune, norm, spectral = (_torch_module(f"nn.utils.{name}") for name in ("prune", "weight_norm", "spectral_norm"))
    for hook in part._forward_pre_hooks.values():
        if prune is not None and isinstance(hook, prune.BasePruningMethod):
            key = str(hook._tensor_name)
            way_out = (
                f'Call torch.nn.utils.prune.remove(layer, "{key}") first. To keep its zeros while training, write them '
                f"as a rule: families.fix(w.layer.{key}, where=mask == 0)."
            )
            yield key, "torch.nn.utils.prune", way_out
        elif norm is not None and isinstance(hook, norm.WeightNorm):
            yield hook.name, "torch.nn.utils.weight_norm", _removal_advice("remove_weight_norm", hook.name)
        elif spectral is not None and isinstance(hook, spectral.SpectralNorm):
            yield hook.name, "torch.nn.utils.spectral_norm", _removal_advice("remove_spectral_norm", hook.name)


def _removal_advice(function: str, key: str) -> str:
    return f'Call torch.nn.utils.{function}(layer, "{key}") first.'


def _plain_tensors(part: torch.nn.Module) -> list[str]:
    """Names of a module's attributes that are tensors but neither parameters nor buffers."""
    tensor = _torch_module("").Tensor
    return [name for name, value in vars(part).items() if isinstance(value, tensor)]


def _torch_module(name: str) -> Any:
    """A module of torch, without an import: it is loaded already, since there is a torch.nn.Module."""
    module = f"torch.{name}" if name else "torch"
    return sys.modules.get(module)
