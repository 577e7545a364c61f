"""Make the optimizer of a job in Optax, one that takes the steps of torch's optimizer of that name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import optax


def inner_optimizer(name: str, rate: float, settings: Mapping[str, Any]) -> optax.GradientTransformation:
    """The optimizer that the rules stand around; decay that is added to gradients stands outside."""
    return _MAKE[name](rate, settings)


def added_decay(name: str, settings: Mapping[str, Any]) -> float:
    """How much of the weights is added to their gradient; AdamW decays the weights themselves."""
    return 0.0 if name == "AdamW" else float(settings["weight_decay"])


def _adagrad(rate: float, s: Mapping[str, Any]) -> optax.GradientTransformation:
    # Optax adds eps below the root, torch outside: the square of eps limits steps to the same size.
    return optax.adagrad(rate, initial_accumulator_value=s["initial_accumulator_value"], eps=s["eps"] ** 2)


def _rmsprop(rate: float, s: Mapping[str, Any]) -> optax.GradientTransformation:
    return optax.rmsprop(
        rate, decay=s["alpha"], eps=s["eps"], eps_in_sqrt=False, centered=s["centered"], momentum=s["momentum"] or None
    )


_MAKE: dict[str, Callable[[float, Mapping[str, Any]], optax.GradientTransformation]] = {
    "SGD": lambda rate, s: optax.sgd(rate, s["momentum"] or None, nesterov=s["nesterov"]),
    "Adam": lambda rate, s: optax.adam(rate, *s["betas"], eps=s["eps"]),
    "AdamW": lambda rate, s: optax.adamw(rate, *s["betas"], eps=s["eps"], weight_decay=s["weight_decay"]),
    "Adamax": lambda rate, s: optax.adamax(rate, *s["betas"], eps=s["eps"]),
    "RMSprop": _rmsprop,
    "Adagrad": _adagrad,
    "Adadelta": lambda rate, s: optax.adadelta(rate, rho=s["rho"], eps=s["eps"]),
}
