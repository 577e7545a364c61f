"""Import the libraries that read weights of other frameworks, where a file of theirs is named."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from affinet.errors import ModelFileError

PACKAGES = {"h5py": "h5py", "msgpack": "msgpack", "orbax.checkpoint": "orbax-checkpoint"}
"""Module → the package that has it."""


def needed_library(module: str, path: Path) -> ModuleType | Any:
    """The module that reads `path`. Raises ModelFileError, which says how to install it."""
    try:
        return import_module(module)
    except ImportError:
        package = PACKAGES[module]
        raise ModelFileError(
            f"{path} is read with the package {package}, which is not installed. Run pip install {package}, or pip "
            f"install 'affinet[checkpoints]' for all kinds of files."
        ) from None
