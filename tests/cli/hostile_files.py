"""Pieces of files that say what is not there, byte by byte, as an attacker writes them."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import numpy as np


def npy(shape: str, descr: str = "'<f8'", content: bytes = bytes(100), *, fortran: str = "False") -> bytes:
    """A `.npy` file of version 1 whose header says this."""
    header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


def saved(array: object) -> bytes:
    """What NumPy writes."""
    file = io.BytesIO()
    np.save(file, np.asarray(array))
    return file.getvalue()


def npz(packing: int = zipfile.ZIP_DEFLATED, /, **members: bytes) -> bytes:
    """An archive of these members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def part(kind: int, content: bytes, *, length: int | None = None) -> bytes:
    """An element of a `.mat` file of version 5."""
    length = len(content) if length is None else length
    return struct.pack("<II", kind, length) + content + bytes(-len(content) % 8)


def matrix(*parts: bytes, cls: int = 6, dims: tuple[int, ...] = (2, 2), name: bytes = b"A", flags: int = 0) -> bytes:
    """The element of a matrix of this class, followed by `parts`."""
    content = (
        part(6, struct.pack("<II", cls | flags, 0)) + part(5, struct.pack(f"<{len(dims)}i", *dims)) + part(1, name)
    )
    return part(14, content + b"".join(parts))


def mat(*elements: bytes, compressed: bool = False) -> bytes:
    """A `.mat` file of version 5 with these elements."""
    if compressed:
        elements = tuple(part_unpadded(zlib.compress(element)) for element in elements)
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"".join(elements)


def part_unpadded(packed: bytes) -> bytes:
    """A compressed element."""
    return struct.pack("<II", 15, len(packed)) + packed
