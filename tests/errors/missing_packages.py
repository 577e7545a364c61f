"""Parts of affinet for users of packages that are not installed."""

from __future__ import annotations

import importlib
import sys

import pytest

from affinet.errors import MissingPackageError
from tests.errors.case import case


def imported_without(module: str, *packages: str) -> None:
    """Import a module anew where packages are missing, and leave the modules of this process as they were."""
    with pytest.MonkeyPatch.context() as patch:
        own = [name for name in sys.modules if name.startswith((module, "affinet.adapters", "affinet.kernels.jax"))]
        blocked = [name for name in sys.modules if name.partition(".")[0] in packages]
        for name in own:
            patch.delitem(sys.modules, name)
        for name in (*blocked, *packages):
            patch.setitem(sys.modules, name, None)
        importlib.import_module(module)


@case(MissingPackageError, "JAX is not installed.", 'Run `pip install "affinet[jax]"`.')
def optax_without_jax() -> None:
    imported_without("affinet.optax", "jax", "jaxlib", "optax")


@case(MissingPackageError, "Keras is not installed.", 'Run `pip install "affinet[keras]"`.')
def keras_without_keras() -> None:
    imported_without("affinet.keras", "keras")
