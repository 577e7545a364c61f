"""A weight in a file that is not read yet: its shape and type, and a function that reads its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from affinet.analysis.rule_values import Rounding, Weight

TYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""The types of numbers that rules can be about, as NumPy and ml_dtypes name them, and as safetensors does."""
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


def weight_of_array(array: np.ndarray[Any, Any]) -> Weight:
    """The weight of an array of float64, float32 or float16."""
    return _weight(array, array.dtype.name)


def _weight(array: np.ndarray[Any, Any], dtype: str) -> Weight:
    """The numbers laid end to end, those of 16 bits in float32; bfloat16 may come as two bytes without a type."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if dtype == "bfloat16":
        return Weight((flat.view(np.uint16).astype(np.uint32) << 16).view(np.float32), _BFLOAT16)
    info = np.finfo(dtype)
    rounding = Rounding(float(info.eps), float(info.smallest_subnormal))
    return Weight(flat.astype(np.float32 if dtype == "float16" else np.dtype(dtype), copy=False), rounding)
