"""Choose the framework that a job is trained in; each is imported for its own jobs alone."""

from __future__ import annotations

from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.trainings.framework import Framework


def framework_of(job: JobFile) -> Framework:
    """The framework of a job."""
    del job
    from affinet.cli.trainings.torch.torch_framework import Torch

    return Torch()
