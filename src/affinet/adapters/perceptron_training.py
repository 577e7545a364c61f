"""Train the perceptrons of scikit-learn's estimators in torch, whose weights obey a plan after every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from affinet.language.calculus.terms import Floats, Integers
from affinet.plans.plan import Plan
from affinet.training.projection import project

ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "logistic": nn.Sigmoid,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
}


class Memory(NamedTuple):
    """What a training leaves for the next one: the states of the optimizer and of the rules."""

    optimizer: dict[str, Any]
    rules: dict[str, Any] | None


@dataclass(frozen=True, eq=False)
class Samples:
    """Rows, what is to be predicted of them, and their weights."""

    X: Floats
    y: Floats | Integers
    weights: Floats


@dataclass(frozen=True, eq=False)
class Training:
    """How a perceptron is trained; `loss` is of predictions and targets, one number per sample."""

    activation: str
    loss: str
    alpha: float
    rate: float
    batch_size: int
    shuffled: bool
    random: np.random.RandomState
    plan: Plan | None


@dataclass(frozen=True, eq=False)
class Trained:
    """The weights by name, the mean loss of each epoch, and what the next training goes on from."""

    weights: dict[str, Floats]
    losses: list[float] = field(default_factory=list)
    memory: Memory | None = None


LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "squared error": lambda scores, y: 0.5 * (scores - y).square().mean(dim=1),
    "binary log loss": lambda scores, y: functional.binary_cross_entropy_with_logits(scores[:, 0], y, reduction="none"),
    "log loss": lambda scores, y: functional.cross_entropy(scores, y, reduction="none"),
}


def train(
    start: Trained, samples: Samples, training: Training, epochs: int, finished: Callable[[Sequence[float]], bool]
) -> Trained:
    """Train from weights for a number of epochs, or until `finished` of the losses of all epochs.

    The weights satisfy the rules after every step. Numbers are float64, and the random state of torch is not touched.
    """
    network = _network(start.weights, training.activation)
    optimizer = torch.optim.Adam(network.parameters(), lr=training.rate)
    handle = project(network, optimizer, training.plan) if training.plan is not None else None
    if start.memory is not None:
        optimizer.load_state_dict(start.memory.optimizer)
        if handle is not None and start.memory.rules is not None:
            handle.load_state_dict(start.memory.rules)
    losses: list[float] = []
    tensors = tuple(torch.tensor(part) for part in (samples.X, samples.y, samples.weights))
    while len(losses) < epochs and not finished(losses):
        losses.append(_epoch(network, optimizer, tensors, training))
    weights = {name: parameter.detach().numpy().copy() for name, parameter in network.named_parameters()}
    memory = Memory(optimizer.state_dict(), None if handle is None else handle.state_dict())
    if handle is not None:
        handle.remove()
    return Trained(weights, losses, memory)


def _epoch(
    network: nn.Module, optimizer: torch.optim.Optimizer, tensors: tuple[Tensor, ...], training: Training
) -> float:
    X, y, weights = tensors
    order = training.random.permutation(len(X)) if training.shuffled else np.arange(len(X))
    penalised = [parameter for name, parameter in network.named_parameters() if name.endswith("weight")]
    total = 0.0
    for start in range(0, len(X), training.batch_size):
        batch = torch.from_numpy(order[start : start + training.batch_size])
        mass = weights[batch].sum()
        if not mass > 0.0:
            continue
        loss = (weights[batch] * LOSSES[training.loss](network(X[batch]), y[batch])).sum() / mass
        loss = loss + 0.5 * training.alpha / mass * sum(weight.square().sum() for weight in penalised)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += float(loss.detach() * mass)
    return total / (float(weights.sum()) or 1.0)


def _network(weights: Mapping[str, Floats], activation: str) -> nn.Sequential:
    """The layers hidden1, hidden2, …, output with these weights, and activations between them."""
    network = nn.Sequential()
    names = [name.removesuffix(".weight") for name in weights if name.endswith(".weight")]
    for number, name in enumerate(names, start=1):
        rows, columns = weights[f"{name}.weight"].shape
        network.add_module(name, nn.utils.skip_init(nn.Linear, columns, rows, dtype=torch.float64))
        if name != names[-1]:
            network.add_module(f"activation{number}", ACTIVATIONS[activation]())
    network.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    return network
