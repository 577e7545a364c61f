"""The configurations that torch tests its own optimizers with, in numbers, and which of them couple their decay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

Options = dict[str, Any]
RATE = 1e-3
COUPLED = ("SGD", "Adam", "Adamax", "NAdam", "RAdam", "Adagrad", "Adadelta", "RMSprop", "ASGD")
"""Optimizers whose `weight_decay` is added to the gradient, unless `decoupled_weight_decay` is said."""
FUSED = ("Adam", "AdamW", "SGD", "Adagrad")
"""Optimizers with fused kernels for the CPU."""
ADAM: list[Options] = [
    {},
    {"lr": 0.01},
    {"weight_decay": 0.1},
    {"weight_decay": 0.1, "maximize": True},
    {"weight_decay": 0.1, "amsgrad": True},
    {"lr": torch.tensor(RATE)},
    {"lr": torch.tensor(RATE), "amsgrad": True, "weight_decay": 0.1},
]
TABLE: dict[str, list[Options]] = {
    "Adadelta": [
        {},
        {"lr": 0.01},
        {"weight_decay": 0.1},
        {"maximize": True},
        {"weight_decay": 0.1, "maximize": True},
        {"rho": 0.95, "weight_decay": 0.9},
    ],
    "Adafactor": [
        {},
        {"weight_decay": 0.1, "lr": 0.01},
        {"weight_decay": 0.1, "maximize": True},
        {"beta2_decay": -1.0},
        {"d": 1.5},
    ],
    "Adagrad": [
        {},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "maximize": True},
        {"lr": 0.1},
        {"initial_accumulator_value": 0.1, "weight_decay": 0.1},
        {"lr": 0.1, "lr_decay": 0.5, "weight_decay": 0.1},
        {"lr": torch.tensor(RATE)},
    ],
    "Adam": ADAM,
    "AdamW": ADAM,
    "Adamax": [{}, {"lr": 0.1}, {"weight_decay": 0.1}, {"maximize": True}, {"weight_decay": 0.1, "maximize": True}],
    "ASGD": [
        {},
        {"lambd": 0.1},
        {"lr": 0.02},
        {"t0": 100},
        {"maximize": True},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "maximize": True},
    ],
    "LBFGS": [
        {},
        {"lr": 0.01},
        {"lr": torch.tensor(RATE)},
        {"tolerance_grad": 1e-6},
        {"line_search_fn": "strong_wolfe"},
    ],
    "Muon": [
        {},
        {"lr": 0.01},
        {"lr": torch.tensor(RATE)},
        {"weight_decay": 0.2},
        {"momentum": 0.8},
        {"ns_steps": 6},
        {"ns_coefficients": (3.4, -4.7, 2.0)},
        {"adjust_lr_fn": "match_rms_adamw"},
    ],
    "NAdam": [
        {},
        {"lr": 1e-3},
        {"momentum_decay": 6e-3},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "momentum_decay": 6e-3},
        {"weight_decay": 0.1, "momentum_decay": 6e-3, "decoupled_weight_decay": True},
        {"weight_decay": 0.1, "maximize": True},
    ],
    "RAdam": [
        {},
        {"lr": 2e-3},
        {"eps": 1e-6},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
        {"weight_decay": 0.1, "maximize": True},
    ],
    "RMSprop": [
        {},
        {"lr": 1e-3},
        {"weight_decay": 0.1},
        {"maximize": True},
        {"weight_decay": 0.1, "centered": True},
        {"maximize": True, "weight_decay": 0.1},
        {"weight_decay": 0.1, "centered": True, "momentum": 0.1},
        {"weight_decay": 0.1, "centered": True, "momentum": 0.1, "maximize": True},
    ],
    "Rprop": [{}, {"lr": 2e-4}, {"etas": (0.5, 1.5)}, {"step_sizes": (2e-6, 100)}, {"maximize": True}],
    "SGD": [
        {},
        {"lr": 1e-2},
        {"lr": torch.tensor(RATE)},
        {"weight_decay": 0.5},
        {"momentum": 0.9},
        {"weight_decay": 0.1, "maximize": True},
        {"momentum": 0.9, "dampening": 0.5},
        {"momentum": 0.9, "weight_decay": 0.1},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ],
}


@dataclass(frozen=True, eq=False)
class Configuration:
    """One optimizer as one of torch's own tests makes it; with `groups` the second weight has half the rate."""

    name: str
    options: Options
    groups: bool

    def made(self, weights: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The stock optimizer over the two weights."""
        kind = getattr(torch.optim, self.name)
        options = {key: value.clone() if torch.is_tensor(value) else value for key, value in self.options.items()}
        slower = {"params": weights[1:], "lr": 0.5 * options.get("lr", 1e-2)}
        made: torch.optim.Optimizer = kind([{"params": weights[:1]}, slower] if self.groups else weights, **options)
        return made

    @property
    def couples(self) -> bool:
        """Whether the decay is part of the gradient."""
        return self.name in COUPLED and not self.options.get("decoupled_weight_decay", False)

    def __str__(self) -> str:
        said = "-".join(f"{key}={_short(value)}" for key, value in self.options.items()) or "plain"
        return f"{self.name}-{said}{'-groups' if self.groups else ''}"


def configurations() -> Iterator[Configuration]:
    """All of the table that this torch has, each with every kernel that the optimizer has for the CPU.

    One group and two take turns over options and kernels, so that each of both meets either; where there is a single
    kernel, both are tried with it.
    """
    for name, several in TABLE.items():
        if not hasattr(torch.optim, name):
            continue
        for turn, options in enumerate(several):
            kernels = _kernels(name, options)
            for number, kernel in enumerate(kernels):
                in_turn = (turn + number) % 2 == 1
                for groups in (False,) if name == "LBFGS" else (False, True) if len(kernels) == 1 else (in_turn,):
                    yield Configuration(name, options | kernel, groups)


def _kernels(name: str, options: Options) -> list[Options]:
    if name in ("LBFGS", "Muon"):
        return [{}]
    one_by_one: Options = {"foreach": False}
    foreach: list[Options] = [] if torch.is_tensor(options.get("lr")) else [{"foreach": True}]
    return [one_by_one, *foreach, *([{"fused": True}] if name in FUSED else [])]


def _short(value: object) -> str:
    return f"tensor({float(value):g})" if torch.is_tensor(value) else str(value).replace(" ", "")
