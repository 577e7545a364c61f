"""Read constants as users write them (numbers, lists, arrays, tensors) as float64, with the spacing of their dtype."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affinet.errors import ConstantError
from affinet.language.calculus.terms import Floats, Integers
from affinet.language.wording import Word, Wording, say

EXACT = 2.0**-52
"""The spacing of float64 at 1: the epsilon of constants that never were in a coarser dtype."""

_LONGEST_LIST = 6


@dataclass(frozen=True, eq=False, slots=True)
class Constant:
    """A constant: `values` is a number, or an array with the axes of `shape`, each at full size or at size one.

    It is finite, except that a bound may be infinite.
    `epsilon` is the spacing at 1 of the coarsest floating dtype that the values came from.
    """

    values: float | Floats
    shape: tuple[int, ...]
    epsilon: float
    wording: Wording


@dataclass(frozen=True, eq=False, slots=True)
class SparseMatrix:
    """A finite sparse matrix: `values[k]` at row `rows[k]`, column `columns[k]`; each place once, without zeros."""

    rows: Integers
    columns: Integers
    values: Floats
    shape: tuple[int, int]
    epsilon: float
    wording: Wording


def read_constant(value: object) -> Constant:
    """Read a constant that a user wrote.

    Errors: `ConstantError` for NaN and infinities, complex numbers, text, None, sparse and `meta` tensors.
    """
    return _read(value, np.float64)


def right_hand_side(value: object) -> Constant:
    """As `read_constant`, for `left == value`: an array may share the user's memory and stay in float32.

    A rule stores the difference of both sides in a new array, so values in float32 need no copy of their own.
    Law: every computation with constants widens them to float64 first.
    """
    return _read(value, None)


def read_bound(value: object, unbounded: float, subject: Wording) -> Constant:
    """As `right_hand_side`, for a bound of `subject`: entries equal to `unbounded`, inf or -inf, stand for no bound.

    Errors: `ConstantError`, with the subject, for NaN and for the other infinity, beyond which there are no weights.
    """
    try:
        return _read(value, None, unbounded)
    except ConstantError as error:
        side = "upper" if unbounded > 0 else "lower"
        raise ConstantError(f"the {side} bound of ({say(subject)}): {error.message}") from None


def _read(value: object, dtype: type[np.float64] | None, unbounded: float | None = None) -> Constant:
    if type(value) is int or type(value) is float:
        return Constant(_finite_number(value, unbounded), (), EXACT, value)
    if is_sparse(value):
        raise ConstantError(
            f"{_array_text('sparse', value)} is sparse; sparse matrices are allowed only in `matrix @ weights` and in "
            f"families.linear. Write `.toarray()` (scipy) or `.to_dense()` (torch)."
        )
    array, epsilon = read_array(value)
    if array.dtype.kind not in "biuf":
        raise ConstantError(f"{_repr_of(value)} must hold real numbers; its dtype is {array.dtype}.")
    if array.ndim == 0:
        return Constant(_finite_number(float(array), unbounded), (), epsilon, Word(str(array)))
    values = _as_float(compact(array)) if dtype is None else np.array(compact(array), dtype=dtype)
    _check_finite(values, value, unbounded)
    return Constant(compact(values), array.shape, epsilon, word_of(array))


def _as_float(array: Any) -> Floats:
    """The numbers without a copy if they are in float32 or float64, else in the one of the two that holds them."""
    array = np.asarray(array)
    fits_float32 = array.dtype.kind == "f" and array.itemsize <= 4
    floats: Floats = array.astype(np.float32 if fits_float32 else np.float64, copy=False)
    return floats


def negative(constant: Constant) -> Constant:
    """`-constant`."""
    values = compact(np.broadcast_to(np.negative(constant.values), constant.shape))
    if isinstance(constant.wording, int | float):
        wording: Wording = -constant.wording
    else:
        wording = word_of(np.broadcast_to(values, constant.shape)) if constant.shape else Word(repr(values))
    return replace(constant, values=values, wording=wording)


def read_matrix(value: object) -> Constant | SparseMatrix:
    """As `read_constant`, except that sparse matrices of scipy and torch stay sparse."""
    return _read_sparse(value) if is_sparse(value) else read_constant(value)


def read_array(value: object) -> tuple[NDArray[Any], float]:
    """Any array, tensor, list or number as a NumPy array of its own dtype, and the spacing of that dtype at 1.

    Floating dtypes that NumPy does not have become float64.
    Errors: `ConstantError` for anything else.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _read_tensor(value)
    if value is None or isinstance(value, str | bytes | dict | set) or not _array_like(value):
        raise ConstantError(f"{_repr_of(value)} is not a number, array or tensor.")
    if isinstance(value, np.ma.MaskedArray):
        raise ConstantError(
            f"{_array_text('masked_array', value)} is masked. Write `.filled(number)` to replace its hidden entries."
        )
    if isinstance(value, list | tuple) and torch is not None:
        value = [_read_tensor(item)[0] if isinstance(item, torch.Tensor) else item for item in value]
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise ConstantError(f"{_repr_of(value)} is not an array of numbers: {error}.") from None
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


def compact(array: NDArray[Any]) -> Any:
    """Cut axes along which an array only repeats (stride 0) to size one; an array of one number becomes that number."""
    if array.size == 0:
        return 0.0
    window = tuple(slice(0, 1) if step == 0 else slice(None) for step in array.strides)
    smallest = array[window]
    return float(smallest.reshape(())) if smallest.size == 1 else smallest


def word_of(array: NDArray[Any]) -> Word:
    """`[1, 2]` for a few numbers, `array(4096, 5)` for many."""
    if array.ndim == 1 and array.size <= _LONGEST_LIST:
        return Word(f"[{', '.join(map(str, array))}]")
    return Word(f"array({', '.join(map(str, array.shape))})")


def _array_like(value: object) -> bool:
    return isinstance(value, Real | list | tuple | range | np.generic) or hasattr(value, "__array__")


def _from_objects(array: NDArray[Any], value: object) -> NDArray[Any]:
    """Read an array of Python objects: fractions and large integers become float64, anything else is refused."""
    if array.size and all(isinstance(item, Real) for item in array.flat):
        try:
            return array.astype(np.float64)
        except OverflowError:
            raise ConstantError(
                "one of the integers in this list is larger than any float64. Divide the rule by it."
            ) from None
    if not array.ndim:
        raise ConstantError(f"{_repr_of(value)} is not a number, array or tensor.")
    raise ConstantError(
        f"{_repr_of(value)} holds values that are not numbers. To join weights write affinet.stack([…]) or "
        f"affinet.concat([…])."
    )


def _read_tensor(tensor: Any) -> tuple[NDArray[Any], float]:
    torch = sys.modules["torch"]
    if tensor.is_meta:
        raise ConstantError("a tensor on the meta device has no numbers. Constants must be given with their values.")
    if tensor.requires_grad:
        raise ConstantError(
            f"a tensor of shape {tuple(tensor.shape)} that requires gradients was given as a constant, and a rule "
            f"would fix it at its present values. For a weight of the model use its symbol from "
            f"affinet.weights(model); for a constant write .detach()."
        )
    if tensor.is_quantized:
        raise ConstantError("a quantized tensor cannot be a constant. Write `.dequantize()`.")
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    if tensor.dtype.is_floating_point:
        epsilon = max(EXACT, float(torch.finfo(tensor.dtype).eps))
        numpy_has_dtype = tensor.dtype in (torch.float16, torch.float32, torch.float64)
        return (tensor if numpy_has_dtype else tensor.float()).numpy(), epsilon
    return tensor.numpy(), EXACT


def _read_sparse(value: Any) -> SparseMatrix:
    import scipy.sparse

    if not scipy.sparse.issparse(value):
        coordinates, epsilon = value.to_sparse_coo().coalesce(), EXACT
        entries, epsilon = _read_tensor(coordinates.values())
        value = scipy.sparse.coo_array((entries, coordinates.indices().cpu().numpy()), shape=tuple(coordinates.shape))
    else:
        epsilon = read_array(value.data[:0] if value.format != "lil" else np.empty(0, value.dtype))[1]
    if value.ndim != 2 or value.dtype.kind not in "biuf":
        raise ConstantError(
            f"{_array_text('sparse', value)} of dtype {value.dtype} must be a real sparse matrix with two axes."
        )
    matrix = scipy.sparse.coo_array(value, dtype=np.float64, copy=True)
    with np.errstate(all="ignore"):
        matrix.sum_duplicates()
    matrix.eliminate_zeros()
    _check_finite(matrix.data, value)
    rows, columns = matrix.coords
    return SparseMatrix(rows, columns, matrix.data, matrix.shape, epsilon, Word(_array_text("sparse", value)))


def _finite_number(value: float, unbounded: float | None = None) -> float:
    try:
        number = float(value)
    except OverflowError:
        raise ConstantError("this integer is larger than any float64. Divide the rule by it.") from None
    if not math.isfinite(number) and number != unbounded:
        if unbounded is not None:
            raise ConstantError(f"{number} cannot be a bound. {_bounds_allowed(unbounded)}")
        raise ConstantError(f"{number} is not finite: right-hand sides and factors of rules must be finite numbers.")
    return number


def _check_finite(values: Floats, source: object, unbounded: float | None = None) -> None:
    with np.errstate(all="ignore"):
        if np.isfinite(values.sum()):
            return
    finite = np.isfinite(values)
    wrong_places = np.argwhere(~(finite if unbounded is None else finite | (values == unbounded)))
    if len(wrong_places):
        first = tuple(int(i) for i in wrong_places[0])
        place = first[0] if len(first) == 1 else first
        fault = "NaN or infinite" if unbounded is None else f"NaN or {-unbounded}"
        entries_text = "entry that is" if len(wrong_places) == 1 else "entries that are"
        raise ConstantError(
            f"{_array_text('array', source)} has {len(wrong_places)} {entries_text} {fault}, "
            f"the first at {place} ({values[first]}). "
            f"{'Constants must be finite.' if unbounded is None else _bounds_allowed(unbounded)}"
        )


def _bounds_allowed(unbounded: float) -> str:
    side = "An upper" if unbounded > 0 else "A lower"
    return f"{side} bound must be a finite number, or {unbounded} where there is no bound."


def _array_text(word: str, value: object) -> str:
    return f"{word}({', '.join(map(str, np.shape(getattr(value, 'shape', ())) and getattr(value, 'shape', ())))})"


def _repr_of(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # integers beyond sys.get_int_max_str_digits()
        text = "…"
    return f"{text[:60]}{'…' if len(text) > 60 else ''} ({type(value).__name__})"
