"""Keep the weights in an optimizer's state on the rules too: schedule-free points, averages, slow weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from weakref import ref

import torch
from torch import Tensor, optim

from affinet.errors import AttachError, callers_line
from affinet.kernels.torch.projector import Projector
from affinet.training.nesting import Nest
from affinet.training.probing import ProbeError, own_weights

SILENT = ("SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Adagrad", "Adadelta", "RMSprop", "Adafactor", "Muon")
"""Optimizers of torch.optim whose state is made of gradients alone; they are not probed."""


class KeptWeights:
    """The state tensors that are weights, by the key under which each optimizer keeps them.

    A copy, an average or a point to step from is a weight like those of the model: after every step it is moved to the
    nearest point that satisfies the rules, jointly over all parameters. Where one parameter has none, the model's own
    weight stands in for it.
    """

    def __init__(self, nests: Iterable[Nest], parameters: Mapping[str, torch.nn.Parameter]) -> None:
        """Probes unknown optimizers. Raises AttachError for state that cannot be told from gradients."""
        self._places: dict[str, list[ref[optim.Optimizer]]] = {}
        for one in nests:
            for key in _found(one.core, parameters):
                self._places.setdefault(key, []).append(ref(one.core))
            for wrapper in one.moving:
                for key in _copies(wrapper, parameters):
                    self._places.setdefault(key, []).append(ref(wrapper))

    def __bool__(self) -> bool:
        return bool(self._places)

    def project_(
        self,
        projector: Projector,
        parameters: Mapping[str, torch.nn.Parameter],
        skipped: Tensor | None = None,
    ) -> None:
        """Move them to the nearest feasible points, in place."""
        for places in self._places.items():
            held = _held(*places, parameters)
            if held:
                stand_in = {name: p.detach().clone() for name, p in parameters.items() if name not in held}
                projector.project_({**stand_in, **held}, skipped=skipped)


def _held(
    key: str, optimizers: list[ref[optim.Optimizer]], parameters: Mapping[str, torch.nn.Parameter]
) -> dict[str, Tensor]:
    held = {}
    for found in optimizers:
        optimizer = found()
        if optimizer is None:
            continue
        for name, parameter in parameters.items():
            value = optimizer.state[parameter].get(key) if parameter in optimizer.state else None
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                held[name] = value
    return held


def _found(optimizer: optim.Optimizer, parameters: Mapping[str, torch.nn.Parameter]) -> list[str]:
    """Keys of weights in the state of an optimizer that steps."""
    if type(optimizer).__module__.startswith("torch.optim") and type(optimizer).__name__ in SILENT:
        return []
    weights: dict[str, None] = {}
    shares: dict[str, None] = {}
    for group in optimizer.param_groups:
        ours = [p for p in parameters.values() if any(p is held for held in group["params"])]
        for parameter in {p.ndim: p for p in ours}.values():
            try:
                known = own_weights(optimizer, parameter)
            except ProbeError as error:
                _warn_unknown(optimizer, error)
                return []
            weights |= dict.fromkeys(known.weights)
            shares |= dict.fromkeys(known.shares)
    if shares:
        warnings.warn(
            f"{type(optimizer).__name__} keeps an average of the weights that begins at zero (state "
            f"{', '.join(map(repr, shares))}). It is not on the rules, nor are weights that are made of it: bring them "
            f"there with handle.projector.project, or train with affinet.reparametrize.",
            stacklevel=callers_line(),
        )
    return [*weights]


def _copies(wrapper: optim.Optimizer, parameters: Mapping[str, torch.nn.Parameter]) -> list[str]:
    """Keys under which a wrapper has a copy of every weight; raises AttachError for tensors that may be such."""
    found: dict[str, list[tuple[bool, bool]]] = {}
    for parameter, state in wrapper.state.items():
        if not isinstance(state, Mapping) or not isinstance(parameter, Tensor):
            continue
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.is_floating_point():
                copied, empty = torch.equal(value, parameter), not bool(value.count_nonzero())
                found.setdefault(key, []).append((copied, empty))
    keys = []
    for key, seen in found.items():
        if all(empty for _, empty in seen):
            continue
        if not all(copied for copied, _ in seen):
            raise AttachError(
                f"{type(wrapper).__name__} holds tensors of its own (state {key!r}) that are no copies of the weights: "
                f"weights of an earlier time, or gradients? Call affinet.project before its state is loaded or moves "
                f"away from the weights, right after it was made."
            )
        keys.append(key)
    return keys


def _warn_unknown(optimizer: optim.Optimizer, error: ProbeError) -> None:
    kind = type(optimizer)
    if kind.__module__.startswith("torch.optim"):
        return
    warnings.warn(
        f"affinet could not learn whether {kind.__module__}.{kind.__qualname__} keeps weights of its own, from which "
        f"it makes weights of the model without a step: a copy of it on a few numbers did not step ({error}). If it "
        f"does, train with affinet.reparametrize.",
        stacklevel=callers_line(),
    )
