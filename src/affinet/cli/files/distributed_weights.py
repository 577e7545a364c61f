"""Read the weights in a folder that `torch.distributed.checkpoint` wrote, without torch, and without running anything.

Such a folder has a pickled table, `.metadata`, of the pieces of each weight, and files of pieces, each of which
`torch.save` wrote. Both are read as inert records.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from affinet.analysis.rule_values import Weight
from affinet.cli.files.pickled_records import Named, Record, Table, pickled_records
from affinet.cli.files.safetensors_weights import read_bytes
from affinet.cli.files.stored_weight import CODES, TYPES, Stored, StoredWeight, weight_of_bytes
from affinet.errors import ModelFileError
from affinet.system.files import unreadable

METADATA = ".metadata"
LONGEST_METADATA = 2**28
"""Most bytes of the table of pieces: a million pieces."""
ROOT = "model."
"""What names begin with when a training is saved as `{"model": …, "optimizer": …}`; it may be left out."""
STORAGES = {"DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16"}
WAY_OUT = (
    "convert the folder with torch.distributed.checkpoint.format_utils.dcp_to_torch_save, and save as safetensors."
)

Box = tuple[tuple[int, ...], tuple[int, ...]]
"""The first position of a piece and its size, along every axis."""


@dataclass(frozen=True)
class Place:
    """The bytes of a file in which a piece is."""

    path: Path
    offset: int
    length: int


def distributed_weights(folder: Path) -> Stored:
    """The tensors of a checkpoint by name; the pieces of each are read when it is needed.

    Raises ModelFileError for tables that are too long, and for pieces outside of the folder.
    """
    path = folder / METADATA
    if reason := unreadable(path, LONGEST_METADATA):
        raise ModelFileError(f"{path} {reason}. Name the folder of a whole checkpoint.")
    fields = pickled_records(path.read_bytes()).state.fields()
    tensors = {
        name: value.state.fields()
        for name, value in fields["state_dict_metadata"].by_text().items()
        if value.name.endswith(".TensorStorageMetadata")
    }
    places = dict(_places(folder, fields["storage_data"]))
    stored = {name: _stored(folder, name, tensor, places) for name, tensor in tensors.items()}
    shortened = {name.removeprefix(ROOT): weight for name, weight in stored.items() if name.startswith(ROOT)}
    return shortened | stored


def _places(folder: Path, table: Table) -> Iterator[tuple[tuple[str, tuple[int, ...]], Place]]:
    """The name and the first position of each piece, and where it is. Raises ModelFileError for other folders."""
    for piece, storage in table.pairs:
        key, place = piece.state.fields(), storage.state.fields()
        name, file = key["fqn"], place["relative_path"]
        if not isinstance(name, str) or key.get("offset") is None:
            continue  # not a tensor
        if not isinstance(file, str) or Path(file).name != file or "\\" in file or file in ("", ".", ".."):
            shown = repr(file) if isinstance(file, str) else "no text"
            raise ModelFileError(
                f"{folder / METADATA} puts {name!r:.60} into {shown:.60}, which is not a file name in its folder. "
                f"Fetch the whole checkpoint again."
            )
        if place.get("transform_descriptors"):
            raise ModelFileError(
                f"{folder} holds compressed or encrypted pieces, such as that of {name!r:.60}, which are not read. "
                f"Instead, {WAY_OUT}"
            )
        yield (name, _numbers(key["offset"])), Place(folder / file, index(place["offset"]), index(place["length"]))


def _stored(folder: Path, name: str, tensor: dict[str, Any], places: Mapping[Any, Place]) -> StoredWeight:
    shape = _numbers(tensor["size"])
    dtype = tensor["properties"].state[0].name
    kind = TYPES.get(dtype.removeprefix("torch."), dtype)
    return StoredWeight(shape, kind, lambda: _read(folder, name, kind, shape, tensor["chunks"], places))


def _read(
    folder: Path, name: str, kind: str, shape: tuple[int, ...], chunks: list[Record], places: Mapping[Any, Place]
) -> Weight:
    """Put the pieces of a weight together, one after the other. Raises ModelFileError unless they hold it all, once."""
    fields = [chunk.state.fields() for chunk in chunks]
    boxes = [box for box in ((_numbers(each["offsets"]), _numbers(each["sizes"])) for each in fields) if prod(box[1])]
    if not _tiles(shape, boxes):
        raise ModelFileError(
            f"{folder / METADATA} does not list all entries of {name!r:.60} once: its {len(boxes)} pieces leave gaps "
            f"or overlap. Save the checkpoint again."
        )
    weight = np.empty(shape, CODES[kind])
    for first, size in boxes:
        place = places.get((name, first))
        if place and (reason := unreadable(place.path, None)):
            raise ModelFileError(
                f"{folder / METADATA} lists the file {place.path.name} with a piece of {name!r:.60}, and {place.path} "
                f"{reason}. Fetch all files of the checkpoint again."
            )
        piece = _piece(place, kind) if place else None
        if place is None or piece is None or piece.shape != size:
            where = f"{place.path} does not hold it at byte {place.offset:,}" if place else "names no file for it"
            raise ModelFileError(
                f"{folder / METADATA} lists a piece of {name!r:.60} of shape {size}, and {where}. Fetch all files "
                f"again; or, if torch can load the checkpoint, {WAY_OUT}"
            )
        weight[tuple(slice(start, start + width) for start, width in zip(first, size, strict=True))] = piece
    return weight_of_bytes(weight.reshape(-1).view(np.uint8), kind)


def _tiles(shape: tuple[int, ...], boxes: list[Box]) -> bool:
    """Whether boxes lie in an array of this shape and have each entry of it once."""
    if sum(prod(size) for _, size in boxes) != prod(shape):
        return False
    first = np.array([first for first, _ in boxes], np.int64).reshape(len(boxes), len(shape))
    last = first + np.array([size for _, size in boxes], np.int64).reshape(len(boxes), len(shape))
    if (first < 0).any() or (last > np.array(shape, np.int64)).any():
        return False
    return not any(((first[k] < last[:k]) & (first[:k] < last[k])).all(axis=1).any() for k in range(len(boxes)))


def _piece(place: Place, kind: str) -> NDArray[Any] | None:
    """The numbers that `torch.save` wrote into some bytes of a file; None for bytes of another kind."""
    content = read_bytes(place.path, place.offset, place.length).tobytes()
    if not content.startswith(b"PK"):
        return None
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        root = archive.namelist()[0].partition("/")[0]
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            return None
        order = archive.read(f"{root}/byteorder") if f"{root}/byteorder" in archive.namelist() else b"little"
        tensor = pickled_records(archive.read(f"{root}/data.pkl"))
        if not isinstance(tensor, Record) or tensor.name != "torch._utils._rebuild_tensor_v2" or order != b"little":
            return None
        storage, start, size, stride = tensor.arguments[:4]
        _, storage_type, key, *_ = storage.arguments[0]
        if not isinstance(storage_type, Named) or STORAGES.get(storage_type.name.removeprefix("torch.")) != kind:
            return None
        numbers = np.frombuffer(archive.read(f"{root}/data/{key}"), CODES[kind])
    size, stride, start = _numbers(size), _numbers(stride), _numbers((start,))[0]
    last = start + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min(start, *size, *stride, 0) < 0 or last >= len(numbers):
        return None
    return as_strided(numbers[start:], size, [step * numbers.itemsize for step in stride], writeable=False)


def _numbers(size: Any) -> tuple[int, ...]:
    """Whole numbers in a tuple, a list, or a record of `torch.Size`."""
    values = size.arguments[0] if isinstance(size, Record) else size
    return tuple(index(value) for value in values)
