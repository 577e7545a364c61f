"""Read the weights of `.safetensors` files one by one, so that no more of a file is in memory than a rule needs."""

from __future__ import annotations

import json
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from affinet.cli.files.damaged_files import refusing_damaged
from affinet.cli.files.stored_weight import CODES, StoredWeight, weight_of_bytes
from affinet.errors import ModelFileError
from affinet.system.files import unreadable

KINDS = (
    "a .safetensors, .npz, .keras, .weights.h5 or .msgpack file, or the folder of a checkpoint of transformers, "
    "torch.distributed.checkpoint or Orbax"
)
PIECES = "DCP_SHARDING_INFO"
"""The key in the metadata of a file with pieces of weights, which `torch.distributed.checkpoint` wrote."""


def safetensors_weights(path: Path) -> dict[str, StoredWeight]:
    """The weights of a file by name. The file is closed again, and each weight is read when it is needed.

    Raises ModelFileError for what is not a file, for a header that does not fit the size of the file, and for files
    with pieces of weights.
    """
    if reason := unreadable(path, None):
        raise ModelFileError(f"{path} {reason}. Name {KINDS}.")
    with (
        refusing_damaged(path, "safetensors"),
        safe_open(path, framework="np") as file,
    ):  # compares shapes, places and the size of the file
        if PIECES in (file.metadata() or {}):
            raise ModelFileError(
                f"{path} holds pieces of weights, as torch's HuggingFaceStorageWriter writes them. Save with "
                f"HuggingFaceStorageWriter(path, save_distributed=True, enable_consolidation=True), which writes whole "
                f"weights too."
            )
    header, first = _header(path)
    return {name: _stored(path, first, fields) for name, fields in header.items() if name != "__metadata__"}


def read_bytes(path: Path, first: int, count: int) -> NDArray[np.uint8]:
    """`count` bytes of a file from byte `first` on. Raises ModelFileError where the file has become shorter."""
    content = np.fromfile(path, np.uint8, count, offset=first)
    if len(content) != count:
        raise ModelFileError(
            f"{path} ends {count - len(content):,} bytes too early: it has changed since it was opened. Verify it "
            f"again once it is whole."
        )
    return content


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a file that safetensors has checked, and the place of the first byte behind it."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(size)), 8 + size


def _stored(path: Path, first: int, fields: dict[str, Any]) -> StoredWeight:
    shape, kind = tuple(fields["shape"]), fields["dtype"]
    if kind not in CODES:
        return StoredWeight(shape, kind, partial(weight_of_bytes, np.zeros(0, np.uint8), kind))
    count = prod(shape) * CODES[kind].itemsize
    place = first + fields["data_offsets"][0]
    return StoredWeight(shape, kind, lambda: weight_of_bytes(read_bytes(path, place, count), kind))
