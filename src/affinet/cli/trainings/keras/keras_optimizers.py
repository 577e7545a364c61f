"""Make the optimizer of a job in Keras, one that takes the steps of torch's optimizer of that name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras


def inner_optimizer(name: str, rate: float, settings: Mapping[str, Any]) -> Any:
    """The optimizer that the rules stand around.

    Where Keras adds eps below a root and torch outside, the square of eps limits steps to the same size.
    """
    return _MAKE[name](keras.optimizers, rate, settings)


def _betas(s: Mapping[str, Any]) -> dict[str, Any]:
    return {"beta_1": s["betas"][0], "beta_2": s["betas"][1], "epsilon": s["eps"]}


_MAKE: dict[str, Callable[[Any, float, Mapping[str, Any]], Any]] = {
    "SGD": lambda k, rate, s: k.SGD(rate, momentum=s["momentum"], nesterov=s["nesterov"]),
    "Adam": lambda k, rate, s: k.Adam(rate, **_betas(s), amsgrad=s["amsgrad"]),
    "AdamW": lambda k, rate, s: k.AdamW(rate, **_betas(s), weight_decay=s["weight_decay"], amsgrad=s["amsgrad"]),
    "Adamax": lambda k, rate, s: k.Adamax(rate, **_betas(s)),
    "RMSprop": lambda k, rate, s: k.RMSprop(
        rate, rho=s["alpha"], epsilon=s["eps"] ** 2, momentum=s["momentum"], centered=s["centered"]
    ),
    "Adagrad": lambda k, rate, s: k.Adagrad(
        rate, initial_accumulator_value=s["initial_accumulator_value"], epsilon=s["eps"] ** 2
    ),
    "Adadelta": lambda k, rate, s: k.Adadelta(rate, rho=s["rho"], epsilon=s["eps"]),
}
