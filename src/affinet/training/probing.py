"""Run a copy of an optimizer on a few numbers: does its state hold weights, does it couple decay, does it ascend?"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, optim

from affinet.kernels.torch.precision import undisturbed

SHIFT = 128.0
"""How far the origin is shifted: much farther than a step moves the weights of a probe."""
STEPS = 3
"""Steps of a copy: schedule-free optimizers create their weights in the first, averages in the first or second."""
MANY_STEPS = 8
"""Steps of a copy that must move: the first steps of RAdam move nothing."""
LONGEST_AXIS = 3
"""Most entries of a probe along each axis."""
DECAY = 0.5
"""The λ of a probe of weight decay; a power of two, as the probe's weights are, so that `g + λ w` is zero exactly."""


class ProbeError(Exception):
    """The copy could not be made or did not step, so the probe has no result."""


@dataclass(frozen=True)
class StateKeys:
    """Keys of an optimizer's state of one parameter.

    `weights` hold weights: copies, averages, the points that it steps from. `shares` hold a fraction of weights: an
    average that began at zero, and is divided later by its total coefficient.
    """

    weights: tuple[str, ...]
    shares: tuple[str, ...]


def state_weights(optimizer: optim.Optimizer, like: Tensor) -> StateKeys:
    """The state keys, of a parameter like this one, that hold weights instead of gradients.

    Law: optimizers commute with a shift of the origin: from weights shifted by `c`, under the same gradients, state
    that is a weight ends shifted by `c`, and state made of gradients ends unshifted. The copy runs with a learning rate
    of 0, so that weights are recognised whatever the optimizer does to them. Raises ProbeError.
    """
    start, final_states = _start_values(like), []
    for shift in (0.0, SHIFT):
        probe, duplicate = _duplicate(optimizer, start + shift, like, lr=0.0, weight_decay=0.0)
        for _ in range(STEPS):
            probe.grad = torch.cos(start)
            _step(duplicate)
        final_states.append({key: value for key, value in duplicate.state[probe].items() if _is_like(value, probe)})
    shift_shares = {
        key: (shifted - final_states[0][key]).double() / SHIFT
        for key, shifted in final_states[1].items()
        if key in final_states[0]
    }
    return StateKeys(
        tuple(key for key, share in shift_shares.items() if _all_close(share, 1.0)),
        tuple(
            key
            for key, share in shift_shares.items()
            if _all_close(share, float(share.mean())) and 1e-3 < share.mean() < 0.99
        ),
    )


def couples_decay(optimizer: optim.Optimizer, like: Tensor, *, maximize: bool = False) -> bool:
    """Whether the optimizer adds λ w to the gradient before it does anything else with it.

    Law: under the gradient −λ w such an optimizer sees zero and does not move; one that shrinks the weights
    separately, and one without decay, move. With `maximize` it negates the gradient first. Raises ProbeError where it
    moves neither with nor without decay.
    """
    start = torch.exp2(torch.arange(_corner(like).numel(), device=like.device) % 3 - 1.0).to(like.dtype)
    start = (start * (1.0 - 2.0 * (torch.arange(len(start), device=like.device) % 2))).view(_corner(like).shape)
    has_moved = []
    for rate in (DECAY, 0.0):
        probe, duplicate = _duplicate(optimizer, start, like, lr=0.125, weight_decay=rate)
        for _ in range(MANY_STEPS):
            probe.grad = start * (DECAY if maximize else -DECAY)
            _step(duplicate)
        has_moved.append(not torch.equal(probe.detach(), start))
    if not has_moved[1]:
        raise ProbeError(f"it does not move in {MANY_STEPS} steps")
    return not has_moved[0]


def ascends(optimizer: optim.Optimizer, like: Tensor) -> bool:
    """Whether the optimizer moves weights up a gradient that stays the same. Raises ProbeError if it moves none."""
    start = _start_values(like)
    gradient = torch.cos(start)
    probe, duplicate = _duplicate(optimizer, start, like, lr=0.125, weight_decay=0.0)
    for _ in range(MANY_STEPS):
        probe.grad = gradient.clone()
        _step(duplicate)
    climb = float(((probe.detach() - start).double() * gradient.double()).sum())
    if not climb:
        raise ProbeError(f"it does not move in {MANY_STEPS} steps")
    return climb > 0.0


def _duplicate(
    optimizer: optim.Optimizer, start: Tensor, like: Tensor, **settings: float
) -> tuple[torch.nn.Parameter, optim.Optimizer]:
    """A copy of an optimizer, without state and hooks, over one parameter that starts at `start`.

    References to a parameter of the optimizer become references to that parameter in the copy, so that the training
    is not affected. Methods that were wrapped (a scheduler wraps `step`) are those of the class again.
    """
    probe = torch.nn.Parameter(start.clone())
    memo: dict[int, Any] = {id(p): probe for group in optimizer.param_groups for p in group["params"]}
    plain_attributes = vars(optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.0))
    duplicate = object.__new__(type(optimizer))
    memo |= {id(optimizer): duplicate, id(optimizer.state): defaultdict(dict)}
    try:
        for key, value in vars(optimizer).items():
            if key not in plain_attributes and not callable(getattr(type(optimizer), key, None)):
                vars(duplicate)[key] = copy.deepcopy(value, memo)
        groups = [group for group in optimizer.param_groups if any(p is like for p in group["params"])]
        groups = copy.deepcopy([{**group, "params": []} for group in groups], memo)
        for group in groups:
            group["params"] = [probe]
            for name, number in settings.items():
                if isinstance(group.get(name), (int, float, Tensor)):
                    group[name] = torch.full_like(group[name], number) if isinstance(group[name], Tensor) else number
        for name, value in plain_attributes.items():
            vars(duplicate).setdefault(name, value)
        duplicate.defaults, duplicate.state, duplicate.param_groups = (
            dict(optimizer.defaults),
            defaultdict(dict),
            groups,
        )
        train = getattr(duplicate, "train", None)  # schedule-free optimizers step only in this mode
        if callable(train):
            train()
    except Exception as error:
        raise ProbeError(str(error)) from error
    return probe, duplicate


def _step(duplicate: optim.Optimizer) -> None:
    with _isolated(duplicate):
        try:
            type(duplicate).step(duplicate)
        except TypeError:  # it needs a closure
            type(duplicate).step(duplicate, lambda: 0.0)


@contextmanager
def _isolated(duplicate: optim.Optimizer) -> Iterator[None]:
    """Protect the random numbers of the training inside the block, and turn every exception into a ProbeError."""
    device = duplicate.param_groups[0]["params"][0].device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), undisturbed(device):
        try:
            yield
        except Exception as error:
            raise ProbeError(f"{type(error).__name__}: {error}") from error


def _corner(like: Tensor) -> Tensor:
    """A corner of a parameter: all its axes, at most a few entries along each."""
    return like.detach()[tuple(slice(LONGEST_AXIS) for _ in like.shape)]


def _start_values(like: Tensor) -> Tensor:
    """Different weights: none is zero or the negative of another."""
    corner = _corner(like)
    numbers = torch.arange(1, corner.numel() + 1, dtype=torch.float32, device=like.device)
    return (0.5 + numbers / 8.0).to(like.dtype).view(corner.shape)


def _is_like(value: object, probe: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == probe.shape and value.is_floating_point()


def _all_close(shares: Tensor, expected: float) -> bool:
    """Whether all entries moved by this share of the shift of the origin, to within a hundredth of the share."""
    return bool(((shares - expected).abs() < 0.01 * abs(expected)).all())
