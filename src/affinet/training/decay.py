"""Find out which optimizers add weight decay to the gradient, and the λ that they add after our hook has run."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import Any, Literal, get_args

import torch
from torch import optim

from affinet.errors import AttachError, callers_line
from affinet.training.directions import maximizes
from affinet.training.probing import ProbeError, couples_decay

Decay = Literal["coupled", "decoupled"]

COUPLED = ("SGD", "Adam", "Adamax", "NAdam", "RAdam", "Adagrad", "Adadelta", "RMSprop", "ASGD")
DECOUPLED = ("AdamW", "Adafactor", "Muon", "LBFGS", "Rprop")
"""By exact type: a subclass may do anything. Coupled optimizers may have `decoupled_weight_decay` in a group, which
then decides. LBFGS and Rprop have no decay."""


def decay_kind(optimizer: optim.Optimizer, declared: Decay | None) -> Decay:
    """Whether an optimizer's weight decay enters its gradient (`declared` overrides).

    An optimizer with weight decay that is not torch.optim's own is tested: a copy of it runs on a few numbers. Warns
    where the test fails and nothing was declared.
    """
    if declared is not None:
        if not isinstance(declared, str) or declared not in get_args(Decay):
            raise AttachError(f"decay is {declared!r:.60}; it is 'coupled' or 'decoupled', or left out.")
        return declared
    optimizer_class = type(optimizer)
    if optimizer_class.__module__.startswith("torch.optim"):
        if optimizer_class.__name__ in COUPLED:
            return "coupled"
        if optimizer_class.__name__ in DECOUPLED:
            return "decoupled"
    if any(_rate(group) for group in optimizer.param_groups):
        try:
            return "coupled" if _couples(optimizer) else "decoupled"
        except ProbeError:
            pass
        warnings.warn(
            f"{optimizer_class.__module__}.{optimizer_class.__qualname__} has weight decay, and affinet could not "
            f"learn whether it adds it to the gradient. It is treated as decoupled (as in AdamW); write "
            f"affinet.project(..., decay='coupled') if it adds λ·w to the gradient, or decay='decoupled' to silence "
            f"this.",
            stacklevel=callers_line(),
        )
    return "decoupled"


def signed_rates(optimizer: optim.Optimizer, names: Mapping[int, str], maximized: Collection[str]) -> dict[str, float]:
    """λ of each parameter, by name: negative where it is `maximized`, since the gradient is then negated first.

    `names` is id(parameter) → name. The groups are read at every step, so that schedulers may edit them.
    """
    rates: dict[str, float] = {}
    for group in optimizer.param_groups:
        rate = _rate(group)
        if rate and not group.get("decoupled_weight_decay"):
            decayed = [names[id(p)] for p in group["params"] if id(p) in names]
            rates.update({name: -rate if name in maximized else rate for name in decayed})
    return rates


def _couples(optimizer: optim.Optimizer) -> bool:
    """Whether a copy of the optimizer adds decay to the gradient. Raises ProbeError."""
    group = next(group for group in optimizer.param_groups if _rate(group))
    like = group["params"][0]
    return couples_decay(optimizer, like, maximize=maximizes(optimizer, group, like))


def _rate(group: Mapping[str, Any]) -> float:
    rate = group.get("weight_decay", 0.0)
    return float(rate) if isinstance(rate, (int, float, torch.Tensor)) else 0.0
