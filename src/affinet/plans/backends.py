"""Find the projector of a plan for arrays of a library, and tell whether numba can compile loops."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from affinet.errors import AttachError

KERNELS = {"torch": "affinet.kernels.torch", "numpy": "affinet.kernels.arrays"}
"""Array library → module with a function `projector(plan, like)`.

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
            f"Give a torch.nn.Module, or a mapping of names to arrays of {' or '.join(sorted(KERNELS))}."
        )
    return import_module(KERNELS[library]).projector(plan, like)


def _library(like: Any) -> str:
    sample = next(iter(like.values()), None) if isinstance(like, Mapping) else like
    families = [base.__module__.partition(".")[0] for base in type(sample).__mro__]
    return next((family for family in families if family in KERNELS), families[0])


def _description(like: Any, library: str) -> str:
    """`a mapping of names to list of 'builtins'`, as an error writes what it was given."""
    if not isinstance(like, Mapping):
        return f"{type(like).__name__} of {library!r}"
    if not like:
        return "an empty mapping, which does not tell the array library"
    return f"a mapping of names to {type(next(iter(like.values()))).__name__} of {library!r}"
