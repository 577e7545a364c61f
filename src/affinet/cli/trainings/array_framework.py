"""Make trainings of a job by the steps of a framework whose numbers NumPy can read: what JAX and Keras share."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.trainings.array_training import ArrayTraining, Steps, plain_training, ruled_training
from affinet.cli.trainings.data import Data
from affinet.cli.trainings.first_network import FirstNetwork, beyond_memory, first_network
from affinet.cli.trainings.planned_rules import PlannedRules
from affinet.errors import AffinetError
from affinet.plans.plan import Plan
from affinet.system.system import System


class ArrayFramework(ABC):
    """A framework, as `Framework` describes it, whose numbers NumPy can read; `steps` is what each brings."""

    @abstractmethod
    def steps(self, job: JobFile, data: Data, network: FirstNetwork, plan: Plan | None) -> Steps:
        """The network with its optimizer, under the rules of a plan or without. Raises JobError as `settings_of`."""

    def network(self, job: JobFile, data: Data) -> FirstNetwork:
        """The built-in network with its first weights. Raises JobError as `first_network`."""
        return first_network(job, data.inputs, data.outputs)

    def weights(self, network: FirstNetwork) -> object:
        """Names with shapes."""
        return network.perceptron.shapes

    def arrays(self, network: FirstNetwork) -> Mapping[str, np.ndarray]:
        """The first weights by name."""
        return network.weights

    def numbers(self, network: FirstNetwork) -> int:
        """How many numbers all weights hold."""
        return network.perceptron.numbers

    def under_rules(self, job: JobFile, data: Data, network: FirstNetwork, rules: PlannedRules) -> ArrayTraining:
        """A training with the rules around each step. Raises JobError as `steps`, and where memory does not suffice."""
        with _within_memory(job, network):
            return ruled_training(job, data, network, rules, self.steps(job, data, network, rules.plan))

    def without_rules(self, job: JobFile, data: Data, network: FirstNetwork, rules: System) -> ArrayTraining:
        """A training without rules. Raises JobError as `under_rules`."""
        with _within_memory(job, network):
            return plain_training(job, data, network, rules, self.steps(job, data, network, None))

    def threads(self) -> int:
        """These frameworks compute on all processors."""
        return os.cpu_count() or 1


MEMORY_ENDS = ("RESOURCE_EXHAUSTED", "OOM when allocating")
"""What JAX and TensorFlow write in errors of several classes."""


@contextmanager
def _within_memory(job: JobFile, network: FirstNetwork) -> Iterator[None]:
    """Raise JobError where what is made inside the block does not fit in memory."""
    try:
        yield
    except Exception as error:
        if isinstance(error, AffinetError):
            raise
        if isinstance(error, MemoryError) or any(words in str(error) for words in MEMORY_ENDS):
            subject = f"its weights with the state of {job.job.train.optimizer}"
            raise beyond_memory(job, network.perceptron, subject, error) from error
        raise
