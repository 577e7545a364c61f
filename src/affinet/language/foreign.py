"""What NumPy and torch offer on arrays, met on an expression: the same under our name, or an error with the reason."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from affinet.errors import MissingOperationError, NotAffineError, ShapeError

# fmt: off
NOT_AFFINE = frozenset((
    "abs", "absolute", "all", "amax", "amin", "any", "argmax", "argmin", "argsort", "bitwise_and", "bitwise_or",
    "bmm", "ceil", "clamp", "clip", "cos", "cosh", "count_nonzero", "cross", "cumprod", "det", "dot", "einsum",
    "erf", "exp", "exp2", "expm1", "floor", "frac", "inverse", "inv", "isnan", "kron", "log", "log10", "log1p",
    "log2", "logsumexp", "matrix_exp", "matrix_power", "max", "maximum", "median", "min", "minimum", "mode",
    "nansum", "nonzero", "norm", "outer", "pinverse", "pow", "prod", "quantile", "reciprocal", "relu", "round",
    "rsqrt", "sigmoid", "sign", "sin", "sinh", "softmax", "softplus", "sort", "sqrt", "square", "std", "svd", "tan",
    "tanh", "topk", "trunc", "unique", "var", "where",
))
# fmt: on
"""Functions of arrays that no sum of weights times constants can be."""

INSTEAD = {
    "add": "the operator +",
    "allclose": "a rule with ==",
    "broadcast_to": "the expression alone, which broadcasts under ==, + and *",
    "expand": "the expression alone, which broadcasts under ==, + and *",
    "expand_as": "the expression alone, which broadcasts under ==, + and *",
    "hstack": "affinet.concat([...], dim=1)",
    "matmul": "the operator @",
    "movedim": ".permute(...)",
    "mul": "the operator *",
    "multiply": "the operator *",
    "mv": "the operator @",
    "mm": "the operator @",
    "narrow": "slices such as [0:2]",
    "numel": ".size",
    "ravel": ".flatten()",
    "select": "an index such as [0]",
    "split": "slices such as [0:2]",
    "sub": "the operator -",
    "subtract": "the operator -",
    "squeeze": ".reshape(...)",
    "swapaxes": ".transpose(i, j)",
    "t": ".T",
    "unsqueeze": "an index with None, such as [None]",
    "view": ".reshape(...)",
    "vstack": "affinet.concat([...], dim=0)",
}

POSITIONAL = {"cumsum": 1, "flip": 1, "mean": 1, "permute": 1, "reshape": 1, "roll": 2, "sum": 1, "transpose": 2}
"""Functions that NumPy, torch and an expression share, and how many arguments after the array mean the same in all."""

BY_NAME = ("diagonal", "diff", "flatten", "trace", "tril", "triu")
"""Those whose arguments come in another order; with names they mean the same."""

INNER = ("affine", "constant", "epsilon", "terms")
"""What planning reads off an expression, and no operation."""

RENAMED = {"axis": "dim", "axis1": "dim1", "axis2": "dim2", "keepdims": "keepdim", "k": "diagonal", "shifts": "shift"}


def missing(subject: object, name: str, known: Iterable[str]) -> MissingOperationError:
    """The error for an operation that expressions do not have."""
    name = name.removeprefix("linalg_")
    if name in NOT_AFFINE:
        return MissingOperationError(NotAffineError.function(name, subject).message)
    names = sorted(each for each in known if not each.startswith("_") and each not in INNER)
    if name in names:
        return MissingOperationError(
            f"{name} of ({subject}) was given arguments that mean different things in NumPy, torch and affinet. "
            f"Write it as a method, as in ({subject}).{name}(…)."
        )
    fact = f"the expression ({subject}) has no {name!r}."
    if name in INSTEAD:
        return MissingOperationError(f"{fact} Write {INSTEAD[name]} instead.")
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    return MissingOperationError(f"{fact}{meant} There are: {', '.join(names)}.")


def method_of(function: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The method of an expression that means what `function(array, *arguments, **options)` does, with its options.

    None where there is none, or where positional arguments mean different things in NumPy, torch and here.
    """
    most = POSITIONAL.get(function, 0)
    if (function not in POSITIONAL and function not in BY_NAME) or len(arguments) > most:
        return None
    return function, {RENAMED.get(name, name): value for name, value in options.items()}


def check_arguments(
    method: Callable[..., object], subject: object, arguments: Sequence[Any], options: Mapping[str, Any]
) -> None:
    """Raise MissingOperationError where the method does not take what a function of NumPy or torch was given."""
    signature = inspect.signature(method)
    try:
        signature.bind(*arguments, **options)
    except TypeError as error:
        name = method.__name__
        raise MissingOperationError(
            f"{name} of ({subject}) cannot be called so: {error}. As a method it is "
            f"({subject}).{name}({', '.join(signature.parameters)})."
        ) from None


def one_of(dim: Any, axis: Any, function: str) -> Any:
    """`axis` is NumPy's word for `dim`; both at once are one too many."""
    if dim is not None and axis is not None:
        raise ShapeError(f"{function} was given dim={dim!r} and axis={axis!r}, which mean the same; give one of them.")
    return dim if axis is None else axis
