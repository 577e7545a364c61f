"""Find the projector of a plan for arrays of a library, and tell whether numba can compile loops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from affinet.analysis.rule_values import Weight
from affinet.errors import AttachError
from affinet.language.opaque import MissingFunction, Opaque
from affinet.language.trees import is_tree

KERNELS = {"torch": "affinet.kernels.torch", "numpy": "affinet.kernels.arrays", "jax": "affinet.kernels.jax"}
"""Array library → module with the functions `projector(plan, like)` and `numbers_of(plan, weights)`.

Kernels depend on plans and are imported by name, so that planning imports no kernel."""


@cache
def numba_installed() -> bool:
    """Whether numba, which compiles the loops of the CPU, is installed."""
    return find_spec("numba") is not None


def projector(plan: Any, like: Any) -> Any:
    """The projector of `plan` for arrays like `like`; raises AttachError for a library without kernels."""
    library = _library(like)
    if library not in KERNELS:
        raise AttachError(
            f"there is no projector for {_description(like, library)}. "
            f"Give a torch.nn.Module, a tree of JAX arrays, or a mapping of names to arrays of "
            f"{' or '.join(sorted(KERNELS))}."
        )
    return import_module(KERNELS[library]).projector(plan, like)


def function_of(
    functions: Mapping[str, Callable[..., Any]], name: str, shapes: tuple[tuple[int, ...], ...], count: int
) -> Opaque:
    """The function of this name, as equations call it; if it was not given, one that raises when it is called."""
    if name not in functions:
        return MissingFunction(name, shapes, count)
    opaque: Opaque = import_module(f"{KERNELS['torch']}.torch_function").TorchFunction(
        functions[name], shapes, count, name
    )
    return opaque


def numbers_of(plan: Any, weights: Any) -> dict[str, Weight]:
    """The numbers of a model, or of a mapping of names to tensors, arrays or lists, as rules are evaluated at them.

    Raises AttachError where a weight of the plan is missing or has another shape.
    """
    library = _library(weights)
    if library not in KERNELS and isinstance(weights, Mapping):
        library, weights = "numpy", {name: np.asarray(weight) for name, weight in weights.items()}
    if library == "numpy":
        weights = {
            name: array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)
            for name, array in weights.items()
        }
    if library not in KERNELS:
        raise AttachError(
            f"weights are a torch.nn.Module, a tree of JAX arrays, or a mapping of names to tensors or arrays, and not "
            f"{type(weights).__name__}."
        )
    numbers: dict[str, Weight] = import_module(KERNELS[library]).numbers_of(plan, weights)
    return numbers


def _library(like: Any) -> str:
    if is_tree(like):
        return "jax"
    sample = next(iter(like.values()), None) if isinstance(like, Mapping) else like
    families = [base.__module__.partition(".")[0].removesuffix("lib") for base in type(sample).__mro__]
    return next((family for family in families if family in KERNELS), families[0])


def _description(like: Any, library: str) -> str:
    """`a mapping of names to list of 'builtins'`, as an error writes what it was given."""
    if not isinstance(like, Mapping):
        return f"{type(like).__name__} of {library!r}"
    if not like:
        return "an empty mapping, which does not tell the array library"
    return f"a mapping of names to {type(next(iter(like.values()))).__name__} of {library!r}"
