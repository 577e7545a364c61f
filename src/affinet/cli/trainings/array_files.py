"""Write named arrays to safetensors files and read them again, to the bit: NumPy arrays, or tensors of torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

Kind = Literal["numpy", "torch"]


class ArrayFiles(Protocol):
    """How the arrays of one library are stored."""

    def save(self, arrays: Mapping[str, Any], path: Path, metadata: Mapping[str, str]) -> None:
        """Write arrays, of which several may share memory. Raises OSError and SafetensorError."""

    def load(self, path: Path) -> dict[str, Any]:
        """The arrays of a file, in memory of their own. Raises what `safetensors` raises."""

    def dtype(self, array: Any) -> str:
        """The type of numbers, as checksums name it."""

    def content(self, array: Any) -> memoryview:
        """The bytes of the numbers, row by row."""


class NumPyFiles:
    """Files of NumPy arrays."""

    def save(self, arrays: Mapping[str, np.ndarray], path: Path, metadata: Mapping[str, str]) -> None:
        """As `ArrayFiles.save`."""
        save_file({name: np.asarray(x, order="C") for name, x in arrays.items()}, path, metadata=dict(metadata))

    def load(self, path: Path) -> dict[str, np.ndarray]:
        """As `ArrayFiles.load`."""
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name).copy() for name in file.keys()}  # noqa: SIM118  (no dict)

    def dtype(self, array: np.ndarray) -> str:
        """As `ArrayFiles.dtype`."""
        return array.dtype.name

    def content(self, array: np.ndarray) -> memoryview:
        """As `ArrayFiles.content`."""
        return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def kind_of(arrays: Iterable[object]) -> Kind:
    """Whether arrays are of NumPy or of torch."""
    return "numpy" if all(isinstance(x, np.ndarray) for x in arrays) else "torch"


def save_arrays(arrays: Mapping[str, Any], path: Path, metadata: Mapping[str, str]) -> None:
    """Write arrays of one kind. Raises OSError and SafetensorError."""
    files_of(kind_of(arrays.values())).save(arrays, path, metadata)


def files_of(kind: Kind) -> ArrayFiles:
    """How arrays of a kind are stored; torch is imported for its tensors alone."""
    if kind == "numpy":
        return NumPyFiles()
    from affinet.cli.trainings.torch.tensor_files import TensorFiles

    return TensorFiles()


def metadata_of(path: Path) -> dict[str, str]:
    """The texts in the header of a file. Raises what `safetensors` raises."""
    with safe_open(path, framework="np") as file:
        return dict(file.metadata() or {})
