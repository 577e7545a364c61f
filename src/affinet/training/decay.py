"""Which optimizers couple weight decay with the gradient: the λ that they add to it after our hook has run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import optim

from affinet.errors import AttachError, callers_line
from affinet.training.probing import ProbeError, couples_decay

Decay = Literal["coupled", "decoupled"]

COUPLED = ("SGD", "Adam", "Adamax", "NAdam", "RAdam", "Adagrad", "Adadelta", "RMSprop", "ASGD")
DECOUPLED = ("AdamW", "Adafactor", "Muon", "LBFGS", "Rprop")
"""By exact type: a subclass may do anything. Coupled optimizers may carry `decoupled_weight_decay` in a group, which
then rules. LBFGS and Rprop have no decay."""


def decay_kind(optimizer: optim.Optimizer, said: Decay | None) -> Decay:
    """Whether an optimizer's weight decay enters its gradient (`said` overrides).

    One that is not torch.optim's own and has weight decay is asked: a copy of it runs on a few numbers. Warns where
    that tells nothing and nothing was said.
    """
    if said is not None:
        if not isinstance(said, str) or said not in get_args(Decay):
            raise AttachError(f"decay is {said!r:.60}; it is 'coupled' or 'decoupled', or left out.")
        return said
    kind = type(optimizer)
    if kind.__module__.startswith("torch.optim"):
        if kind.__name__ in COUPLED:
            return "coupled"
        if kind.__name__ in DECOUPLED:
            return "decoupled"
    if any(_rate(group) for group in optimizer.param_groups):
        try:
            return "coupled" if _couples(optimizer) else "decoupled"
        except ProbeError:
            pass
        warnings.warn(
            f"{kind.__module__}.{kind.__qualname__} has weight decay, and affinet could not learn whether it "
            f"adds it to the gradient. Taken as decoupled (as in AdamW); say affinet.project(..., decay='coupled') if "
            f"it adds λ·w to the gradient, or decay='decoupled' to silence this.",
            stacklevel=callers_line(),
        )
    return "decoupled"


def signed_rates(optimizer: optim.Optimizer, names: Mapping[int, str]) -> dict[str, float]:
    """λ of each parameter, by name: negative where the optimizer maximizes, since it then flips the gradient first.

    `names` leads from id(parameter) to its name. Read anew each step, so that schedulers may edit the groups.
    """
    rates: dict[str, float] = {}
    for group in optimizer.param_groups:
        rate = _rate(group)
        if rate and not group.get("decoupled_weight_decay"):
            signed = -rate if group.get("maximize") else rate
            rates.update({names[id(p)]: signed for p in group["params"] if id(p) in names})
    return rates


def _couples(optimizer: optim.Optimizer) -> bool:
    """Raises ProbeError."""
    group = next(group for group in optimizer.param_groups if _rate(group))
    return couples_decay(optimizer, group["params"][0], group)


def _rate(group: Mapping[str, Any]) -> float:
    rate = group.get("weight_decay", 0.0)
    return float(rate) if isinstance(rate, (int, float, torch.Tensor)) else 0.0
