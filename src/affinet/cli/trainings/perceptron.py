"""Describe the built-in network without torch: its layers and shapes, from the job and the table's columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from affinet.cli.jobs.job import Job
from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.words import did_you_mean, listed

ACTIVATIONS = {
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "elu": "ELU",
    "selu": "SELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "mish": "Mish",
    "softplus": "Softplus",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "identity": "Identity",
}
"""Activation as a job names it → its class in torch.nn."""

MOST_NUMBERS = 2**30
"""Most numbers of a perceptron: 4 GiB. Without a limit, torch allocates until the system ends the process."""


@dataclass(frozen=True)
class Perceptron:
    """Linear layers hidden1, hidden2, …, output between the sizes, with an activation (in torch.nn) between them."""

    sizes: tuple[int, ...]
    activation: str

    @property
    def layers(self) -> Mapping[str, tuple[int, int]]:
        """Name of a linear layer → inputs and outputs, in order."""
        last = len(self.sizes) - 1
        names = [*(f"hidden{number}" for number in range(1, last)), "output"]
        return dict(zip(names, pairwise(self.sizes), strict=True))

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Name → shape of every weight, as torch.nn.Linear has them."""
        shapes: dict[str, tuple[int, ...]] = {}
        for name, (inputs, outputs) in self.layers.items():
            shapes |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
        return shapes

    @property
    def numbers(self) -> int:
        """How many numbers all weights hold."""
        return sum((inputs + 1) * outputs for inputs, outputs in self.layers.values())


def perceptron_of(job: JobFile, inputs: int, outputs: int) -> Perceptron:
    """The perceptron that `job` describes. Raises JobError for an unknown activation and a network too large."""
    perceptron = Perceptron((inputs, *(job.job.model.hidden or ()), outputs), _activation(job))
    if perceptron.numbers > MOST_NUMBERS:
        sizes, numbers = perceptron.sizes, perceptron.numbers
        fact = f"a network of sizes {sizes!r:.100} has {numbers:,} numbers, and at most {MOST_NUMBERS:,} are made"
        raise job.mistake(("model", "hidden"), f"{fact}; for a larger one name a factory.")
    return perceptron


def first_weight(job: Job) -> str:
    """The name of the first weight of the perceptron, whose columns are about the features."""
    return "hidden1.weight" if job.model.hidden else "output.weight"


def _activation(job: JobFile) -> str:
    name = job.job.model.activation or "relu"
    if name not in ACTIVATIONS:
        fact = (
            f"there is no activation {name!r}.{did_you_mean(name, ACTIVATIONS)} There are: {listed(list(ACTIVATIONS))}."
        )
        raise job.mistake(("model", "activation"), fact)
    return ACTIVATIONS[name]
