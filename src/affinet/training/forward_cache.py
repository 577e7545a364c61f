"""Cache values within one forward of a model, and drop them at its end."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class ForwardCache:
    """Caches values from the start of a module's forward to its end, also where the forward raises.

    A cached value is valid only for the same tensors at the same versions, in the same autograd mode: a checkpointed
    part that runs without gradients does not share its values with the forward around it. Outside of the module's own
    forward (a part of the model called by itself, a recomputed checkpoint, tracing) every access computes.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._values: dict[Hashable, tuple[tuple[Any, ...], Any]] = {}
        self._hooks: list[Any] = []
        self._check: Callable[[torch.nn.Module], None] | None = None

    def watch(self, module: torch.nn.Module, check: Callable[[torch.nn.Module], None]) -> None:
        """Follow the forwards of a module; `check` is called with it before each and may raise."""
        self._check = check
        self._hooks = [
            module.register_forward_pre_hook(self._begin),
            module.register_forward_hook(self._end, always_call=True),
        ]

    def close(self) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def cached(self, key: Hashable, numbers: tuple[Tensor | None, ...], compute: Callable[[], T]) -> T:
        """The result of `compute`, which depends on `numbers`; taken from the cache if this forward has computed it."""
        if self._depth == 0 or torch.compiler.is_compiling():
            return compute()
        state = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), *map(_state, numbers))
        entry = self._values.get(key)
        if entry is not None and entry[0] == state:
            value: T = entry[1]
            return value
        value = compute()
        self._values[key] = state, value
        return value

    def _begin(self, module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        if torch.compiler.is_compiling():
            return
        if self._depth == 0:
            self._values.clear()
            if self._check is not None:
                self._check(module)
        self._depth += 1

    def _end(self, module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if torch.compiler.is_compiling():
            return
        self._depth = max(0, self._depth - 1)
        if self._depth == 0:
            self._values.clear()


def _state(x: Tensor | None) -> tuple[int, int]:
    return id(x), 0 if x is None or x.is_inference() else x._version
