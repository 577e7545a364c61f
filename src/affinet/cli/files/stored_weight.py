"""A weight in a file that is not read yet: its shape and type, and a function that reads its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affinet.analysis.rule_values import Rounding, Weight

TYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""The types of numbers that rules can be about, as NumPy and ml_dtypes name them, and as safetensors does."""
CODES = {kind: np.dtype(code) for kind, code in (("F64", "<f8"), ("F32", "<f4"), ("F16", "<f2"), ("BF16", "<u2"))}
"""How the bytes of each type are read. NumPy has no bfloat16: the upper halves of the bytes of float32."""
_BFLOAT16 = Rounding(2.0**-7, 2.0**-133)


@dataclass(frozen=True)
class StoredWeight:
    """`kind` is a type of safetensors, such as `F32`, or another name of a type that rules cannot be about."""

    shape: tuple[int, ...]
    kind: str
    read: Callable[[], Weight]


Stored = Mapping[str, StoredWeight]


def of_array(shape: tuple[int, ...], dtype: str, read: Callable[[], Any]) -> StoredWeight:
    """The weight of an array that `read` returns, `dtype` being the name of its type: `float32`, `bfloat16`."""
    return StoredWeight(shape, TYPES.get(dtype, dtype), lambda: _weight(np.asarray(read()), dtype))


def weight_of_bytes(content: NDArray[np.uint8], kind: str) -> Weight:
    """The weight whose bytes, entry after entry, are `content`, of a type in `CODES`."""
    numbers = content.view(CODES[kind])
    return _bfloat16_weight(numbers) if kind == "BF16" else _weight(numbers, numbers.dtype.name)


def _weight(array: np.ndarray[Any, Any], dtype: str) -> Weight:
    """The numbers laid end to end, with as many bytes as they have; bfloat16 may come as two bytes without a type."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if dtype == "bfloat16":
        return _bfloat16_weight(flat.view(np.uint16))
    info = np.finfo(dtype)
    return Weight(flat.astype(dtype, copy=False), Rounding(float(info.eps), float(info.smallest_subnormal)))


def _bfloat16_weight(halves: NDArray[np.uint16]) -> Weight:
    return Weight(Halves(halves), _BFLOAT16)


@dataclass(frozen=True, eq=False)
class Halves:
    """Numbers of bfloat16 in two bytes each; only those that are indexed are widened to float32."""

    upper: NDArray[np.uint16]

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return self.upper.size

    def __getitem__(self, key: slice | NDArray[Any]) -> NDArray[np.float32]:
        return (self.upper[key].astype(np.uint32) << 16).view(np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(np.float32 if dtype is None else dtype, copy=False)
