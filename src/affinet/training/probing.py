"""Learn what an optimizer does by running a copy of it on a few numbers: does it keep weights, does it couple decay?"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, optim

from affinet.kernels.torch.precision import undisturbed

FAR = 128.0
"""How far the origin is moved: far more than a step moves the weights of a probe."""
STEPS = 3
"""Steps of a copy: schedule-free optimizers make their own weights in the first, averages appear in it or the next."""
MANY_STEPS = 8
"""Steps of a copy that is to move: RAdam's first ones are none."""
MOST = 3
"""Entries of a probe along each axis."""
DECAY = 0.5
"""The λ of a probe of weight decay; a power of two, as the probe's weights are, so that `g + λ w` is zero exactly."""


class ProbeError(Exception):
    """The copy could not be made or did not step: nothing is known."""


@dataclass(frozen=True)
class OwnWeights:
    """Keys of an optimizer's state of one parameter.

    `weights` hold weights of its own: copies, averages, the points that it steps from. `shares` hold a part of such,
    an average that began at zero and is divided later by what it has gathered.
    """

    weights: tuple[str, ...]
    shares: tuple[str, ...]


def own_weights(optimizer: optim.Optimizer, like: Tensor) -> OwnWeights:
    """Which state of a parameter like this one is made of weights, and not of gradients.

    Law: optimizers commute with moving the origin: from weights that are `c` further on, under the same gradients,
    whatever is a weight ends `c` further on, and whatever is made of gradients ends where it did. The copy runs with a
    learning rate of 0, so that weights are found whatever is done to them. Raises ProbeError.
    """
    start, ends = _draw(like), []
    for shift in (0.0, FAR):
        q, copied = _copied(optimizer, start + shift, like, lr=0.0, weight_decay=0.0)
        for _ in range(STEPS):
            q.grad = torch.cos(start)
            _step(copied)
        ends.append({key: value for key, value in copied.state[q].items() if _alike(value, q)})
    moved = {key: (there - ends[0][key]).double() / FAR for key, there in ends[1].items() if key in ends[0]}
    return OwnWeights(
        tuple(key for key, share in moved.items() if _is(share, 1.0)),
        tuple(key for key, share in moved.items() if _is(share, float(share.mean())) and 1e-3 < share.mean() < 0.99),
    )


def couples_decay(optimizer: optim.Optimizer, like: Tensor, group: Mapping[str, Any]) -> bool:
    """Whether the optimizer adds λ w to the gradient before it does anything else with it.

    Law: under the gradient −λ w such an optimizer sees zero and stays where it is; one that shrinks the weights apart
    from the gradient, and one without decay, move. Raises ProbeError where it moves in neither case.
    """
    start = torch.exp2(torch.arange(_few(like).numel(), device=like.device) % 3 - 1.0).to(like.dtype)
    start = (start * (1.0 - 2.0 * (torch.arange(len(start), device=like.device) % 2))).view(_few(like).shape)
    moved = []
    for rate in (DECAY, 0.0):
        q, copied = _copied(optimizer, start, like, lr=0.125, weight_decay=rate)
        for _ in range(MANY_STEPS):
            q.grad = start * (DECAY if group.get("maximize") else -DECAY)
            _step(copied)
        moved.append(not torch.equal(q.detach(), start))
    if not moved[1]:
        raise ProbeError(f"it does not move in {MANY_STEPS} steps")
    return not moved[0]


def _copied(
    optimizer: optim.Optimizer, start: Tensor, like: Tensor, **settings: float
) -> tuple[torch.nn.Parameter, optim.Optimizer]:
    """A copy of an optimizer, without state and hooks, over one parameter that starts at `start`.

    Whatever refers to a parameter of the optimizer refers to that one in the copy, so that nothing reaches the
    training. Methods that somebody has wrapped (a scheduler wraps `step`) are those of the class again.
    """
    q = torch.nn.Parameter(start.clone())
    memo: dict[int, Any] = {id(p): q for group in optimizer.param_groups for p in group["params"]}
    fresh = vars(optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.0))
    copied = object.__new__(type(optimizer))
    memo |= {id(optimizer): copied, id(optimizer.state): defaultdict(dict)}
    try:
        for key, value in vars(optimizer).items():
            if key not in fresh and not callable(getattr(type(optimizer), key, None)):
                vars(copied)[key] = copy.deepcopy(value, memo)
        groups = [group for group in optimizer.param_groups if any(p is like for p in group["params"])]
        groups = copy.deepcopy([{**group, "params": []} for group in groups], memo)
        for group in groups:
            group["params"] = [q]
            for name, number in settings.items():
                if isinstance(group.get(name), (int, float, Tensor)):
                    group[name] = torch.full_like(group[name], number) if isinstance(group[name], Tensor) else number
        for name, value in fresh.items():
            vars(copied).setdefault(name, value)
        copied.defaults, copied.state, copied.param_groups = dict(optimizer.defaults), defaultdict(dict), groups
        train = getattr(copied, "train", None)  # schedule-free optimizers step in this mode only
        if callable(train):
            train()
    except Exception as error:
        raise ProbeError(str(error)) from error
    return q, copied


def _step(copied: optim.Optimizer) -> None:
    with _quietly(copied):
        try:
            type(copied).step(copied)
        except TypeError:  # it asks for a closure
            type(copied).step(copied, lambda: 0.0)


@contextmanager
def _quietly(copied: optim.Optimizer) -> Iterator[None]:
    """The random numbers of the training are left alone; whatever is raised is a ProbeError."""
    device = copied.param_groups[0]["params"][0].device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), undisturbed(device):
        try:
            yield
        except Exception as error:
            raise ProbeError(f"{type(error).__name__}: {error}") from error


def _few(like: Tensor) -> Tensor:
    """A corner of a parameter: its axes, at most a few entries along each."""
    return like.detach()[tuple(slice(MOST) for _ in like.shape)]


def _draw(like: Tensor) -> Tensor:
    """Different weights, none of them zero or one another's negative."""
    few = _few(like)
    numbers = torch.arange(1, few.numel() + 1, dtype=torch.float32, device=like.device)
    return (0.5 + numbers / 8.0).to(like.dtype).view(few.shape)


def _alike(value: object, q: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == q.shape and value.is_floating_point()


def _is(share: Tensor, wanted: float) -> bool:
    """Whether all entries moved by this share of what the origin did, to a hundredth of it."""
    return bool(((share - wanted).abs() < 0.01 * abs(wanted)).all())
