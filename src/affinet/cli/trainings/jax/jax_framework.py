"""Make trainings with JAX and Optax for a job."""

from __future__ import annotations

from contextlib import AbstractContextManager

import jax
import optax

from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.trainings.array_framework import ArrayFramework
from affinet.cli.trainings.array_training import rows_of
from affinet.cli.trainings.data import Data
from affinet.cli.trainings.first_network import FirstNetwork
from affinet.cli.trainings.jax.attached_rules import under_rules, without_rules
from affinet.cli.trainings.jax.float64 import with_float64
from affinet.cli.trainings.jax.jax_steps import JaxSteps
from affinet.cli.trainings.jax.optax_optimizers import added_decay, inner_optimizer
from affinet.cli.trainings.optimizer_options import IN_OPTAX, settings_of
from affinet.plans.plan import Plan


class Jax(ArrayFramework):
    """JAX, as `Framework` describes it."""

    def seeded(self, seed: int) -> AbstractContextManager[None]:
        """Let JAX have float64 inside the block. Seeds go to NumPy: the built-in network draws nothing from JAX."""
        del seed
        return with_float64()

    def versions(self) -> dict[str, str]:
        """The versions of JAX and Optax."""
        return {"jax": jax.__version__, "optax": optax.__version__}

    def steps(self, job: JobFile, data: Data, network: FirstNetwork, plan: Plan | None) -> JaxSteps:
        """The network with its optimizer. Raises JobError as `settings_of` and `under_rules`."""
        name, settings = job.job.train.optimizer, settings_of(job, IN_OPTAX)
        optimizer = inner_optimizer(name, job.job.train.learning_rate, settings)
        rules = without_rules(optimizer) if plan is None else under_rules(job, plan, optimizer)
        return JaxSteps(network, rows_of(job, data), rules, added_decay(name, settings))
