"""Make the optimizer of a job: any class of `torch.optim`, by its name and with its options."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.words import did_you_mean, listed, one_paragraph

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    name: value
    for name, value in sorted(vars(torch.optim).items())
    if isinstance(value, type) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
}


def make_optimizer(job: JobFile, network: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that `job` names, over all parameters of `network`.

    Raises JobError for an unknown name, an option or a value that the optimizer refuses, and for SparseAdam.
    """
    train = job.job.train
    optimizer_class = _optimizer_class(job)
    options = _options(job, optimizer_class)
    try:
        return optimizer_class(network.parameters(), lr=train.learning_rate, **options)  # type: ignore[call-arg]
    except Exception as error:  # noqa: BLE001  optimizers refuse values with any exception
        raise job.mistake(
            _key_of_mistake(train.options), f"{train.optimizer} refuses: {one_paragraph(error)}."
        ) from None


def _optimizer_class(job: JobFile) -> type[torch.optim.Optimizer]:
    name = job.job.train.optimizer
    if name == "SparseAdam":
        fact = "SparseAdam needs sparse gradients, which affinet cannot project; Adam takes the same options."
        raise job.mistake(("train", "optimizer"), fact)
    if name not in OPTIMIZERS:
        known_names = [known_name for known_name in OPTIMIZERS if known_name != "SparseAdam"]
        hint = did_you_mean(name, known_names)
        fact = f"torch.optim has no optimizer {name!r}.{hint} There are: {listed(known_names, 20)}."
        raise job.mistake(("train", "optimizer"), fact)
    return OPTIMIZERS[name]


def _options(job: JobFile, optimizer_class: type[torch.optim.Optimizer]) -> dict[str, Any]:
    known_names = [name for name in inspect.signature(optimizer_class).parameters if name not in ("params", "lr")]
    for name in job.job.train.options:
        if name in known_names:
            continue
        hint = " Write it as learning_rate in [train]." if name == "lr" else did_you_mean(name, known_names)
        fact = f"{optimizer_class.__name__} has no option {name!r}.{hint} It takes: {listed(known_names, 20)}."
        raise job.mistake(("train", "options", name), fact)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in job.job.train.options.items()}


def _key_of_mistake(options: dict[str, Any]) -> tuple[str, ...]:
    return ("train", "options") if options else ("train", "optimizer")
