"""Make trainings with JAX and Optax for a job."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

import jax
import optax

from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.trainings.array_training import ArrayTraining, plain_training, rows_of, ruled_training
from affinet.cli.trainings.data import Data
from affinet.cli.trainings.first_network import FirstNetwork, first_network
from affinet.cli.trainings.jax.float64 import with_float64
from affinet.cli.trainings.jax.jax_steps import JaxSteps
from affinet.cli.trainings.jax.optax_optimizers import added_decay, inner_optimizer
from affinet.cli.trainings.optimizer_options import IN_OPTAX, settings_of
from affinet.cli.trainings.planned_rules import PlannedRules
from affinet.plans.plan import Plan
from affinet.system.system import System


class Jax:
    """JAX, as `Framework` describes it."""

    def seeded(self, seed: int) -> AbstractContextManager[None]:
        """Let JAX have float64 inside the block. Seeds go to NumPy: the built-in network draws nothing from JAX."""
        del seed
        return with_float64()

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
        return ruled_training(job, data, network, rules, _steps(job, data, network, rules.plan))

    def without_rules(self, job: JobFile, data: Data, network: FirstNetwork, rules: System) -> ArrayTraining:
        """A training without rules. Raises JobError as `settings_of`."""
        return plain_training(job, data, network, rules, _steps(job, data, network, None))

    def versions(self) -> dict[str, str]:
        """The versions of JAX and Optax."""
        return {"jax": jax.__version__, "optax": optax.__version__}

    def threads(self) -> int:
        """JAX computes on all processors."""
        return os.cpu_count() or 1


def _steps(job: JobFile, data: Data, network: FirstNetwork, plan: Plan | None) -> JaxSteps:
    name, settings = job.job.train.optimizer, settings_of(job, IN_OPTAX)
    optimizer = inner_optimizer(name, job.job.train.learning_rate, settings)
    return JaxSteps(network, rows_of(job, data), optimizer, added_decay(name, settings), plan)
