"""Say which values the options of torch's optimizers take, and which optimizers other frameworks share with torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.words import did_you_mean, listed

LARGE = 1e6
"""Settings up to this size, and rules with numbers between its inverse and itself, stay far inside float32."""


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LARGE


def _is_share(value: object) -> bool:
    return isinstance(value, float) and 0 <= value < 1


def _are_two_shares(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_share, value))


def _is_truth_value(value: object) -> bool:
    return isinstance(value, bool)


_MOMENTS: dict[str, Callable[[Any], bool]] = {"betas": _are_two_shares, "eps": _is_amount, "weight_decay": _is_amount}
SURELY_TAKEN: Mapping[str, Mapping[str, Callable[[Any], bool]]] = {
    "Adam": _MOMENTS | {"amsgrad": _is_truth_value},
    "AdamW": _MOMENTS | {"amsgrad": _is_truth_value},
    "Adamax": _MOMENTS,
    "NAdam": _MOMENTS,
    "RAdam": _MOMENTS,
    "SGD": {"momentum": _is_amount, "weight_decay": _is_amount},
    "RMSprop": {
        "alpha": _is_share,
        "eps": _is_amount,
        "weight_decay": _is_amount,
        "momentum": _is_amount,
        "centered": _is_truth_value,
    },
    "Adagrad": {
        "lr_decay": _is_amount,
        "weight_decay": _is_amount,
        "eps": _is_amount,
        "initial_accumulator_value": _is_amount,
    },
    "Adadelta": {"rho": _is_share, "weight_decay": _is_amount, "eps": _is_amount},
}
"""Optimizer → option → whether it certainly takes a value. Everything else is tried in a step, which is slower."""

_VALUES = {**SURELY_TAKEN, "SGD": {**SURELY_TAKEN["SGD"], "nesterov": _is_truth_value}}
"""As `SURELY_TAKEN`, for the optimizers that frameworks share."""

Defaults = Mapping[str, Mapping[str, Any]]
SHARED: Defaults = {
    "SGD": {"momentum": 0.0, "nesterov": False},
    "Adam": {"betas": [0.9, 0.999], "eps": 1e-8},
    "AdamW": {"betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01},
    "Adamax": {"betas": [0.9, 0.999], "eps": 1e-8},
    "RMSprop": {"alpha": 0.99, "eps": 1e-8, "momentum": 0.0, "centered": False},
    "Adagrad": {"eps": 1e-10, "initial_accumulator_value": 0.0},
    "Adadelta": {"rho": 0.9, "eps": 1e-6},
}
"""Optimizer of torch that other frameworks have too → its options there, with the defaults of torch."""

IN_OPTAX: Defaults = {name: {"weight_decay": 0.0, **options} for name, options in SHARED.items()}
"""Optax can add decay to the gradients of any optimizer."""
IN_KERAS: Defaults = {
    name: {**options, "amsgrad": False} if name in ("Adam", "AdamW") else options for name, options in SHARED.items()
}
"""Keras adds no decay to gradients."""
OF_FRAMEWORKS: Mapping[str, Defaults] = {"jax": IN_OPTAX, "keras": IN_KERAS}


def settings_of(job: JobFile, available: Defaults) -> dict[str, Any]:
    """The options of the job's optimizer, by their names in torch, with torch's defaults for those that it leaves out.

    `available` has the optimizers and options of the framework. Raises JobError for others, and for values that torch
    refuses.
    """
    train, framework = job.job.train, f'framework = "{job.job.model.framework}"'
    if train.optimizer not in available:
        hint = did_you_mean(train.optimizer, available)
        fact = f"{framework} has no optimizer {train.optimizer!r} that takes the steps of torch's.{hint}"
        way_out = f'There are: {listed(list(available))}. Others need framework = "torch".'
        raise job.mistake(("train", "optimizer"), f"{fact} {way_out}")
    options = available[train.optimizer]
    for name, value in train.options.items():
        key = ("train", "options", name)
        if name not in options:
            fact = f"{train.optimizer} has no option {name!r} with {framework}.{_hint(name, train.optimizer, options)}"
            raise job.mistake(key, f'{fact} It takes: {listed(list(options))}. Others need framework = "torch".')
        if not _VALUES[train.optimizer][name](value):
            raise job.mistake(
                key, f"{train.optimizer} takes no {name} = {value!r:.60}, but a value such as {options[name]!r}."
            )
    settings = {**options, **train.options}
    if settings.get("nesterov") and not settings["momentum"]:
        raise job.mistake(("train", "options", "nesterov"), "nesterov = true needs a momentum: momentum = 0.9.")
    return settings


def _hint(name: str, optimizer: str, options: Mapping[str, Any]) -> str:
    if name == "lr":
        return " Write it as learning_rate in [train]."
    if name == "weight_decay" and optimizer == "Adam":
        return " AdamW decays the weights themselves."
    return did_you_mean(name, options)
