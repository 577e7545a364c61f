"""Translate functions and names of NumPy and torch into methods of expressions, or into an error with the reason."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from affinet.errors import MissingOperationError, NotAffineError, RuleError, ShapeError

# fmt: off
REFUSED = frozenset((
    "abs", "absolute", "all", "amax", "amin", "any", "argmax", "argmin", "argsort", "bitwise_and", "bitwise_or",
    "ceil", "clamp", "clip", "count_nonzero", "cross", "cumprod", "erf", "floor", "floor_divide", "fmax", "fmin",
    "frac", "isnan", "logsumexp", "matrix_exp", "max", "maximum", "median", "min", "minimum", "mod", "mode", "nansum",
    "nonzero", "pinverse", "prod", "quantile", "relu", "remainder", "round", "sign", "softmax", "softplus", "sort",
    "std", "svd", "topk", "trunc", "unique", "var",
))
# fmt: on
"""Functions of arrays that rules cannot have."""

# fmt: off
ALTERNATIVES = {
    "add": "the operator +",
    "add.reduce": ".sum(dim)",
    "addmm": "a sum, C + A @ x",
    "allclose": "a rule with ==",
    "average": "(x * weights).sum(dim) / weights.sum(dim)",
    "array_equal": "a rule with ==",
    "append": "affinet.concat([...])",
    "bmm": "the operator @",
    "cbrt": "(x.log() / 3).exp() for positive x",
    "chunk": "slices such as [0:2]",
    "cosh": "(x.exp() + (-x).exp()) / 2",
    "exp2": "(x * log(2)).exp()",
    "expand_as": ".expand(*other.shape)",
    "expm1": ".exp() - 1",
    "gather": "an index with arrays, such as [[0, 2], [1, 1]]",
    "hstack": "affinet.concat([...], dim=1)",
    "index_select": "an index with an array, such as [[0, 2]]",
    "kron": 'affinet.einsum("ij,kl->ikjl", ...).reshape(...)',
    "linear": "x @ w.T + b",
    "log10": ".log() / log(10)",
    "log1p": "(1 + x).log()",
    "log2": ".log() / log(2)",
    "logdet": ".det().log()",
    "matmul": "the operator @",
    "matrix_power": "the operator @",
    "masked_select": "an index with a mask, such as [mask]",
    "mm": "the operator @",
    "mul": "the operator *",
    "multiply": "the operator *",
    "mv": "the operator @",
    "narrow": "slices such as [0:2]",
    "numel": ".size",
    "pad": "affinet.concat([...]) with constants",
    "rsqrt": "1 / x.sqrt()",
    "select": "an index such as [0]",
    "sigmoid": "1 / (1 + (-x).exp())",
    "sinh": "(x.exp() - (-x).exp()) / 2",
    "split": "slices such as [0:2]",
    "sub": "the operator -",
    "subtract": "the operator -",
    "swapaxes": ".transpose(i, j)",
    "take": "an index with an array, such as [[0, 2]]",
    "tan": "x.sin() / x.cos()",
    "tensordot": 'affinet.einsum("ij,jk->ik", ...)',
    "t": ".T",
    "unbind": "the expression itself, which yields its rows",
    "view": ".reshape(...)",
    "vstack": "affinet.concat([...], dim=0)",
    "where": "mask * x + (1 - mask) * y",
}
# fmt: on
"""Functions and methods of arrays that expressions do not have, and what to write instead."""

OPERATORS = {
    "add": ("__add__", "__radd__"),
    "div": ("__truediv__", "__rtruediv__"),
    "divide": ("__truediv__", "__rtruediv__"),
    "eq": ("__eq__", "__eq__"),
    "equal": ("__eq__", "__eq__"),
    "ge": ("__ge__", "__le__"),
    "greater_equal": ("__ge__", "__le__"),
    "le": ("__le__", "__ge__"),
    "less_equal": ("__le__", "__ge__"),
    "bmm": ("__matmul__", "__rmatmul__"),
    "matmul": ("__matmul__", "__rmatmul__"),
    "mm": ("__matmul__", "__rmatmul__"),
    "mul": ("__mul__", "__rmul__"),
    "multiply": ("__mul__", "__rmul__"),
    "mv": ("__matmul__", "__rmatmul__"),
    "neg": ("__neg__", ""),
    "negative": ("__neg__", ""),
    "positive": ("__pos__", ""),
    "pow": ("__pow__", "__rpow__"),
    "power": ("__pow__", "__rpow__"),
    "sub": ("__sub__", "__rsub__"),
    "subtract": ("__sub__", "__rsub__"),
    "true_divide": ("__truediv__", "__rtruediv__"),
}
"""Functions that are operators: the method of the left operand, and the method of the right operand."""

COMPARISONS = {"greater": ">", "less": "<", "not_equal": "!=", "gt": ">", "lt": "<", "ne": "!="}
"""Comparisons that are not rules."""

SWAPPED = {"greater": "less", "less": "greater", "gt": "lt", "lt": "gt"}
"""The comparison with both sides exchanged, for functions that NumPy calls with the expression on the right."""

SYNONYMS = {
    "broadcast_to": "expand",
    "expand_dims": "unsqueeze",
    "inv": "inverse",
    "moveaxis": "movedim",
    "ravel": "flatten",
    "repeat": "repeat_interleave",
    "swapaxes": "transpose",
    "swapdims": "transpose",
}
"""Methods with the meaning of functions of another name. (`repeat` is NumPy's function: torch has only a method.)"""

POSITIONAL = {
    "cos": 0,
    "cumsum": 1,
    "det": 0,
    "diagonal": 1,
    "exp": 0,
    "expand": 1,
    "flip": 1,
    "inverse": 0,
    "log": 0,
    "mean": 1,
    "movedim": 2,
    "permute": 1,
    "repeat_interleave": 2,
}
POSITIONAL |= {
    "reciprocal": 0,
    "reshape": 1,
    "roll": 2,
    "rot90": 2,
    "sin": 0,
    "sqrt": 0,
    "square": 0,
    "squeeze": 1,
    "sum": 1,
    "tanh": 0,
    "tile": 1,
    "trace": 1,
    "transpose": 2,
    "tril": 1,
    "triu": 1,
}
POSITIONAL |= {"unsqueeze": 1}
"""Functions that NumPy, torch and expressions share, and how many arguments after the array mean the same in all."""

NORMS = ("matrix_norm", "norm", "vector_norm")
"""Norms of NumPy and torch, whose arguments come in various orders."""

BY_KEYWORD = ("diff", "flatten")
"""Functions whose arguments come in another order; by keyword they mean the same."""

INTERNAL = ("affine", "constant", "epsilon", "keys", "terms")
"""Attributes that planning reads, and that errors do not list as operations."""

RENAMED = {"axis1": "dim1", "axis2": "dim2", "keepdims": "keepdim", "size": "shape", "newshape": "shape"}
"""Keywords of NumPy's and torch's functions, and the keywords of the methods that mean the same."""

DEFAULTS = {"trace": {"axis1": 0, "axis2": 1}}
"""Defaults of functions where they differ from the method's. (`np.linalg.trace` has the defaults of the method.)"""

RENAMED_IN = {
    "rot90": {"axes": "dims"},
    "tile": {"reps": "dims"},
    "tril": {"k": "diagonal"},
    "triu": {"k": "diagonal"},
}
"""Keywords as in `RENAMED`, for one function each, since they mean something else in others."""


class UfuncProtocol:
    """The descriptor behind `__array_ufunc__`, whose value differs between a class and its instances.

    NumPy's own functions look on the class and get a function: `array * w` and `np.multiply` then mean the operator,
    and functions that rules cannot have raise our errors. Masked arrays and other libraries look on the instance and
    get None, so that they leave the operator to it.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __get__(self, instance: object, owner: type) -> Callable[..., Any] | None:
        return self._function if instance is None else None


def not_a_rule(subject: object, operator: str) -> RuleError:
    """The error for a comparison that makes no rule."""
    if operator == "!=":
        return RuleError(f"({subject}) != … is not a rule: rules are written with `==`, `<=` or `>=`.")
    return RuleError(
        f"({subject}) {operator} … is not a rule: among the weights of a strict inequality there is no nearest point. "
        f"Write `{operator}=`."
    )


def missing(subject: object, name: str, attributes: Iterable[str], hint: str = "") -> MissingOperationError:
    """The error for an operation that expressions do not have; the hint says what is meant, where that is certain."""
    name = function_of(name)
    if name in REFUSED:
        return MissingOperationError(NotAffineError.function(name, subject).message)
    names = sorted(attribute for attribute in attributes if not attribute.startswith("_") and attribute not in INTERNAL)
    if name in names:
        return MissingOperationError(
            f"{name} of ({subject}) has arguments that mean different things in NumPy, torch and affinet. "
            f"Write it as a method, as in ({subject}).{name}(…)."
        )
    fact = f"the expression ({subject}) has no {name!r}."
    if hint:
        return MissingOperationError(f"{fact}{hint}")
    if name in ALTERNATIVES:
        return MissingOperationError(f"{fact} Write {ALTERNATIVES[name]} instead.")
    matches = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    hint = f" Did you mean {matches[0]!r}?" if matches else ""
    return MissingOperationError(f"{fact}{hint} It has: {', '.join(names)}.")


def method_of(function: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The name of the method that does what `function(array, *arguments, **options)` does, and the method's options.

    None where there is no such method, or where positional arguments differ between NumPy, torch and affinet.
    """
    name = SYNONYMS.get(function, function)
    if (name not in POSITIONAL and name not in BY_KEYWORD) or len(arguments) > POSITIONAL.get(name, 0):
        return None
    keyword_names = RENAMED | RENAMED_IN.get(name, {})
    return name, {keyword_names.get(option, option): value for option, value in options.items()}


def norm_options(
    function: str, subject: object, axes: int, arguments: Sequence[Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of the method `norm` that do what a norm of NumPy or torch does with these arguments.

    Orders that make the norm of an array of `axes` axes anything but a Euclidean length are passed on, and the method
    refuses them: for a matrix `np.linalg.norm(w, 2)` is the largest singular value, and `torch.norm(w, 2)` is not.
    """
    names = RENAMED | {"axis": "dim", "ord": "p"}
    renamed = dict(zip(("p", "dim", "keepdim"), arguments, strict=False))
    renamed |= {names.get(option, option): value for option, value in options.items()}
    remaining = {option: value for option, value in renamed.items() if value is not None}
    if function == "linalg_matrix_norm":
        remaining.setdefault("dim", (-2, -1))
    dim = remaining.get("dim")
    of_vectors = function in ("norm", "linalg_vector_norm") or isinstance(dim, int) or (dim is None and axes == 1)
    if remaining.get("p") == 2 and not of_vectors:
        raise NotAffineError.function("the spectral norm", subject)
    return remaining


def function_of(name: str) -> str:
    """The plain name of a function of NumPy or torch: `linalg_norm` is `norm`, `__eq__` is `eq`."""
    plain_name = name[2:-2] if name.startswith("__") and name.endswith("__") else name
    return plain_name.removeprefix("linalg_")


def check_arguments(
    method: Callable[..., object], subject: object, arguments: Sequence[Any], options: Mapping[str, Any]
) -> None:
    """Raise MissingOperationError where the method does not take the arguments of the NumPy or torch function."""
    signature = inspect.signature(method)
    try:
        signature.bind(*arguments, **options)
    except TypeError as error:
        name = method.__name__
        raise MissingOperationError(
            f"{name} of ({subject}) cannot be called with these arguments: {error}. Write it as "
            f"({subject}).{name}({', '.join(signature.parameters)})."
        ) from None


def pick_synonym(function: str, **words: Any) -> Any:
    """The value of the one keyword that is not None, of several that mean the same; None where all are None.

    Errors: `ShapeError` where two or more are given.
    """
    values = {word: value for word, value in words.items() if value is not None}
    if len(values) > 1:
        shown = " and ".join(f"{word}={value!r}" for word, value in values.items())
        raise ShapeError(f"{function} got {shown}, which mean the same. Give only one of them.")
    return next(iter(values.values()), None)


def unpack_dims(dims: Sequence[int | Sequence[int]]) -> Sequence[object]:
    """The axes of a call `f(1, 2)` or `f((1, 2))`, which mean the same."""
    return dims[0] if len(dims) == 1 and isinstance(dims[0], Sequence) else dims
