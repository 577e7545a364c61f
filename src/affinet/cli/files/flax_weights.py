"""Read the weights in the bytes of `flax.serialization.to_bytes`: nested tables in msgpack whose leaves are arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from affinet.cli.files.libraries import needed_library
from affinet.cli.files.stored_weight import TYPES, Stored, StoredWeight, of_array
from affinet.cli.files.tree_names import named_by_tree

ARRAY, SCALAR = 1, 3
"""Codes of the extensions in which Flax packs arrays, and numbers of NumPy."""
CHUNKED = "__msgpack_chunked_array__"
_BYTES = {**{name: np.dtype(name).itemsize for name in TYPES if name != "bfloat16"}, "bfloat16": 2}


@dataclass(frozen=True)
class _Packed:
    """An array as Flax packs it: its shape, the name of its type, and its bytes row by row."""

    shape: tuple[int, ...]
    dtype: str
    content: bytes


def flax_weights(path: Path) -> Stored:
    """The arrays by the keys on the way to them, joined by dots, as `affinet.weights` names them.

    Nothing is run: no type of the file is made but arrays of numbers. Raises ModelFileError without the package
    msgpack, and ValueError for other files.
    """
    msgpack = needed_library("msgpack", path)
    tree = msgpack.unpackb(path.read_bytes(), ext_hook=partial(_extension, msgpack), strict_map_key=False)
    return named_by_tree({keys: _stored(packed) for keys, packed in _leaves(tree, ())})


def _extension(msgpack: ModuleType, code: int, data: bytes) -> object:
    if code not in (ARRAY, SCALAR):
        return None
    shape, dtype, content = msgpack.unpackb(data)
    counts = all(type(n) is int and n >= 0 for n in shape)
    if not isinstance(dtype, str) or not isinstance(content, bytes) or not counts:
        raise ValueError("an array in it does not say its shape, its type and its numbers")
    return _Packed(tuple(shape), dtype, content)


def _leaves(tree: object, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], _Packed]]:
    if isinstance(tree, _Packed):
        yield keys, tree
    elif isinstance(tree, Mapping) and tree.get(CHUNKED):
        yield keys, _joined(tree)
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _leaves(value, (*keys, str(key)))


def _joined(table: Mapping[Any, Any]) -> _Packed:
    """A large array, which Flax writes in pieces."""
    shape, pieces = ([part[str(k)] for k in range(len(part))] for part in (table["shape"], table["chunks"]))
    if not pieces or not all(isinstance(piece, _Packed) and piece.dtype == pieces[0].dtype for piece in pieces):
        raise ValueError("an array in it is in pieces that do not fit together")
    return _Packed(tuple(int(n) for n in shape), pieces[0].dtype, b"".join(piece.content for piece in pieces))


def _stored(packed: _Packed) -> StoredWeight:
    size = _BYTES.get(packed.dtype)
    if size is not None and prod(packed.shape) * size != len(packed.content):
        raise ValueError(f"an array of {packed.dtype} and shape {packed.shape!r:.60} has {len(packed.content):,} bytes")
    raw = np.dtype("<u2" if packed.dtype == "bfloat16" else packed.dtype) if size is not None else np.dtype(np.uint8)
    return of_array(packed.shape, packed.dtype, lambda: np.frombuffer(packed.content, raw))
