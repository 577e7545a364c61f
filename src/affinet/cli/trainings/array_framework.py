"""Make trainings of a job by the steps of a framework whose numbers NumPy can read: what JAX and Keras share."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod

from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.trainings.array_training import ArrayTraining, Steps, plain_training, ruled_training
from affinet.cli.trainings.data import Data
from affinet.cli.trainings.first_network import FirstNetwork, first_network
from affinet.cli.trainings.planned_rules import PlannedRules
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

    def numbers(self, network: FirstNetwork) -> int:
        """How many numbers all weights hold."""
        return network.perceptron.numbers

    def under_rules(self, job: JobFile, data: Data, network: FirstNetwork, rules: PlannedRules) -> ArrayTraining:
        """A training with the rules around each step. Raises JobError as `settings_of`."""
        return ruled_training(job, data, network, rules, self.steps(job, data, network, rules.plan))

    def without_rules(self, job: JobFile, data: Data, network: FirstNetwork, rules: System) -> ArrayTraining:
        """A training without rules. Raises JobError as `settings_of`."""
        return plain_training(job, data, network, rules, self.steps(job, data, network, None))

    def threads(self) -> int:
        """These frameworks compute on all processors."""
        return os.cpu_count() or 1
