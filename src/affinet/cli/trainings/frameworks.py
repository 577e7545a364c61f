"""Choose the framework that a job is trained in; each is imported for its own jobs alone."""

from __future__ import annotations

from importlib import import_module
from typing import assert_never

from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.trainings.framework import Framework
from affinet.cli.trainings.processes import SINGLE, Processes
from affinet.errors import MissingPackageError

PUBLIC = {"jax": "affinet.optax", "keras": "affinet.keras"}
"""Framework → the module of affinet for it, which names the extra where packages are missing."""


def framework_of(job: JobFile, processes: Processes = SINGLE) -> Framework:
    """The framework of a job, in these processes: only torch takes several.

    Raises JobError where its packages are not installed, with the extra to install.
    """
    name = job.job.model.framework
    try:
        if name in PUBLIC:
            import_module(PUBLIC[name])
    except MissingPackageError as error:
        raise job.mistake(("model", "framework"), f'framework = "{name}": {error}') from None
    match name:
        case "torch":
            from affinet.cli.trainings.torch.torch_framework import Torch

            return Torch(processes)
        case "jax":
            from affinet.cli.trainings.jax.jax_framework import Jax

            return Jax()
        case "keras":
            from affinet.cli.trainings.keras.keras_framework import Keras

            return Keras()
        case _:
            assert_never(name)
