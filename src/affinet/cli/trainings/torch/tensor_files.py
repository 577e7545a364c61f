"""Write named tensors to safetensors files and read them again, to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


class TensorFiles:
    """Files of tensors, as `ArrayFiles` describes them."""

    def save(self, arrays: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
        """Write tensors; those that share memory are stored separately, so that each name can be loaded."""
        tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in arrays.items()}
        save_file(tensors, path, metadata=dict(metadata))

    def load(self, path: Path) -> dict[str, Tensor]:
        """The tensors of a file, on the CPU."""
        with safe_open(path, framework="pt") as file:
            # Copies: the file's memory is aligned differently from torch's, which can change the last bits of products.
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  (no dict)

    def dtype(self, array: Tensor) -> str:
        """`torch.float32`."""
        return str(array.dtype)

    def content(self, array: Tensor) -> memoryview:
        """The bytes of the numbers, row by row."""
        return bits(array).numpy().data


def bits(tensor: Tensor) -> Tensor:
    """The bytes of a tensor in the order of its entries, on the CPU."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
