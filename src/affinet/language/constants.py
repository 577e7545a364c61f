"""Constants as users write them (numbers, lists, arrays, tensors) read as float64, with the spacing of their dtype."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affinet.errors import ConstantError
from affinet.language.calculus.terms import Floats, Integers
from affinet.language.wording import Word, Wording

EXACT = 2.0**-52
"""The spacing of float64 at 1: the epsilon of everything that no coarser dtype has touched."""

_LONGEST_LIST = 6


@dataclass(frozen=True, eq=False, slots=True)
class Constant:
    """A finite constant: `values` is a number, or an array with as many axes as `shape`, each whole or of size one.

    `epsilon` is the spacing at 1 of the coarsest floating dtype that the values came from.
    """

    values: float | Floats
    shape: tuple[int, ...]
    epsilon: float
    wording: Wording


@dataclass(frozen=True, eq=False, slots=True)
class SparseMatrix:
    """A finite sparse matrix: `values[k]` at row `rows[k]`, column `columns[k]`, each place once, no stored zeros."""

    rows: Integers
    columns: Integers
    values: Floats
    shape: tuple[int, int]
    epsilon: float
    wording: Wording


def read_constant(value: object) -> Constant:
    """The constant that a user gave.

    Errors: `ConstantError` for NaN and infinities, complex numbers, text, None, sparse and `meta` tensors.
    """
    return _read(value, np.float64)


def right_hand_side(value: object) -> Constant:
    """As `read_constant`, for `left == value`: an array may share the user's memory and stay in float32.

    A rule keeps the difference of both sides, which is an array of its own; so values in float32 are held once, and in
    as many bytes as they came. Law: all that computes with constants widens them first.
    """
    return _read(value, None)


def _read(value: object, dtype: type[np.float64] | None) -> Constant:
    if type(value) is int or type(value) is float:
        return Constant(_finite_number(value), (), EXACT, value)
    if is_sparse(value):
        raise ConstantError(
            f"{_said_array('sparse', value)} is sparse, which is understood in `matrix @ weights` and in "
            f"families.linear only. Write `.toarray()` (scipy) or `.to_dense()` (torch) to use all its numbers."
        )
    array, epsilon = read_array(value)
    if array.dtype.kind not in "biuf":
        raise ConstantError(f"{_shown(value)} is no real number or array of them: its dtype is {array.dtype}.")
    if array.ndim == 0:
        return Constant(_finite_number(float(array)), (), epsilon, Word(str(array)))
    whole = _unconverted(compacted(array)) if dtype is None else np.array(compacted(array), dtype=dtype)
    _check_finite(whole, value)
    return Constant(compacted(whole), array.shape, epsilon, word_of(array))


def _unconverted(array: Any) -> Floats:
    """The same numbers where they lie, in float32 where that holds them, else in float64."""
    array = np.asarray(array)
    narrow = array.dtype.kind == "f" and array.itemsize <= 4
    found: Floats = array.astype(np.float32 if narrow else np.float64, copy=False)
    return found


def read_matrix(value: object) -> Constant | SparseMatrix:
    """As `read_constant`, and sparse matrices of scipy and torch stay sparse."""
    return _read_sparse(value) if is_sparse(value) else read_constant(value)


def read_array(value: object) -> tuple[NDArray[Any], float]:
    """Any array, tensor, list or number as a NumPy array of its own dtype (floats NumPy does not know: float64)."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _read_tensor(value)
    if value is None or isinstance(value, str | bytes | dict | set) or not _array_like(value):
        raise ConstantError(f"{_shown(value)} is no number, array or tensor.")
    if isinstance(value, np.ma.MaskedArray):
        raise ConstantError(
            f"{_said_array('masked_array', value)} is masked. Write `.filled(number)` for what is hidden."
        )
    if isinstance(value, list | tuple) and torch is not None:
        value = [_read_tensor(item)[0] if isinstance(item, torch.Tensor) else item for item in value]
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise ConstantError(f"{_shown(value)} is no array of numbers: {error}.") from None
    if array.dtype.kind == "O":
        array = _from_objects(array, value)
    if array.dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        return array.astype(np.float64), 2.0**-7 if array.dtype.name == "bfloat16" else 0.25
    return array, float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" and array.itemsize < 8 else EXACT


def is_sparse(value: object) -> bool:
    """Whether this is a sparse matrix of scipy or of torch."""
    sparse, torch = sys.modules.get("scipy.sparse"), sys.modules.get("torch")
    if sparse is not None and sparse.issparse(value):
        return True
    return torch is not None and isinstance(value, torch.Tensor) and value.layout is not torch.strided


def compacted(array: NDArray[Any]) -> Any:
    """The array with axes that only repeat (stride 0) cut to size one; a number where nothing but one is left."""
    if array.size == 0:
        return 0.0
    window = tuple(slice(0, 1) if step == 0 else slice(None) for step in array.strides)
    small = array[window]
    return float(small.reshape(())) if small.size == 1 else small


def word_of(array: NDArray[Any]) -> Word:
    """`[1, 2]` for a few numbers, `array(4096, 5)` for many."""
    if array.ndim == 1 and array.size <= _LONGEST_LIST:
        return Word(f"[{', '.join(map(str, array))}]")
    return Word(f"array({', '.join(map(str, array.shape))})")


def _array_like(value: object) -> bool:
    return isinstance(value, Real | list | tuple | range | np.generic) or hasattr(value, "__array__")


def _from_objects(array: NDArray[Any], value: object) -> NDArray[Any]:
    """Fractions and large integers; anything else inside a list is refused."""
    if array.size and all(isinstance(item, Real) for item in array.flat):
        try:
            return array.astype(np.float64)
        except OverflowError:
            raise ConstantError(
                "one of the integers in this list is larger than any float64. Divide the rule by it."
            ) from None
    if not array.ndim:
        raise ConstantError(f"{_shown(value)} is no number, array or tensor.")
    raise ConstantError(
        f"{_shown(value)} holds things that are no numbers. To put weights together write affinet.stack([…]) "
        f"or affinet.concat([…])."
    )


def _read_tensor(tensor: Any) -> tuple[NDArray[Any], float]:
    torch = sys.modules["torch"]
    if tensor.is_meta:
        raise ConstantError("a tensor on the meta device has no numbers. Constants must be given with their values.")
    if tensor.requires_grad:
        raise ConstantError(
            f"a tensor of shape {tuple(tensor.shape)} that requires gradients was given as a constant, and a rule "
            f"would hold it at its numbers of now. For a weight of the model use its symbol from "
            f"affinet.weights(model); for a constant write .detach()."
        )
    if tensor.is_quantized:
        raise ConstantError("a quantized tensor is no constant. Write `.dequantize()`.")
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    if tensor.dtype.is_floating_point:
        epsilon = max(EXACT, float(torch.finfo(tensor.dtype).eps))
        known = tensor.dtype in (torch.float16, torch.float32, torch.float64)
        return (tensor if known else tensor.float()).numpy(), epsilon
    return tensor.numpy(), EXACT


def _read_sparse(value: Any) -> SparseMatrix:
    import scipy.sparse

    if not scipy.sparse.issparse(value):
        dense, epsilon = value.to_sparse_coo().coalesce(), EXACT
        numbers, epsilon = _read_tensor(dense.values())
        value = scipy.sparse.coo_array((numbers, dense.indices().cpu().numpy()), shape=tuple(dense.shape))
    else:
        epsilon = read_array(value.data[:0] if value.format != "lil" else np.empty(0, value.dtype))[1]
    if value.ndim != 2 or value.dtype.kind not in "biuf":
        raise ConstantError(
            f"{_said_array('sparse', value)} of dtype {value.dtype} is no real sparse matrix with two axes."
        )
    matrix = scipy.sparse.coo_array(value, dtype=np.float64, copy=True)
    with np.errstate(all="ignore"):
        matrix.sum_duplicates()
    matrix.eliminate_zeros()
    _check_finite(matrix.data, value)
    rows, columns = matrix.coords
    return SparseMatrix(rows, columns, matrix.data, matrix.shape, epsilon, Word(_said_array("sparse", value)))


def _finite_number(value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        raise ConstantError("this integer is larger than any float64. Divide the rule by it.") from None
    if not math.isfinite(number):
        raise ConstantError(f"{number} is no constant: the right-hand sides and factors of rules are finite numbers.")
    return number


def _check_finite(values: Floats, given: object) -> None:
    with np.errstate(all="ignore"):
        if np.isfinite(values.sum()):
            return
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        first = tuple(int(i) for i in wrong[0])
        place = first[0] if len(first) == 1 else first
        many = "entry that is" if len(wrong) == 1 else "entries that are"
        raise ConstantError(
            f"{_said_array('array', given)} has {len(wrong)} {many} NaN or infinite, "
            f"the first at {place} ({values[first]}). Constants are finite."
        )


def _said_array(word: str, value: object) -> str:
    return f"{word}({', '.join(map(str, np.shape(getattr(value, 'shape', ())) and getattr(value, 'shape', ())))})"


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # integers beyond sys.get_int_max_str_digits()
        text = "…"
    return f"{text[:60]}{'…' if len(text) > 60 else ''} ({type(value).__name__})"
