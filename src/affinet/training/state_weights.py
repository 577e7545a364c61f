"""Project the weights in an optimizer's state too: schedule-free points, averages, slow weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from weakref import ref

import torch
from torch import Tensor, optim

from affinet.errors import AttachError, callers_line
from affinet.kernels.torch.projector import Projector
from affinet.language.dtensors import gathered
from affinet.training.nesting import Nest
from affinet.training.probing import ProbeError, state_weights

WITHOUT_STATE_WEIGHTS = (
    "SGD",
    "Adam",
    "AdamW",
    "Adamax",
    "NAdam",
    "RAdam",
    "Adagrad",
    "Adadelta",
    "RMSprop",
    "Adafactor",
    "Muon",
)
"""Optimizers of torch.optim whose state depends only on gradients; they are not probed."""


class StateWeights:
    """The state tensors that are weights, by their key in the optimizers.

    A copy, an average or a point to step from is a weight like those of the model: after every step it is moved to the
    nearest point that satisfies the rules, jointly over all parameters. Where the state of a parameter has no such
    tensor, the weight of the model takes its place.
    """

    def __init__(self, nests: Iterable[Nest], parameters: Mapping[str, torch.nn.Parameter]) -> None:
        """Probes unknown optimizers. Raises AttachError for state that cannot be told from gradients."""
        self._places: dict[str, list[ref[optim.Optimizer]]] = {}
        for nested in nests:
            for key in _probed_keys(nested.core, parameters):
                self._places.setdefault(key, []).append(ref(nested.core))
            for wrapper in nested.moving:
                for key in _keys_of_copies(wrapper, parameters):
                    self._places.setdefault(key, []).append(ref(wrapper))

    def __bool__(self) -> bool:
        return bool(self._places)

    def project_(
        self,
        projector: Projector,
        parameters: Mapping[str, torch.nn.Parameter],
        skipped: Tensor | None = None,
    ) -> None:
        """Move the state tensors to the nearest feasible points, in place."""
        for key_and_optimizers in self._places.items():
            tensors = _state_tensors(*key_and_optimizers, parameters)
            if tensors:
                stand_ins = {name: p.detach().clone() for name, p in parameters.items() if name not in tensors}
                projector.project_({**stand_ins, **tensors}, skipped=skipped)


def _state_tensors(
    key: str, optimizers: list[ref[optim.Optimizer]], parameters: Mapping[str, torch.nn.Parameter]
) -> dict[str, Tensor]:
    tensors = {}
    for reference in optimizers:
        optimizer = reference()
        if optimizer is None:
            continue
        for name, parameter in parameters.items():
            tensor = optimizer.state[parameter].get(key) if parameter in optimizer.state else None
            if isinstance(tensor, Tensor) and tensor.shape == parameter.shape:
                tensors[name] = tensor
    return tensors


def _probed_keys(optimizer: optim.Optimizer, parameters: Mapping[str, torch.nn.Parameter]) -> list[str]:
    """Keys of weights in the state of a stepping optimizer."""
    if type(optimizer).__module__.startswith("torch.optim") and type(optimizer).__name__ in WITHOUT_STATE_WEIGHTS:
        return []
    weights: dict[str, None] = {}
    shares: dict[str, None] = {}
    for group in optimizer.param_groups:
        constrained = [p for p in parameters.values() if any(p is member for member in group["params"])]
        for parameter in {p.ndim: p for p in constrained}.values():
            try:
                keys = state_weights(optimizer, parameter)
            except ProbeError as error:
                _warn_unknown(optimizer, error)
                return []
            weights |= dict.fromkeys(keys.weights)
            shares |= dict.fromkeys(keys.shares)
    if shares:
        warnings.warn(
            f"{type(optimizer).__name__} keeps an average of the weights that begins at zero (state "
            f"{', '.join(map(repr, shares))}). It does not satisfy the rules, nor do weights that are computed from "
            f"it: project them with handle.projector.project, or train with affinet.reparametrize.",
            stacklevel=callers_line(),
        )
    return [*weights]


def _keys_of_copies(wrapper: optim.Optimizer, parameters: Mapping[str, torch.nn.Parameter]) -> list[str]:
    """Keys at which a wrapper has a copy of every weight. Raises AttachError for tensors that may be weights."""
    comparisons: dict[str, list[tuple[bool, bool]]] = {}
    for parameter, state in wrapper.state.items():
        if not isinstance(state, Mapping) or not isinstance(parameter, Tensor):
            continue
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.is_floating_point():
                is_copy, is_zero = torch.equal(value, parameter), not bool(gathered(value).count_nonzero())
                comparisons.setdefault(key, []).append((is_copy, is_zero))
    keys = []
    for key, results in comparisons.items():
        if all(is_zero for _, is_zero in results):
            continue
        if not all(is_copy for is_copy, _ in results):
            raise AttachError(
                f"{type(wrapper).__name__} holds tensors of its own (state {key!r}) that are not copies of the "
                f"weights: they may be earlier weights or gradients. Call affinet.project before its state is loaded "
                f"or moves away from the weights, right after it was made."
            )
        keys.append(key)
    return keys


def _warn_unknown(optimizer: optim.Optimizer, error: ProbeError) -> None:
    kind = type(optimizer)
    if kind.__module__.startswith("torch.optim"):
        return
    warnings.warn(
        f"affinet could not learn whether {kind.__module__}.{kind.__qualname__} keeps separate weights in its state, "
        f"from which it sets weights of the model without a step: a copy of it on a few numbers did not step "
        f"({error}). If it does, train with affinet.reparametrize.",
        stacklevel=callers_line(),
    )
