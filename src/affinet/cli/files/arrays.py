"""Read NumPy's files, `.npy` and `.npz`; the size that a header announces is compared with the file first."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import scipy.sparse
from numpy.lib import format as npy_format

from affinet.cli.words import listed
from affinet.errors import DataError
from affinet.system.unfolding import refusal_of_size

Array = np.ndarray[Any, np.dtype[Any]]

LONGEST_HEADER = 4096
MOST_AXES = 32
MOST_MEMBERS = 10_000
PIECE = 2**20

MAGIC = b"\x93NUMPY"
_SPARSE = {"csr": ("indices", "indptr"), "csc": ("indices", "indptr"), "bsr": ("indices", "indptr"),
           "coo": ("row", "col"), "dia": ("offsets",)}  # fmt: skip


def read_npy(path: Path) -> Array:
    """The array in a `.npy` file. Raises DataError and ValueError."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise DataError(f"{path} is not a .npy file: it does not begin like one (pickled files are never read).")
        file.seek(0)
        return _array(file, path.stat().st_size, path.stat().st_size)


def read_npz(path: Path, choose: Callable[[list[str]], str]) -> Any:
    """An array of a `.npz` archive, or the sparse matrix that scipy saved there.

    `choose` takes the names and returns one of them. Raises DataError and whatever a broken archive makes zipfile
    raise.
    """
    with _open_npz(path) as (archive, members):
        size = path.stat().st_size
        if {"format", "shape"} <= set(members):
            return _sparse(archive, members, size)
        return _member(archive, members[choose(list(members))], size)


def describe_npz(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """The shape and dtype of each array of a `.npz` archive, by its name. Errors are those of `read_npz`."""
    with _open_npz(path) as (archive, members):
        described = {}
        for name, info in members.items():
            with _open_member(archive, info) as file:
                shape, _, dtype, _ = _header(file)  # type: ignore[arg-type]
                described[name] = (shape, dtype)
        return described


def read_npz_array(path: Path, name: str) -> Array:
    """The array of this name in a `.npz` archive. Errors are those of `read_npz`."""
    with _open_npz(path) as (archive, members):
        return _member(archive, members[name], path.stat().st_size)


@contextmanager
def _open_npz(path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """The archive and its members by the names of their arrays."""
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is not a .npz file: it is not a zip archive (pickled files are never read).")
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        if len(infos) > MOST_MEMBERS:
            raise ValueError(f"it holds {len(infos):,} members, and at most {MOST_MEMBERS:,} are read")
        members = {info.filename.removesuffix(".npy"): info for info in infos}
        if len(members) < len(infos):
            raise ValueError("two of its members have one name")
        yield archive, members


def _array(file: BinaryIO, length: int, size: int) -> Array:
    """The array of `length` bytes that begins here, in a file of `size` bytes."""
    shape, columns_first, dtype, start = _header(file)
    if dtype.kind == "O":
        raise ValueError("it holds pickled objects, which are never read")
    count, available = prod(shape), length - start
    if count * dtype.itemsize != available:
        needed = f"shape {shape!r:.80} of {dtype} takes {count * dtype.itemsize:,} bytes"
        raise ValueError(f"its header announces what is not there: {needed}, and {available:,} follow")
    if reason := refusal_of_size(size, count, dtype.itemsize):
        raise ValueError(f"it holds {reason}")
    numbers = np.empty(count, dtype)
    _fill_buffer(numbers.view(np.uint8), file)
    return numbers.reshape(shape, order="F" if columns_first else "C")


def _fill_buffer(buffer: Array, file: BinaryIO) -> None:
    """Fill `buffer` from the file in pieces, so that no second copy is unpacked; refuse a longer file."""
    for start in range(0, buffer.size, PIECE):
        piece = file.read(min(PIECE, buffer.size - start))
        buffer[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
        if len(piece) < min(PIECE, buffer.size - start):
            raise ValueError(f"it announces {buffer.size:,} bytes of numbers and holds {start + len(piece):,}")
    if file.read(1):
        raise ValueError(f"more follows than the {buffer.size:,} bytes of numbers that it announces")


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether columns come first, dtype, and the position at which the numbers begin."""
    version = npy_format.read_magic(file)
    width = 2 if version == (1, 0) else 4
    length_bytes = file.read(width)
    length = int.from_bytes(length_bytes, "little")
    if len(length_bytes) < width or version not in ((1, 0), (2, 0)) or length > LONGEST_HEADER:
        raise ValueError(f"its header is of version {version} and {length:,} bytes long")
    header = io.BytesIO(length_bytes + file.read(length))
    read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, columns_first, dtype = read_header(header)
    if len(shape) > MOST_AXES or any(n < 0 for n in shape):
        raise ValueError(f"its header announces shape {shape!r:.80}")
    return shape, columns_first, dtype, 8 + width + length


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> Array:
    with _open_member(archive, info) as file:
        return _array(file, info.file_size, size)  # type: ignore[arg-type]


def _open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"its member {info.filename!r:.60} is packed in a way that NumPy does not use")
    return archive.open(info)


def _sparse(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], size: int) -> Any:
    """The matrix that `scipy.sparse.save_npz` saved; its indices are integers, and not yet known to be valid."""
    kind = _member(archive, members["format"], size).reshape(-1)[:1].astype("U8")
    name = str(kind[0]) if len(kind) else ""
    if name not in _SPARSE:
        raise ValueError(f"its sparse format is {name!r}; read are {listed(list(_SPARSE))}")
    keys = ("shape", "data", *_SPARSE[name])
    missing = [part for part in keys if part not in members]
    if missing:
        raise ValueError(f"a sparse matrix of format {name} lacks its {missing[0]!r}")
    shape, data, *indices = (_member(archive, members[part], size) for part in keys)
    if any(array.dtype.kind not in "iu" for array in (shape, *indices)) or shape.shape != (2,):
        raise ValueError("its shape and its indices are not whole numbers of two axes")
    axes = tuple(int(n) for n in shape)
    match name:
        case "csr" | "csc" | "bsr":
            return getattr(scipy.sparse, f"{name}_array")((data, *indices), shape=axes)
        case "coo":
            return scipy.sparse.coo_array((data, tuple(indices)), shape=axes)
        case _:
            return scipy.sparse.dia_array((data, indices[0]), shape=axes)
