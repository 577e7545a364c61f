"""Parts of affinet for users of packages that are not installed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import affinet
from affinet.cli.trainings.frameworks import framework_of
from affinet.errors import JobError, MissingPackageError
from tests.errors.case import case
from tests.errors.job_files import IN_JAX, job


class NotInstalled:
    """A finder of modules that reports packages as Python does where they are not installed."""

    def __init__(self, packages: tuple[str, ...]) -> None:
        self.packages = packages

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name in self.packages:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@contextmanager
def missing(module: str, *packages: str) -> Iterator[None]:
    """Packages are missing, and a module is not imported yet; afterwards modules are as they were."""
    with pytest.MonkeyPatch.context() as patch:
        own = [name for name in sys.modules if name.startswith((module, "affinet.adapters", "affinet.kernels.jax"))]
        blocked = [name for name in sys.modules if name.partition(".")[0] in packages]
        for name in (*own, *blocked):
            patch.delitem(sys.modules, name)
        patch.setattr(sys, "meta_path", [NotInstalled(packages), *sys.meta_path])
        yield


@case(MissingPackageError, "JAX is not installed.", 'Run `pip install "affinet[jax]"`.')
def optax_without_jax() -> None:
    with missing("affinet.optax", "jax", "jaxlib", "optax"):
        importlib.import_module("affinet.optax")


@case(MissingPackageError, "Keras is not installed.", 'Run `pip install "affinet[keras]"`.')
def keras_without_keras() -> None:
    with missing("affinet.keras", "keras"):
        importlib.import_module("affinet.keras")


@case(MissingPackageError, "scikit-learn is not installed.", 'Run `pip install "affinet[sklearn]"`.')
def estimators_without_scikit_learn() -> None:
    with missing("affinet.sklearn", "sklearn"):
        importlib.import_module("affinet.sklearn")


@case(MissingPackageError, "skorch is not installed.", "Run `pip install skorch`.")
def a_callback_without_skorch() -> None:
    with missing("affinet.skorch", "skorch"):
        importlib.import_module("affinet.skorch")


@case(MissingPackageError, "PyTorch is not installed.", "Install it, or call affinet.keras or affinet.optax.")
def torch_modules_without_torch() -> None:
    with missing("affinet.training.projection", "torch"):
        affinet.__getattr__("project")


@case(JobError, "JAX is not installed.", 'Run `pip install "affinet[jax]"`.')
def a_job_for_jax_without_jax(folder: Path) -> None:
    with missing("affinet.optax", "jax", "jaxlib", "optax"):
        framework_of(job(folder, IN_JAX))


@case(JobError, "Keras is not installed.", 'Run `pip install "affinet[keras]"`.')
def a_job_for_keras_without_keras(folder: Path) -> None:
    with missing("affinet.keras", "keras"):
        framework_of(job(folder, ("hidden = [5]", 'hidden = [5]\nframework = "keras"')))
