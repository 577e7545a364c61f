"""Make trainings with Keras for a job, on the backend that Keras is told to run on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.metadata import version
from typing import Any

import keras

from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.trainings.array_framework import ArrayFramework
from affinet.cli.trainings.array_training import rows_of
from affinet.cli.trainings.data import Data
from affinet.cli.trainings.first_network import FirstNetwork
from affinet.cli.trainings.keras.keras_optimizers import inner_optimizer
from affinet.cli.trainings.keras.model_steps import KerasSteps
from affinet.cli.trainings.optimizer_options import IN_KERAS, settings_of
from affinet.plans.plan import Plan


class Keras(ArrayFramework):
    """Keras, as `Framework` describes it."""

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Let equal runs have equal bits inside the block, and JAX have float64; seeds go to NumPy."""
        floatx, backend = keras.config.floatx(), keras.backend.backend()
        with ExitStack() as stack:
            stack.callback(keras.config.set_floatx, floatx)
            if backend == "jax":
                from affinet.cli.trainings.jax.float64 import with_float64

                stack.enter_context(with_float64())
            if backend == "tensorflow":
                keras.utils.set_random_seed(seed)
                import_module("tensorflow").config.experimental.enable_op_determinism()
            yield

    def versions(self) -> dict[str, str]:
        """The versions of Keras and of its backend."""
        backend: Any = import_module(keras.backend.backend())
        return {"keras": version("keras"), keras.backend.backend(): str(backend.__version__)}

    def steps(self, job: JobFile, data: Data, network: FirstNetwork, plan: Plan | None) -> KerasSteps:
        """The network with its optimizer. Raises JobError as `settings_of`."""
        keras.config.set_floatx(job.job.model.dtype)  # numbers that metrics hold, and batches
        name, settings = job.job.train.optimizer, settings_of(job, IN_KERAS)
        optimizer = inner_optimizer(name, job.job.train.learning_rate, settings)
        return KerasSteps(network, rows_of(job, data), optimizer, plan)
